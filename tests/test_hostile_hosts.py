"""Hosts that forbid what lisrt needs: the message names the cause and the fix, doctor the same row, and nothing stays.

Each host is made by an ordinary user in a user namespace of its own: limits lowered there, file systems mounted there,
and every power given up again before lisrt is started.
"""

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Cli
from support.fresh import python
from support.hosts import host
from support.procs import assert_gone

pytestmark = pytest.mark.usefixtures("working_host")


@pytest.fixture(scope="module", autouse=True)
def can_be_simulated(working_host: None) -> None:
    """unshare, setpriv and the right to nest."""
    done = subprocess.run([*host("true"), "true"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"can't make an outer user namespace here: {done.stderr}")


@pytest.fixture
def cli(tmp_path: Path, scratch: Path) -> Iterator[Cli]:
    """`lisrt`; afterwards nothing of it is left."""
    made = Cli(tmp_path, scratch)
    yield made
    made.assert_clean()


@dataclasses.dataclass(frozen=True)
class Host:
    """What is wrong with it, and what a person must be told."""

    setup: str
    row: str
    says: tuple[str, ...]
    as_root: bool = False


HOSTS = {
    "no user namespaces": Host("echo 0 >/proc/sys/user/max_user_namespaces", "user-namespaces", ("user.max_user_namespaces",)),
    "no mount namespaces": Host("echo 0 >/proc/sys/user/max_mnt_namespaces", "user-namespaces", ("user.max_",)),
    "no pid namespaces": Host("echo 0 >/proc/sys/user/max_pid_namespaces", "user-namespaces", ("user.max_",)),
    "no ipc namespaces": Host("echo 0 >/proc/sys/user/max_ipc_namespaces", "user-namespaces", ("user.max_",)),
    "no cgroup namespaces": Host("echo 0 >/proc/sys/user/max_cgroup_namespaces", "user-namespaces", ("user.max_",)),
    "one user namespace": Host("echo 1 >/proc/sys/user/max_user_namespaces", "user-namespaces", ("user.max_user_namespaces",)),
    "no network namespaces": Host(
        "echo 0 >/proc/sys/user/max_net_namespaces", "network-namespace", ("user.max_net_namespaces", 'network="host"')
    ),
    "a masked proc": Host("mount -t tmpfs none /proc/sys", "proc", ("masked", "unmask=ALL")),
    "root without powers": Host("true", "user-namespaces", ("CAP_SETFCAP", "another user"), as_root=True),
    "two processes": Host("ulimit -u 2", "processes", ("ulimit -u",)),
    "ten open files": Host("ulimit -n 12", "descriptors", ("ulimit -n",)),
    "small files": Host("ulimit -f 10", "helper", ("ulimit -f",)),
    "little resident memory": Host("ulimit -m 1000000", "processes", ("ulimit -m",)),
    "a read-only scratch place": Host('mount -t tmpfs -o ro none "$LISRT_SCRATCH"', "scratch", ("Read-only", "LISRT_SCRATCH")),
    "a full scratch place": Host('mount -t tmpfs -o size=40k none "$LISRT_SCRATCH"', "scratch", ("No space", "LISRT_SCRATCH")),
    "a scratch place without user attributes": Host(
        'mount -t ramfs none "$LISRT_SCRATCH"; chmod 700 "$LISRT_SCRATCH"', "scratch", ("LISRT_SCRATCH",)
    ),
}


@pytest.mark.parametrize("name", HOSTS)
def test_the_cause_and_the_fix_are_named(cli: Cli, name: str) -> None:
    """125 from exec, with a message that says what to change; doctor fails the same row with the same fix."""
    bad = HOSTS[name]
    prefix = host(bad.setup, as_root=bad.as_root)
    done = cli("exec", "--", "echo", "ran", prefix=prefix)
    assert (done.returncode, done.stdout) == (125, ""), done.stderr
    for words in bad.says:
        assert words in done.stderr
    assert done.stderr.count("\n") == 1, "one message, and no stray ones"
    examined = cli("doctor", "--json", prefix=prefix)
    assert examined.returncode == 1, examined.stdout
    rows = {row["name"]: row for row in json.loads(examined.stdout)["rows"]}
    assert rows[bad.row]["status"] == "fail", rows
    assert any(words in rows[bad.row]["fix"] for words in bad.says), rows[bad.row]


def test_without_network_namespaces_the_hosts_network_can_be_asked_for(cli: Cli) -> None:
    """What the message proposes works; it is never chosen silently."""
    done = cli("exec", "--network", "host", "--", "id", "-u", prefix=host(HOSTS["no network namespaces"].setup))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_memory_serves_where_no_disk_does(cli: Cli) -> None:
    """Without a named scratch place the next candidate is tried: a node whose /var/tmp and /tmp are read-only still works."""
    cli.env = {"LISRT_SCRATCH": "", "TMPDIR": "", "SLURM_TMPDIR": ""}
    setup = "for place in /var/tmp /tmp; do mount -t tmpfs -o ro none $place; done"
    done = cli("exec", "--", "id", "-u", prefix=host(setup))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_a_place_in_the_way_is_not_taken(cli: Cli, tmp_path: Path) -> None:
    """/tmp is everybody's: a directory open to others, or a link, under the name that lisrt uses is refused by name."""
    base = cli.scratch / f"lisrt-{os.geteuid()}"
    base.mkdir()
    base.chmod(0o777)
    done = cli("exec", "--", "true")
    assert done.returncode == 125
    assert str(base) in done.stderr and "0700" in done.stderr
    base.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    base.symlink_to(tmp_path / "elsewhere")
    done = cli("exec", "--", "true")
    assert done.returncode == 125
    assert str(base) in done.stderr
    assert os.listdir(tmp_path / "elsewhere") == []
    base.unlink()


def test_a_missing_helper_is_a_broken_installation(tmp_path: Path, scratch: Path) -> None:
    """The path that was looked at, and the command that mends it."""
    source = """
        from pathlib import Path
        from lisrt import HostError, Sandbox
        from lisrt.kernel import helper
        helper.PATH = Path("/no/such/helper")
        try:
            Sandbox()
        except HostError as error:
            assert error.check == "helper" and "pip install" in error.fix
            print(error)
    """
    assert "/no/such/helper" in python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}).stdout


FULL = """
    import errno, sys
    from lisrt import Sandbox
    with Sandbox() as box, Sandbox() as other:
        try:
            box.write("big", bytes(8 << 20))
        except OSError as error:
            assert error.errno == errno.ENOSPC and "big" in str(error), error
        else:
            sys.exit("8 MiB fitted into 4")
        assert "No space left" in box.sh("head -c 8000000 /dev/zero > also-big").stderr
        box.sh("rm -f big also-big").check()
        box.write("small", "x")
        assert box.read_text("small") == "x" and other.sh("exit 3").exit_code == 3
    print("fine")
"""


def test_a_disk_that_fills_up_is_an_error_of_the_file(tmp_path: Path, scratch: Path) -> None:
    """ENOSPC with the path; the sandbox and its neighbour live on, and are themselves again when there is room."""
    prefix = host('mount -t tmpfs -o size=4m none "$LISRT_SCRATCH"; chmod 700 "$LISRT_SCRATCH"')
    done = python(FULL, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, prefix=prefix)
    assert done.stdout == "fine\n"


CROWDED = """
    import resource
    from lisrt import HostError, Sandbox
    with Sandbox() as first:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        boxes, failure = [], None
        while failure is None and len(boxes) < 100:
            try:
                boxes.append(Sandbox())
            except HostError as error:
                failure = error
        assert failure is not None and failure.check == "descriptors" and "ulimit -n" in str(failure), failure
        try:
            first.run(["true"])
        except HostError as error:
            assert error.check == "descriptors", error
        for box in boxes[len(boxes) // 2:]:
            box.close()
        for box in [first, *boxes[:len(boxes) // 2]]:
            assert box.sh("echo still here").stdout == "still here\\n"
            box.close()
    print("fine")
"""


def test_too_few_descriptors_spoil_nothing_that_is_there(tmp_path: Path, scratch: Path) -> None:
    """HostError from what is new; what there was works on as soon as there is room, and no descriptor is lost on the way."""
    assert python(CROWDED, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}).stdout == "fine\n"


PROCESSES = """
    from lisrt import HostError, Sandbox, SetupError
    from support.waiting import eventually

    def works(box):
        try:
            return box.run(["true"]).exit_code == 0
        except SetupError:
            return False  # those that were closed are not yet reaped, and count

    boxes, failure = [], None
    while failure is None and len(boxes) < 100:
        try:
            boxes.append(Sandbox())
        except HostError as error:
            failure = error
    assert failure is not None and failure.check == "processes", failure
    boxes.pop().close()
    boxes.pop().close()
    for box in boxes:
        eventually(lambda: works(box))
        box.close()
    print("fine", len(boxes) > 2)
"""


def test_too_few_processes_spoil_nothing_that_is_there(tmp_path: Path, scratch: Path) -> None:
    """The job's limit on processes stops new sandboxes by name; those that live work on."""
    prefix = host("ulimit -u 20")
    done = python(PROCESSES, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, prefix=prefix)
    assert done.stdout == "fine True\n"


CROWD = """
    import asyncio, errno
    from lisrt import AsyncSandbox, SetupError

    async def main():
        async with AsyncSandbox() as box:
            sleepers = [asyncio.create_task(box.run(["sleep", "{marker}"], timeout=50)) for _ in range(40)]
            done, _ = await asyncio.wait(sleepers, return_when=asyncio.FIRST_COMPLETED)
            error = done.pop().exception()
            assert isinstance(error, SetupError) and error.errno == errno.EAGAIN and "processes" in str(error), error
            for task in sleepers:
                task.cancel()
            await asyncio.gather(*sleepers, return_exceptions=True)
            print((await box.run(["echo", "room again"])).stdout, end="")

    asyncio.run(main())
"""


def test_a_command_that_can_not_be_forked_never_ran(tmp_path: Path, scratch: Path, marker: str) -> None:
    """An error that says so, not an exit status of a program; afterwards the sandbox works on."""
    prefix = host("ulimit -u 20")
    done = python(CROWD.format(marker=marker), cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, prefix=prefix)
    assert done.stdout == "room again\n"
    assert_gone(marker)


LATER = """
    import os, subprocess
    from lisrt import Mount, Sandbox
    os.makedirs("shown/new")
    subprocess.run(["mount", "-t", "tmpfs", "none", "shown"], check=True)
    subprocess.run(["mount", "--make-shared", "shown"], check=True)
    os.mkdir("shown/new")
    with Sandbox(mounts=[Mount("shown", "/data")]) as box:
        subprocess.run(["mount", "-t", "tmpfs", "none", "shown/new"], check=True)
        box.sh("echo escaped > /data/new/file")
        print(os.listdir("shown/new"))
"""


def test_what_the_host_mounts_later_does_not_come_in(tmp_path: Path, scratch: Path) -> None:
    """A file system that appears below a read-only mount would be writable: it stays out (systemd's hosts share all mounts)."""
    prefix = ("unshare", "--user", "--mount", "--map-root-user")
    assert python(LATER, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, prefix=prefix).stdout == "[]\n"


def test_the_simulation_itself_spoils_nothing(cli: Cli) -> None:
    """On a host of the same making with nothing wrong, everything works: what fails above fails for its own reason."""
    done = cli("exec", "--", "id", "-u", prefix=host("true"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert cli("doctor", prefix=host("true")).returncode == 0
