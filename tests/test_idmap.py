"""idmap="subuid": users that are real, by the subordinate ids that an administrator has given. CI gives some to its user for
these tests alone (LISRT_TEST_IDMAP); everybody else's run has no such ids, and sees what is said then."""

import json
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Cli
from support.waiting import eventually

from lisrt import HostError, ImageError, Limits, Sandbox, idmap, spawner

GIVEN = os.environ.get("LISRT_TEST_IDMAP") == "subuid"
with_ids = (lambda test: test) if GIVEN else pytest.mark.skip(reason="no subordinate ids are wanted in this run")


@pytest.fixture
def box(working_host: None) -> Iterator[Sandbox]:
    with Sandbox(idmap="subuid") as made:
        yield made


@with_ids
def test_ids_are_real(box: Sandbox) -> None:
    """chown is seen, setuid changes what may be read, and there is no way back."""
    box.sh("mkdir /data; echo secret > /data/mine; chown -R 1000:100 /data; chmod 700 /data").check()
    assert box.sh("stat -c %u:%g:%a /data /data/mine").stdout == "1000:100:700\n1000:100:644\n"
    drop = "import os; os.setgroups([]); os.setgid({0}); os.setuid({0}); {1}"
    read = "print(open('/data/mine').read().strip())"
    assert box.run(["python3", "-c", drop.format(1000, read)]).stdout == "secret\n"
    assert "Permission denied" in box.run(["python3", "-c", drop.format(1001, read)]).stderr
    assert "Operation not permitted" in box.run(["python3", "-c", drop.format(1001, "os.setuid(0)")]).stderr
    assert "Operation not permitted" in box.run(["python3", "-c", drop.format(1001, "os.chown('/data', 0, 0)")]).stderr


@with_ids
def test_what_root_has(box: Sandbox) -> None:
    """Power over the sandbox's own files, processes and ids; no more, and none to gain."""
    held = box.sh("grep ^Cap /proc/self/status").stdout.split()
    numbers = dict(zip(held[::2], (int(number, 16) for number in held[1::2]), strict=True))
    own = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7))  # chown, dac_override, fowner, fsetid, kill, setgid, setuid
    assert numbers == {"CapInh:": 0, "CapPrm:": own, "CapEff:": own, "CapBnd:": own, "CapAmb:": 0}
    tries = ("mount -t tmpfs none /mnt", "unshare -U true", "hostname x", "mknod /tmp/x b 8 0; test -e /tmp/x",
             "cat /proc/1/environ", "ls -l /proc/1/fd/3", "kill -9 1; kill -STOP 1; ls -d /proc/1/nothing")  # fmt: skip
    for script in tries:
        assert not box.sh(script).ok, script
    assert box.sh("grep Seccomp: /proc/self/status; grep NoNewPrivs /proc/self/status").stdout.split() == [
        *("Seccomp:", "2", "NoNewPrivs:", "1")
    ]
    assert box.alive and "subordinate ids" in box.guarantees["privileges"]


@with_ids
def test_a_user_by_name(working_host: None, tmp_path: Path) -> None:
    """Commands are that user, what is uploaded is its own, and root's files stay root's."""
    (tmp_path / "file").write_text("x")
    with Sandbox(idmap="subuid", user=1000) as box:
        assert box.sh("id -u; id -g; id -G; touch here; stat -c %u here .").stdout == "1000\n1000\n1000\n1000\n1000\n"
        box.write("written", "x")
        box.upload(str(tmp_path), "tree")
        assert box.sh("stat -c %u written tree tree/file").stdout == "1000\n1000\n1000\n"
        assert box.sh("grep CapEff /proc/self/status").stdout.split()[1] == "0" * 16
        with pytest.raises(PermissionError):
            box.write("/usr-is-not-yours", "x")
        assert not box.sh("echo > /etc/passwd").ok


@with_ids
@pytest.mark.parametrize("user", [0, 1000])
def test_the_tree_of_a_command_dies_whoever_it_has_become(working_host: None, user: int) -> None:
    """At the time limit, and with the sandbox: also those that have gone over to others."""
    become = "import os, time; os.setsid(); os.getuid() or os.setuid(1234); print('up', flush=True); time.sleep(1000)"
    with Sandbox(idmap="subuid", user=user) as box:
        result = box.sh(f'python3 -c "{become}" & python3 -c "{become}"', timeout=2)
        assert (result.outcome, result.stdout) == ("timed_out", "up\nup\n")
        assert box.sh("ls /proc | grep -c '^[0-9]'").stdout == "4\n"  # PID 1, sh, ls and grep


@with_ids
def test_limits_hold_for_all_of_them(working_host: None) -> None:
    """Memory and disk are the sandbox's, whichever of its users takes it."""
    limits = Limits(memory="100MiB", disk="32MiB")
    with Sandbox(idmap="subuid", limits=limits) as box:
        eat = "import os; os.setuid(1000)\nx = []\nwhile True: x.append(bytearray(1 << 20))"
        result = box.run(["python3", "-c", eat], timeout=50)
        assert (result.outcome, result.exhausted) == ("out_of_memory", ("memory",))
        box.sh("mkdir -m 700 /d; chown 1000 /d").check()
        fill = "import os; os.setuid(1000)\nfor n in range(1000): open(f'/d/{n}', 'wb').write(bytes(1 << 20))"
        result = box.run(["python3", "-c", fill], timeout=50)
        assert (result.exhausted, box.alive) == (("disk",), True)
        assert "FOR EACH" in box.guarantees["pids"] or "control group" in box.guarantees["pids"]


@with_ids
def test_snapshots_and_forks_keep_owners(box: Sandbox) -> None:
    """They are mounts of the same files."""
    box.sh("mkdir -m 700 /d; echo 1 > /d/f; chown -R 1000:1000 /d").check()
    before = box.snapshot()
    with box.fork() as twin, Sandbox(before, idmap="subuid") as other:
        for one in (box, twin, other):
            assert one.sh("stat -c %u:%a /d; cat /d/f").stdout == "1000:700\n1\n"
    with pytest.raises(ImageError, match="made with idmap='subuid'"):
        Sandbox(before)


@with_ids
def test_a_root_directory_that_was_given_away(box: Sandbox) -> None:
    """Snapshots and forks of it, and its end."""
    box.sh("echo 1 > /f; chown 1000:1000 /; chmod 700 /").check()
    box.snapshot()
    with box.fork() as twin:
        assert twin.sh("cat /f").stdout == "1\n"


@with_ids
def test_segments_of_other_users_go_with_their_programs(working_host: None) -> None:
    """System V shared memory lives without a process, and may be another user's: it must not fill the sandbox for good."""
    make = """if True:
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        libc.shmat.restype = ctypes.c_void_p
        os.setresuid(1234, 1234, 1234)
        at = libc.shmat(libc.shmget(0, 40 << 20, 0o1600), None, 0)
        ctypes.memset(at, 1, 40 << 20)
    """
    eat = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    with Sandbox(idmap="subuid", limits=Limits(memory="100MiB", enforce="watchdog")) as box:
        box.run(["python3", "-c", make]).check()
        assert len(box.read_text("/proc/sysvipc/shm").splitlines()) == 2
        assert box.run(["python3", "-c", eat]).outcome == "out_of_memory"
        assert len(box.read_text("/proc/sysvipc/shm").splitlines()) == 1
        assert box.sh("id -u; grep ^Cap /proc/self/status | sort -u | wc -l").stdout.split()[0] == "0"


@with_ids
def test_only_the_default_workdir_is_given(working_host: None) -> None:
    """A directory of the image stays what it is; a uid that there is not is refused."""
    with Sandbox(idmap="subuid", user=1000, workdir="/etc") as box:
        assert box.sh("stat -c %u . /testbed").stdout == "0\n0\n"
    with pytest.raises(ValueError, match="beyond the 65536 users'"):
        Sandbox(idmap="subuid", user=65537)


@with_ids
def test_what_can_not_be_read_from_outside(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told; the sandbox goes on. What everybody may read is kept, as root's."""
    monkeypatch.setenv("LISRT_HOME", str(tmp_path / "home"))
    box.sh("mkdir /d; echo 1 > /d/f; chown -R 1000:1000 /d").check()
    box.snapshot("kept")
    with Sandbox("kept") as other:
        assert other.sh("stat -c %u /d/f; cat /d/f").stdout == "0\n1\n"
    box.sh("chmod 700 /d").check()
    for look in (box.diff, lambda: box.snapshot("kept")):
        with pytest.raises(ImageError, match="only another user of the sandbox may read"):
            look()
    assert box.sh("cat /d/f").stdout == "1\n"


@with_ids
def test_nothing_stays(tmp_path: Path, scratch: Path, working_host: None) -> None:
    """What other ids own is deleted with the sandbox, and by `lisrt gc` after a SIGKILL of the program and its spawner."""
    with Sandbox(idmap="subuid") as box:
        box.sh("mkdir -m 700 /d; echo 1 > /d/f; chown -R 1000:1000 /d").check()
        place = next(Path(spawner.current("auto", "subuid").scratch).glob(f"{box.id}*"))
    eventually(lambda: not place.exists())
    cli = Cli(tmp_path, scratch)
    script = "mkdir -m 700 /d; echo 1 > /d/f; chown -R 1000:1000 /d; echo up; sleep 1000"
    command = cli.command("exec", "--idmap", "subuid", "--", "sh", "-c", script)
    process = subprocess.Popen(command, cwd=tmp_path, env=cli.environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as stdout:
        assert stdout.readline() == "up\n"
    [owner] = scratch.glob("lisrt-*/[0-9]*")
    pid = json.loads(cli("ps", "--json").stdout)[0]["spawner"]
    process.send_signal(signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert cli("exec", "--", "true").returncode == 0  # whose trash process has no power over it, and must not make it worse
    assert (owner / "owner").exists()
    done = cli("gc")
    assert (done.returncode, done.stderr) == (0, "")
    assert not owner.exists()


@with_ids
def test_two_kinds_in_one_program(working_host: None) -> None:
    """Each has a spawner of its own."""
    with Sandbox() as one, Sandbox(idmap="subuid") as other:
        script = "touch f; chown 1000 f; stat -c %u f"
        assert (one.sh(script).stdout, other.sh(script).stdout) == ("0\n", "1000\n")


def test_without_ids(working_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none: what an administrator has to do; nothing else is done instead."""
    monkeypatch.setattr(idmap, "ranges", lambda _file: iter(()))
    monkeypatch.setattr(spawner, "_current", {})
    with pytest.raises(HostError, match=f"add-subuids .* {pwd.getpwuid(os.geteuid()).pw_name}") as caught:
        Sandbox(idmap="subuid", launcher="native")
    assert caught.value.check == "id-ranges"


def test_what_the_doctor_says(tmp_path: Path, scratch: Path) -> None:
    """It tries the tools; nobody fails for want of them."""
    rows = json.loads(Cli(tmp_path, scratch)("doctor", "--json").stdout)["rows"]
    [row] = [row for row in rows if row["name"] == "id-ranges"]
    assert row["status"] == ("pass" if GIVEN else "note"), row["found"]


@pytest.mark.parametrize(("value", "said"), [("auto", "single, subuid"), ("", "single, subuid")])
def test_a_word_that_is_none(value: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sandbox(idmap=value)


def test_bubblewrap_maps_one_id() -> None:
    with pytest.raises(HostError, match="bubblewrap maps one id"):
        Sandbox(idmap="subuid", launcher="bwrap")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{name}:100000:65536\n", [(100000, 65536)]),
        ("other:1:2\n{uid}:5:1000\n{name}:7:2000\n", [(5, 1000), (7, 2000)]),
        ("{name}:x:2\n{name}\n\n{name}:1\n{name}:4294967000:65536\n", []),
    ],
)
def test_ranges_as_they_are_written(monkeypatch: pytest.MonkeyPatch, text: str, found: list[tuple[int, int]]) -> None:
    """By name or by number; what makes no sense is nothing."""
    text = text.format(name=pwd.getpwuid(os.geteuid()).pw_name, uid=os.geteuid())
    monkeypatch.setattr(Path, "read_text", lambda _path, **_options: text)
    assert list(idmap.ranges("subuid")) == found


def tool(path: Path, status: int) -> str:
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("status", [1, 0])
def test_tools_that_refuse(
    tmp_path: Path, working_host: None, monkeypatch: pytest.MonkeyPatch, status: int, unprivileged: None
) -> None:
    """Or that do nothing: told, not waited for."""
    ranges = idmap.Range(100000, 65536)
    made = idmap.Ranges(tool(tmp_path / "u", status), tool(tmp_path / "g", status), ranges, ranges)
    monkeypatch.setattr(idmap, "find", lambda: made)
    monkeypatch.setattr(spawner, "_current", {})
    with pytest.raises(HostError, match="could not map subordinate ids"):
        Sandbox(idmap="subuid", launcher="native")


