"""`lisrt ps` and `lisrt gc`: who has sandboxes on this host, and what the dead have left, in whichever place."""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Cli
from support.procs import _read, assert_gone, assert_lives, helpers, init_of, parent, pids
from support.waiting import eventually
from test_hostile_hosts import host

pytestmark = pytest.mark.usefixtures("working_host")


@pytest.fixture
def cli(tmp_path: Path, scratch: Path) -> Iterator[Cli]:
    """`lisrt` that finds no scratch place but the tests' own, as far as settings and the environment go."""
    made = Cli(tmp_path, scratch, {"TMPDIR": "", "SLURM_TMPDIR": ""})
    yield made
    made.assert_clean()


def ps(cli: Cli, *options: str, below: Path | None = None) -> list[dict[str, Any]]:
    """The owners in the test's own scratch place; this user may have others, on this host."""
    done = cli("ps", "--json", *options)
    assert (done.returncode, done.stderr) == (0, "")
    return [owner for owner in json.loads(done.stdout) if owner["scratch"].startswith(f"{below or cli.scratch}/")]


def gc(cli: Cli, *options: str, status: int = 0, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    """What `lisrt gc --json` says of the test's own scratch place."""
    done = cli("gc", "--json", *options, prefix=prefix)
    assert (done.returncode, done.stderr) == (status, ""), done
    said: dict[str, Any] = json.loads(done.stdout)
    return {key: [one for one in said[key] if one["path"].startswith(str(cli.cwd))] for key in ("removed", "kept")}


@contextlib.contextmanager
def holding(cli: Cli, marker: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program with a sandbox in which 3 MB are written and `sleep MARKER` runs."""
    script = f"head -c 3000000 /dev/zero > big; ln big also; exec sleep {marker}"
    with cli.started("exec", "--", "sh", "-c", script) as process:
        assert_lives(marker)
        yield process


def badly_killed(cli: Cli, marker: str) -> str:
    """The path of what stays when a program and its spawner are killed together."""
    cli.killed = True
    with holding(cli, marker) as process:
        spawner = parent(init_of(assert_lives(marker)))
        process.send_signal(signal.SIGSTOP)
        os.kill(spawner, signal.SIGKILL)
        process.kill()
        process.wait(timeout=20)
    assert_gone(marker)
    [left] = cli.owners()
    return str(cli.scratch / left)


def fake(cli: Cli, name: str, **facts: object) -> Path:
    """An owner directory as one that died would leave it, with what overlayfs leaves in it."""
    base = cli.scratch / f"lisrt-{os.geteuid()}"
    owner = base / name
    for part in ("b0123456789abcdef/u/d", "b0123456789abcdef/w/work/incompat/volatile"):
        (owner / part).mkdir(parents=True)
    (owner / "b0123456789abcdef/u/d/file").write_text("x")
    (owner / "b0123456789abcdef/u/d").chmod(0o500)
    (owner / "b0123456789abcdef/w/work").chmod(0)
    base.chmod(0o700)
    record = {
        "pid": 1, "start": 1, "pid_namespace": os.stat("/proc/self/ns/pid").st_ino, "boot": "another-boot",
        "host": os.uname().nodename, "uid": os.geteuid(), "program": "train.py", "launcher": "native", "started": 1,
    }  # fmt: skip
    lines = ["lisrt-owner 1", *(f"{key} {value}" for key, value in {**record, **facts}.items())]
    (owner / "owner").write_text("\n".join(lines) + "\n")
    return owner


def this_boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_of(pid: int) -> int:
    """Clock ticks since boot."""
    return int(_read(pid, "stat").rpartition(b")")[2].split()[19])


def test_nobody(cli: Cli) -> None:
    """No owner: a heading and nothing else; an empty list for machines; and nothing is made by looking."""
    done = cli("ps")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["PID", "PROGRAM", "STATE", "STARTED", "LAUNCHER", "SANDBOXES", "SCRATCH"]
    assert ps(cli) == []
    assert os.listdir(cli.scratch) == []


def test_the_sandboxes_of_other_programs(cli: Cli, marker: str) -> None:
    """Found from outside: the program, its spawner, and of each sandbox PID 1, processes, memory, age and disk."""
    with holding(cli, marker) as first, holding(cli, marker + "7") as second:
        owners = {owner["pid"]: owner for owner in ps(cli, "--disk")}
        assert set(owners) == {first.pid, second.pid}
        for process, mark in ((first, marker), (second, marker + "7")):
            init = init_of(assert_lives(mark))
            owner = owners[process.pid]
            assert (owner["state"], owner["program"], owner["launcher"], owner["living"]) == ("alive", "lisrt", "native", 1)
            assert owner["spawner"] == parent(init)
            [box] = owner["sandboxes"]
            assert (box["pid"], box["processes"], box["image"]) == (init, 2, "host")
            assert box["memory"] > 100_000 and 0 <= box["age"] < 60
            assert 3_000_000 <= box["disk"]["bytes"] < 3_300_000, "a file with two names counts once"
            assert box["disk"]["whole"]
        text = cli("ps", "-v", "--disk").stdout
        [line] = [line for line in text.splitlines() if line.startswith(f"{first.pid} ")]
        assert re.search(r" lisrt +alive +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +native +1 +/", line), line
        assert f"PID 1 is {owners[first.pid]['sandboxes'][0]['pid']}  2 processes" in text
        assert gc(cli) == {"removed": [], "kept": []}
        assert len(ps(cli)) == 2


def test_arguments_stay_out_of_records(cli: Cli, marker: str) -> None:
    """A record has the program's name, and nothing of what it was started with: that may hold keys."""
    with cli.started("exec", "--env", "KEY=secret-5", "--", "sh", "-c", f"sleep {marker}; : secret-6"):
        assert_lives(marker)
        [owner] = cli.owners()
        record = cli.scratch / owner / "owner"
        assert "program lisrt\n" in record.read_text()
        assert "secret" not in record.read_text() and "sleep" not in record.read_text()
        assert record.stat().st_mode & 0o777 == 0o600


def test_a_program_inside_can_not_pass_for_a_pid_1(cli: Cli, marker: str) -> None:
    """It may take the name of one; its sandbox is counted once, with the right PID 1."""
    take = "import ctypes, os; ctypes.CDLL(None).prctl(15, b'lisrt-init', 0, 0, 0); print('taken', flush=True); os.read(0, 1)"
    with holding(cli, marker):
        init = init_of(assert_lives(marker))
    with cli.started("exec", "--", "python3", "-c", take, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"taken\n"
        named = [pid for pid in pids() if _read(pid, "comm") == b"lisrt-init\n" and pid in helpers(cli.scratch)]
        assert len(named) == 2 and init not in named
        [owner] = [owner for owner in ps(cli) if owner["pid"] == process.pid]
        [box] = owner["sandboxes"]
        assert (box["pid"], box["processes"]) == (min(named, key=start_of), 2)


def test_the_dead_are_shown_and_removed(cli: Cli, marker: str) -> None:
    """`ps` says dead, and what to do; a dry run does nothing; gc removes; nothing is left to show."""
    path = badly_killed(cli, marker)
    [owner] = ps(cli)
    assert (owner["state"], owner["scratch"], owner["living"], owner["spawner"]) == ("dead", path, 0, None)
    assert [box["pid"] for box in owner["sandboxes"]] == [None]
    plain = cli("ps", "-v")
    assert " dead " in plain.stdout and "  ended" in plain.stdout and "lisrt gc" in plain.stderr
    assert [one["path"] for one in gc(cli, "--dry-run")["removed"]] == [path]
    assert cli("gc", "-n").stdout.startswith("1 directory would be removed from ")
    assert os.path.isdir(path)
    [one] = gc(cli)["removed"]
    assert (one["path"], one["pid"], one["program"]) == (path, owner["pid"], "lisrt")
    assert ps(cli) == [] and not os.path.exists(path)


def test_gc_ends_a_spawner_that_can_not_end_itself(cli: Cli, marker: str) -> None:
    """Stopped, it outlived its program, though its sandboxes did not: shown as dead, ended by gc, removed."""
    cli.killed = True
    with holding(cli, marker) as process:
        spawner = parent(init_of(assert_lives(marker)))
        os.kill(spawner, signal.SIGSTOP)
        process.kill()
        process.wait(timeout=20)
        assert_gone(marker)
        [owner] = ps(cli)
        assert (owner["state"], owner["spawner"], owner["living"]) == ("dead", spawner, 0)
        assert len(gc(cli, "--dry-run")["removed"]) == 1
        assert spawner in helpers(cli.scratch)
        assert len(gc(cli)["removed"]) == 1
        assert spawner not in helpers(cli.scratch)
    assert cli.owners() == []


def test_gc_finds_places_that_the_settings_no_longer_name(cli: Cli, marker: str, tmp_path: Path) -> None:
    """What a run with another scratch place left is found by a program that knows nothing of that place."""
    path = badly_killed(cli, marker)
    (tmp_path / "other").mkdir()
    other = Cli(tmp_path, tmp_path / "other", cli.env)
    assert [owner["scratch"] for owner in ps(other, below=cli.scratch)] == [path]
    assert [one["path"] for one in gc(other)["removed"]] == [path]
    assert not os.path.exists(path)


@pytest.mark.parametrize("by", ["start", "gc", "gc without namespaces"])
def test_after_a_reboot(cli: Cli, by: str) -> None:
    """What another boot left is removed, directories of mode 000 included; also where sandboxes can't be made any more."""
    owners = [fake(cli, f"1-{number}") for number in range(3)]
    (owners[1] / "owner").write_bytes(b"\0" * 50)  # written, but not yet on the disk when the power went
    (owners[2] / "owner").unlink()
    assert [(owner["state"], owner["program"]) for owner in ps(cli)] == [("dead", "train.py"), ("dead", None), ("dead", None)]
    if by == "start":
        assert cli("exec", "--", "true").returncode == 0
        eventually(lambda: cli("ps", "--json") and not cli.owners(), within=20, what="the removal")
    else:
        prefix = host("echo 0 >/proc/sys/user/max_user_namespaces") if "without" in by else ()
        assert len(gc(cli, prefix=prefix)["removed"]) == 3
        assert cli.owners() == []


def test_a_pid_that_is_somebody_elses_now(cli: Cli) -> None:
    """The pid lives, but was started later: dead. The lock protects it all the same until it is free."""
    owner = fake(cli, "1-reused", pid=os.getpid(), start=start_of(os.getpid()) - 1, boot=this_boot())
    fd = os.open(owner, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert [one["state"] for one in ps(cli)] == ["dead"]
        [kept] = gc(cli, status=1)["kept"]
        assert kept["path"] == str(owner) and "lock" in kept["why"]
        assert (owner / "owner").exists()
    finally:
        os.close(fd)
    assert len(gc(cli)["removed"]) == 1


@pytest.mark.parametrize("facts", [{"start": 0}, {"pid_namespace": 1}, {"boot": "another"}, {"start": None}])
def test_a_lock_that_is_held_means_alive_unless_it_is_known_better(cli: Cli, facts: dict[str, object]) -> None:
    """The pid of another pid namespace or boot proves nothing, nor does one whose start nobody noted; our own lives."""
    mine = {"pid": 2**22 + 1 if facts != {"start": None} else os.getpid(), "start": 1, "boot": this_boot(), **facts}
    mine["start"] = start_of(os.getpid()) if mine["start"] is None else mine["start"]
    owner = fake(cli, "1-held", **mine)
    fd = os.open(owner, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert [one["state"] for one in ps(cli)] == ["alive"]
        assert gc(cli) == {"removed": [], "kept": []}
    finally:
        os.close(fd)
    assert len(gc(cli)["removed"]) == 1


SHARED = """
mount -t ramfs none "$LISRT_SCRATCH"; base=$LISRT_SCRATCH/lisrt-$(id -u); mkdir -m 700 "$base"
for name in foreign here; do mkdir -m 700 "$base/$name"; done
facts="pid 1\nstart 1\npid_namespace 1\nboot another\nuid 1\nprogram train.py\nlauncher native\nstarted 1"
printf "lisrt-owner 1\n$facts\nhost far-away\n" > "$base/foreign/owner"
printf "lisrt-owner 1\n$facts\nhost $(uname -n)\n" > "$base/here/owner"
"""


def test_other_hosts_on_a_shared_file_system(cli: Cli) -> None:
    """There a free lock proves nothing of another host's programs: they stay, unless that is asked for by name."""
    if os.uname().nodename.startswith("localhost"):
        pytest.skip("this host has a name that many have")
    prefix = host(SHARED)
    said = gc(cli, prefix=prefix)
    assert [Path(one["path"]).name for one in said["removed"]] == ["here"]
    [kept] = said["kept"]
    assert Path(kept["path"]).name == "foreign" and "far-away" in kept["why"] and "--all-hosts" in kept["why"]
    assert "on far-away?" in cli("ps", prefix=prefix).stdout
    assert len(gc(cli, "--all-hosts", prefix=prefix)["removed"]) == 2


def test_a_link_in_a_base_is_nobodys(cli: Cli, tmp_path: Path) -> None:
    """Neither shown nor followed nor removed."""
    (tmp_path / "precious").mkdir()
    base = cli.scratch / f"lisrt-{os.geteuid()}"
    base.mkdir(mode=0o700)
    (base / "1-link").symlink_to(tmp_path / "precious")
    assert ps(cli) == [] and gc(cli) == {"removed": [], "kept": []}
    assert (tmp_path / "precious").is_dir()
    (base / "1-link").unlink()


def test_images_by_name(cli: Cli) -> None:
    """Of the store, by its name; a snapshot as such."""
    program = """
import sys
from lisrt import Sandbox
with Sandbox() as box, box.fork() as twin:
    twin.write("f", "f")
    twin.snapshot("kept")
    with Sandbox("kept") as other:
        print(box.id, other.id, flush=True)
        sys.stdin.read()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=cli.environment()
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        box, other = process.stdout.readline().split()
        [owner] = ps(cli)
        images = {one["id"]: one["image"] for one in owner["sandboxes"]}
        assert (images[box], images[other]) == ("a snapshot", "kept")
        process.stdin.close()
