"""The machine is what its environments promise, and its kernel does what limits by cgroup v2 are built on."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import eventually

MOUNT = Path("/sys/fs/cgroup")
PROBE = "/payload/probe"
CONTROLLERS = {"cpu", "memory", "pids"}
MIB = 1 << 20


def cgroup_of(pid: int | str = "self") -> Path:
    """The cgroup of a process, as a directory."""
    (line,) = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    number, controllers, path = line.split(":", 2)
    assert (number, controllers) == ("0", "")
    return MOUNT / path.lstrip("/")


def words(path: Path) -> set[str]:
    return set(path.read_text().split())


def make_parent(scope: Path) -> Path:
    """Empty a delegated cgroup into a leaf, since one with processes can't have limited children; give it controllers."""
    leaf = scope / "manager"
    leaf.mkdir()
    for pid in words(scope / "cgroup.procs"):
        (leaf / "cgroup.procs").write_text(pid)
    (scope / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(CONTROLLERS)))
    assert words(scope / "cgroup.subtree_control") >= CONTROLLERS
    return scope


@contextmanager
def probe() -> Iterator["subprocess.Popen[str]"]:
    """A probe that is in its user namespace, and waits to be told its PARENT."""
    with subprocess.Popen([PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "user-namespace ok\n"
            yield process
        finally:
            process.kill()


def tried(process: "subprocess.Popen[str]", parent: Path) -> dict[str, list[str]]:
    """What the probe finds below PARENT, by step."""
    said, _ = process.communicate(f"{parent}\n", timeout=50)
    print(said)  # pytest shows it where a test fails
    assert process.returncode == 0
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        step, _, value = line.partition(" ")
        found.setdefault(step, []).append(value)
    return found


def make_scope(name: str, pid: int) -> Path:
    """Ask the user's systemd over the bus for a delegated scope around a process; its cgroup."""
    method = ["org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail"]
    properties = ["3", "Delegate", "b", "true", "PIDs", "au", "1", str(pid), "CollectMode", "s", "inactive-or-failed", "0"]
    address = ["--user", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"]
    subprocess.run(["busctl", *address, *method, *properties], check=True, stdout=subprocess.PIPE, timeout=30)
    eventually(lambda: cgroup_of(pid).name == name, within=30, what=f"{pid} in {name}")
    return cgroup_of(pid)


#: What the probe must find, wherever its PARENT is delegated and it runs below the same delegated cgroup.
EXPECTED = {
    # the spawner, in a user namespace of its own
    "mkdir": "ok",
    "write-memory.max": "ok",
    "write-memory.swap.max": "ok",
    "write-pids.max": "ok",
    "write-cpu.max": "ok",
    "write-memory.oom.group": "ok",
    "clone3-into-cgroup-by-O_PATH": "ok",
    "clone3-into-cgroup": "ok",
    "write-cgroup.kill": "ok",
    "init-signal": "9",
    "rmdir-at-once": "ok",
    "memory.peak": str(32 * MIB),
    "cgroup.events.populated": "1",
    "pids.events.max": "1",
    # PID 1, before and after it has a cgroup namespace: only that takes its own limits out of its reach
    "init.pid": "1",
    "init.before-cgroup-namespace.write-memory.max": "ok",
    "init.unshare-cgroup": "ok",
    "init.path": "0::/",
    "init.mount-cgroup2": "ok",
    "init.nested-user-namespace": "ok",
    "init.mount-has-memory.max": "ok",
    "init.write-memory.max": "EPERM",
    "init.write-pids.max": "EPERM",
    "init.host-path.write-memory.max": "EPERM",
    "init.host-path.move-to-parent": "ENOENT",
    # ... and what it can still do, by a mount that a sandbox had better not show
    "init.write-memory.oom.group": "ok",
    "init.mkdir-child": "ok",
    "init.write-cgroup.kill-of-child": "ok",
    "init.move-to-child": "ok",
    "init.move-back": "ok",
    "init.rmdir-child": "ok",
    # limits hold: 16 processes, one of them PID 1; 32 MiB
    "init.fork-beyond-pids.max": "EAGAIN",
    "init.forks": "15",
    "init.bomb-signal": "9",
    "init.memory.peak": str(32 * MIB),
    # memory.events by an inherited descriptor
    "init.events.oom_kill-at-first": "0",
    "init.epoll-add": "ok",
    "init.epoll-before": "0",
    "init.epoll-says-oom_kill": "ok",
    "init.epoll-after-reading": "0",
    "init.events.oom_kill-at-reaping": "2",
    # memory.oom.group: PID 1 dies with the one that was too big
    "group.init-signal": "9",
    "group.events.oom_group_kill": "1",
    # both flags at once make the new cgroup the namespace's root
    "clone3-with-new-cgroup-namespace.path": "0::/",
    "clone3-with-new-cgroup-namespace.write-memory.max": "EPERM",
    # a spawner must not be in a cgroup namespace whose root is beside the boxes
    "own-namespace.clone3-into-cgroup": "ENOENT",
}


def check(found: dict[str, list[str]]) -> None:
    """Each step went as expected, as often as it was tried."""
    differing = {step: found.get(step) for step, value in EXPECTED.items() if set(found.get(step, [])) != {value}}
    assert not differing


def test_the_mount() -> None:
    """cgroup2 alone, where systemd mounts it, with namespaces as borders of delegation; and an ordinary user."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    (row,) = [row for row in mounts if row[row.index("-") + 1].startswith("cgroup")]
    assert (row[4], row[row.index("-") + 1]) == (str(MOUNT), "cgroup2")
    assert "nsdelegate" in row[-1].split(",")
    assert os.getuid() == os.geteuid() == 1000
    assert "CapEff:\t0000000000000000" in Path("/proc/self/status").read_text()


@pytest.mark.host("v2-none")
def test_nothing_is_delegated() -> None:
    """A service of PID 1's, as a batch system would start it: no bus, no user manager, a cgroup of root's."""
    assert not {"XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"} & set(os.environ)
    assert not os.path.exists(f"/run/user/{os.getuid()}")
    own = cgroup_of()
    assert own.parent == MOUNT / "system.slice"
    assert not os.access(own / "cgroup.procs", os.W_OK)
    assert not os.access(own / "memory.max", os.W_OK)
    with pytest.raises(PermissionError):
        (own / "child").mkdir()


@pytest.mark.host("v2-user-bus")
def test_a_session_owns_no_cgroup_but_has_a_bus() -> None:
    """What ssh gives: a scope of root's, and the user's systemd on a socket."""
    own = cgroup_of()
    assert own.name.startswith("session-") and own.parent.name == "user-1000.slice"
    assert not os.access(own / "cgroup.procs", os.W_OK)
    with pytest.raises(PermissionError):
        (own / "child").mkdir()
    assert stat.S_ISSOCK(os.stat(f"{os.environ['XDG_RUNTIME_DIR']}/bus").st_mode)
    assert os.environ["XDG_RUNTIME_DIR"] == f"/run/user/{os.getuid()}"


@pytest.mark.host("v2-user-bus")
def test_the_bus_gives_a_running_spawner_a_scope() -> None:
    """Also one that is in a user namespace already: the spawner is moved, and Python stays where it is."""
    before = cgroup_of()
    with probe() as process:
        scope = make_scope("lisrt-probe.scope", process.pid)
        assert words(scope / "cgroup.controllers") >= CONTROLLERS
        check(tried(process, make_parent(scope)))
    eventually(lambda: not scope.exists(), within=30, what="the end of an empty scope")
    assert cgroup_of() == before


@pytest.mark.host("v2-user-bus")
def test_a_spawner_outside_the_scope_can_start_nothing_in_it() -> None:
    """The kernel wants the right to move processes at the common ancestor, even for one that is born there."""
    with subprocess.Popen(["sleep", "100"]) as keeper, probe() as process:
        found = tried(process, make_parent(make_scope("lisrt-far.scope", keeper.pid)))
        keeper.kill()
    assert found["write-memory.max"] == ["ok"] * 3
    assert found["clone3-into-cgroup-by-O_PATH"] == found["clone3-into-cgroup"] == ["EACCES"]


@pytest.mark.host("v2-delegated")
def test_the_own_cgroup_is_delegated() -> None:
    """`systemd-run --user --scope -p Delegate=yes`: controllers are there, and children can be made and limited."""
    own = cgroup_of()
    assert own.name.endswith(".scope") and f"user@{os.getuid()}.service" in own.parts
    assert words(own / "cgroup.controllers") >= CONTROLLERS
    for name in ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
        assert os.access(own / name, os.W_OK)
    # The user's systemd made it, so its own limits are the user's too: what holds a sandbox must be a cgroup below.
    assert (own / "memory.max").stat().st_uid == os.getuid()


@pytest.mark.host("v2-delegated")
def test_what_a_spawner_does() -> None:
    with probe() as process:
        check(tried(process, make_parent(cgroup_of())))
