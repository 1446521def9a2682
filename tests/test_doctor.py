"""`lisrt doctor`: the right row with the right fix on hosts made bad, rooms that are true, requirements, and no traces."""

import dataclasses
import json
import os
import resource
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.command import Cli
from support.fresh import python
from support.hosts import POWERLESS, host
from support.procs import mounts_naming, pids

import lisrt.doctor
from lisrt import HostError, Sandbox
from lisrt.doctor import (
    NAMES,
    STRONG,
    Check,
    Group,
    Report,
    Status,
    ceilings,
    cgroups,
    isolation,
    limits,
)
from lisrt.doctor.host import Answer, Host, Probe
from lisrt.doctor.rows import Found
from lisrt.doctor.table import ROWS

Rows = dict[str, dict[str, Any]]


@pytest.fixture
def cli(tmp_path: Path, scratch: Path, working_host: None) -> Iterator[Cli]:
    """`lisrt`; afterwards nothing of it is left."""
    made = Cli(tmp_path, scratch)
    yield made
    made.assert_clean()
    assert not [name for name in os.listdir(scratch) if "probe" in name]


def rows(done: "subprocess.CompletedProcess[str]") -> Rows:
    """The rows of --json by name."""
    return {row["name"]: row for row in json.loads(done.stdout)["rows"]}


# A host where all is well


@pytest.fixture(scope="module")
def report(working_host: None) -> Report:
    return lisrt.doctor.examine()


def test_this_host_passes(report: Report) -> None:
    """It makes sandboxes, so everything that isolation needs is there."""
    assert report.works and report.verdict == "strong"
    assert not report.lacking([STRONG])
    assert [row.name for row in report.rows] == list(NAMES)
    for row in report.rows:
        assert row.status is not Status.FAIL, row
        assert row.found and row.meaning
        assert row.good or row.fix or row.status is Status.SKIPPED, f"{row.name} is weaker and has no fix"


def test_the_form_of_json(cli: Cli) -> None:
    """Rows with their keys, and a summary that agrees with them."""
    done = cli("doctor", "--json", "-n", "3")
    assert (done.returncode, done.stderr) == (0, "")
    got = json.loads(done.stdout)
    assert set(got) == {"rows", "summary"}
    for row in got["rows"]:
        assert set(row) - {"room"} == {"name", "group", "status", "found", "meaning", "fix"}
        assert row["group"] in set(Group) and row["status"] in set(Status)
        assert isinstance(row.get("room", 0), int)
    summary = got["summary"]
    assert (summary["verdict"], summary["works"], summary["concurrency"]) == ("strong", True, 3)
    assert summary["room"] == min(row["room"] for row in got["rows"] if "room" in row)
    for status in Status:
        assert summary[status] == [row["name"] for row in got["rows"] if row["status"] == status]


@pytest.mark.parametrize("columns", [80, 200, 40])
def test_the_table_fits_the_terminal(cli: Cli, columns: int) -> None:
    """Wrapped; only a word that is longer than its column sticks out."""
    done = cli("doctor", env={"COLUMNS": str(columns)})
    for line in done.stdout.splitlines():
        assert len(line) <= max(columns, 80) or " " not in line[31:].strip(), line
    assert "Sandboxes work here, fully isolated" in done.stdout


def traces(tmp_path: Path) -> set[str]:
    """What is ours and has a probe's name, wherever the doctor may have been."""
    cgroups_seen = [mount.place for mount in Host().mounts if mount.type in ("cgroup", "cgroup2")]
    found = set()
    for place in ("/tmp", "/var/tmp", "/dev/shm", str(tmp_path), *cgroups_seen):
        for entry in os.scandir(place):
            if "lisrt-probe" in entry.name and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                found.add(entry.path)
    return found


def test_it_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    """No directory where it has tried overlays, no cgroup, no mount, no process."""
    cli.env = {"LISRT_SCRATCH": "", "TMPDIR": str(tmp_path), "LISRT_TEST_MARK": str(tmp_path)}
    before, mounts = traces(tmp_path), Host().mounts
    assert cli("doctor").returncode == 0
    assert traces(tmp_path) <= before
    assert sorted(os.listdir(tmp_path)) == ["lisrt-" + str(os.geteuid()), "scratch"]
    assert Host().mounts == mounts
    marker = f"LISRT_TEST_MARK={tmp_path}".encode()
    assert not [pid for pid in pids() if marker in environment_of(pid)]
    assert not mounts_naming(str(tmp_path))


def environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""  # gone, or another user's


# Requirements


def test_what_is_required_and_there(cli: Cli) -> None:
    """A job prologue goes on."""
    done = cli("doctor", "--require", "strong, proc,sandbox", "--require", "scratch")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_required_and_missing(cli: Cli) -> None:
    """The rows on stderr with their fix, status 1; what is weaker and not required is no reason."""
    prefix = host("ulimit -n 300")
    done = cli("doctor", "--json", "--require", "descriptors,helper", prefix=prefix)
    assert done.returncode == 1
    assert done.stderr.startswith("lisrt: required, but weaker: descriptors: 300 open files")
    assert "ulimit -n" in done.stderr and done.stderr.count("\n") == 1
    assert rows(done)["descriptors"]["status"] == "weaker"
    assert cli("doctor", "--require", "helper", prefix=prefix).returncode == 0
    assert cli("doctor", "--require", "descriptors", "-n", "9", prefix=prefix).returncode == 0


@pytest.mark.parametrize("value", ["nonesuch", "strong,nonesuch", "Strong"])
def test_what_is_required_and_unknown(cli: Cli, value: str) -> None:
    """A misspelt requirement must not pass: status 2, and all that can be required."""
    done = cli("doctor", "--require", value)
    assert (done.returncode, done.stdout) == (2, "")
    assert value.split(",")[-1] in done.stderr
    assert all(name in done.stderr.replace("\n", " ") for name in (STRONG, *NAMES))


def test_strong_is_isolation_and_the_filter() -> None:
    """One bad row of these is enough, and no other row is; a name that is no row is no requirement met."""
    with pytest.raises(KeyError):
        Report((), 1).lacking(["nonesuch"])
    for bad in ROWS:
        made = [Check(row.name, row.group, Status.WEAKER if row is bad else Status.PASS, "", "") for row in ROWS]
        lacking = Report(tuple(made), 1).lacking([STRONG])
        strong = bad.group is Group.ISOLATION or bad.name == "system-calls"
        assert [row.name for row in lacking] == ([bad.name] if strong else [])


# Hosts made bad


@dataclasses.dataclass(frozen=True)
class Bad:
    """What is wrong, and what the rows say: name -> (status, words of found, words of fix)."""

    setup: str
    expected: Mapping[str, tuple[str, str, str]]
    arguments: tuple[str, ...] = ()
    works: bool = False


CHROOT = f"""
mount -t tmpfs none /mnt; mkdir /mnt/r
for d in /*; do
    if [ -L $d ]; then cp -P $d /mnt/r
    elif [ -d $d ] && [ $d != /mnt ]; then mkdir /mnt/r$d; mount --rbind $d /mnt/r$d; fi
done
PATH=$PATH:/usr/sbin:/sbin
exec chroot /mnt/r {POWERLESS.removeprefix("exec ")} "$@"
"""
BAD_HOSTS = {
    "no user namespaces": Bad(
        "echo 0 >/proc/sys/user/max_user_namespaces",
        {
            "user-namespaces": ("fail", "user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces="),
            "capabilities": ("skipped", "needs a user namespace: No space left", ""),
            "scratch": ("skipped", "needs a user namespace", ""),
            "sandbox": ("skipped", "see user-namespaces", ""),
            "kernel-calls": ("skipped", "", ""),
            "system-calls": ("pass", "", ""),
        },
    ),
    "few user namespaces": Bad(
        "echo 200 >/proc/sys/user/max_user_namespaces",
        {
            "namespace-counts": ("weaker", "user.max_user_namespaces is 200", "sudo sysctl -w user.max_user_namespaces="),
            "sandbox": ("pass", "", ""),
        },
        works=True,
    ),
    "no network namespaces": Bad(
        "echo 0 >/proc/sys/user/max_net_namespaces",
        {
            "network-namespace": ("fail", "No space left", "sudo sysctl -w user.max_net_namespaces="),
            "sandbox": ("skipped", "see network-namespace", ""),
            "veth": ("skipped", "", ""),
            "proc": ("pass", "", ""),
            "nested-user-namespace": ("pass", "", ""),
        },
    ),
    "a masked proc": Bad(
        "mount -t tmpfs none /proc/sys",
        {
            "proc": ("fail", "something is mounted over /proc/sys", "masked"),
            "nested-user-namespace": ("skipped", "needs a fresh /proc", ""),
            "capabilities": ("pass", "", ""),
        },
    ),
    "a chroot": Bad(
        CHROOT,
        {
            "user-namespaces": ("fail", "in a chroot", "outside of the chroot"),
            "surroundings": ("note", "in a chroot", ""),
        },
    ),
    "a noexec scratch place": Bad(
        'mount -t tmpfs -o noexec,nosuid none "$LISRT_SCRATCH"; chmod 700 "$LISRT_SCRATCH"',
        {"scratch": ("note", "(tmpfs)", "LISRT_SCRATCH="), "sandbox": ("pass", "", "")},
        works=True,
    ),
    "a scratch place without attributes": Bad(
        'mount -t ramfs none "$LISRT_SCRATCH"; chmod 700 "$LISRT_SCRATCH"',
        {"scratch": ("fail", "user.* attributes: Operation not supported", "LISRT_SCRATCH=")},
    ),
    "few open files": Bad(
        "ulimit -Sn 300",
        {"descriptors": ("weaker", "300 open files (hard limit", "ulimit -n"), "sandbox": ("pass", "", "")},
        works=True,
    ),
    "few processes": Bad(
        "ulimit -u 60",
        {"processes": ("weaker", "ulimit -u 60", "ulimit -u"), "sandbox": ("pass", "", "")},
        works=True,
    ),
    "two processes": Bad(
        "ulimit -u 2",
        {"processes": ("fail", "", "ulimit -u"), "user-namespaces": ("skipped", "not tried", "")},
    ),
    "a Slurm job": Bad(
        "export SLURM_JOB_ID=42",
        {"surroundings": ("note", "in Slurm job 42", "")},
        works=True,
    ),
}


@pytest.mark.parametrize("name", BAD_HOSTS)
def test_a_bad_host(cli: Cli, name: str) -> None:
    """The row that is to blame says so and how to mend it; the rows that are not, don't."""
    bad = BAD_HOSTS[name]
    done = cli("doctor", "--json", *bad.arguments, prefix=host(bad.setup))
    assert done.returncode == (0 if bad.works else 1), done.stdout + done.stderr
    got = rows(done)
    for row, (status, found, fix) in bad.expected.items():
        assert got[row]["status"] == status and found in got[row]["found"] and fix in got[row]["fix"], got[row]
    assert set(got) == set(NAMES)
    verdict = json.loads(done.stdout)["summary"]["verdict"]
    assert verdict == ("strong" if bad.works else "fails")


def test_a_small_pid_max(cli: Cli) -> None:
    """Where a pid namespace has a pid_max of its own (6.14), that is the ceiling."""
    setup = "echo 2000 >/proc/sys/kernel/pid_max"
    prefix = ("unshare", "--pid", "--fork", "--mount-proc", "bash", "-ec", f'{setup}; {POWERLESS} "$@"', "bash")
    outer = ("unshare", "--user", "--map-current-user", "--keep-caps", *prefix)
    if subprocess.run([*outer, "true"], capture_output=True).returncode != 0:
        pytest.skip("pid_max can't be lowered here without lowering the host's")
    got = rows(cli("doctor", "--json", prefix=outer))["processes"]
    assert got["status"] == "weaker" and "kernel.pid_max 2,000" in got["found"], got
    assert got["fix"].startswith("sudo sysctl -w kernel.pid_max=")


def test_programs_run_on_a_noexec_scratch_place(cli: Cli) -> None:
    """What the row says of such a place is true of a sandbox."""
    prefix = host(BAD_HOSTS["a noexec scratch place"].setup)
    script = "printf '#!/bin/sh\\necho ran\\n' >p; chmod +x p; ./p; cp /bin/echo own; ./own too"
    assert cli("exec", "--", "sh", "-c", script, prefix=prefix).stdout == "ran\ntoo\n"


# Rooms are true

FILL = """
    from lisrt import HostError, Sandbox
    from lisrt.doctor import ceilings
    from lisrt.doctor.host import Host
    found = ceilings.namespace_counts(Host())
    boxes = []
    try:
        while len(boxes) < 100:
            boxes.append(Sandbox())
    except HostError as error:
        assert error.check == "user-namespaces", error
    print(found.room, len(boxes), found.status)
    for box in boxes:
        box.close()
"""


@pytest.mark.parametrize("kind", ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])
def test_the_room_for_namespaces_is_true(kind: str, tmp_path: Path, scratch: Path, working_host: None) -> None:
    """With a limit of 30 of one kind: as many as said can be made, and hardly more; then HostError."""
    if kind == "net":
        source = FILL.replace("user-namespaces", "network-namespace")
    else:
        source = FILL
    prefix = host(f"echo 30 >/proc/sys/user/max_{kind}_namespaces")
    said, made, status = python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, prefix=prefix).stdout.split()
    assert status == "weaker"
    assert int(said) <= int(made) <= int(said) + ceilings.OUTER_NAMESPACES, (said, made)


MEASURE = """
    import os, threading
    from lisrt import Sandbox, spawner
    def files():
        return len(os.listdir("/proc/self/fd"))
    def inodes():
        return sum(len(dirs) + len(names) for _, dirs, names in os.walk(spawner.current().scratch))
    with Sandbox():
        before, there = files(), inodes()
        boxes = [Sandbox() for _ in range(20)]
        idle, made = files(), inodes()
        begun = threading.Barrier(21)
        def use(box):
            begun.wait()
            box.run(["sleep", "20"], timeout=5)
        threads = [threading.Thread(target=use, args=(box,)) for box in boxes]
        for thread in threads:
            thread.start()
        begun.wait()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, files())
        print((idle - before) / 20, (most - before) / 20, (made - there) / 20)
        for box in boxes:
            box.close()
"""


def test_what_a_sandbox_takes(tmp_path: Path, scratch: Path, working_host: None) -> None:
    """The numbers that rooms are counted with: descriptors idle and with a command, inodes."""
    output = python(MEASURE, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}).stdout
    idle, busy, inodes = map(float, output.split())
    assert idle == 1
    assert ceilings.DESCRIPTORS - 1.5 <= busy <= ceilings.DESCRIPTORS + 1, busy
    assert inodes <= 5


# Hosts that can't be had: the files that their kernels show, and the answers that their probes give


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The root of a host of files."""
    for name in ("proc/self/fd", "proc/sys/kernel"):
        (tmp_path / "host" / name).mkdir(parents=True)
    return tmp_path / "host"


def put(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


CGROUP2 = {
    "proc/self/cgroup": "0::/job/step",
    "proc/self/mountinfo": "22 1 0:20 / / rw - ext4 /dev/sda rw\n30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory pids",
    "sys/fs/cgroup/job/cgroup.controllers": "cpu memory pids",
    "sys/fs/cgroup/job/step/cgroup.controllers": "memory pids",
}
OURS = {"cgroup=/sys/fs/cgroup/job/step": Probe(Answer.WORKS, 0, "memory pids kill")}
FOREIGN = {"cgroup=/sys/fs/cgroup/job/step": Probe(Answer.FAILS, 13, "make a child cgroup")}
HOLDS = {"process-limit": Probe(Answer.WORKS, 0, "counted per user namespace")}


def test_cgroups_as_they_are_seen(tree: Path) -> None:
    """Our own directory, what is there for us, and the way up."""
    put(tree, CGROUP2)
    ours = cgroups.version2(Host(root=tree))
    assert ours is not None
    assert (ours.directory, ours.controllers) == ("/sys/fs/cgroup/job/step", ("memory", "pids"))
    assert list(ours.chain()) == ["/sys/fs/cgroup/job/step", "/sys/fs/cgroup/job", "/sys/fs/cgroup"]
    assert cgroups.layout(Host(root=tree)) == "v2"


def test_the_tightest_cgroup_on_the_way_up(tree: Path) -> None:
    """Neither our own nor the last one, but the one with the least left; "max" is no limit."""
    limits_of = {"job/step": ("max", "10"), "job": ("300", "100"), "": ("5000", "400")}
    put(tree, CGROUP2)
    for name, (limit, use) in limits_of.items():
        put(tree, {f"sys/fs/cgroup/{name}/pids.max": limit, f"sys/fs/cgroup/{name}/pids.current": use})
    put(tree, {"proc/loadavg": "0.1 0.1 0.1 1/100 999", "proc/sys/kernel/pid_max": "4194304"})
    found = ceilings.processes(Host(root=tree))
    assert (found.status, found.room) == (Status.WEAKER, 50), found
    assert "/sys/fs/cgroup/job, 200 free" in found.found


def test_version_1_limits_are_seen(tree: Path) -> None:
    """Its files have other names, and a huge number for none."""
    mountinfo = "22 1 0:20 / / rw - ext4 /dev/sda rw\n31 22 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    put(tree, {"proc/self/cgroup": "4:memory:/a/b", "proc/self/mountinfo": mountinfo, "proc/meminfo": "MemAvailable: 9000000 kB"})
    top = "sys/fs/cgroup/memory"
    put(tree, {f"{top}/a/b/memory.limit_in_bytes": "9223372036854771712", f"{top}/a/b/memory.usage_in_bytes": "5"})
    put(tree, {f"{top}/a/memory.limit_in_bytes": str(100 << 20), f"{top}/a/memory.usage_in_bytes": str(40 << 20)})
    found = ceilings.memory_room(Host(root=tree))
    assert (found.status, found.room) == (Status.WEAKER, 120), found
    assert "60 MiB left in /sys/fs/cgroup/memory/a" in found.found


@pytest.mark.parametrize(
    ("what", "probes", "environ", "name"),
    [
        ("memory", OURS, {}, "cgroup2"),
        ("memory", OURS, {"SLURM_JOB_ID": "1"}, "cgroup2"),
        ("memory", FOREIGN, {}, "watchdog"),
        ("cpu", OURS, {}, "affinity"),
        ("pids", FOREIGN | HOLDS, {}, "rlimit"),
        ("pids", FOREIGN, {}, "nobody"),
        ("pids", OURS, {}, "cgroup2"),
    ],
)
def test_the_means_of_limits(tree: Path, what: str, probes: Any, environ: dict[str, str], name: str) -> None:
    """The best one that a probe has shown to work; never one that was not."""
    put(tree, CGROUP2)
    chosen = limits.backend(Host(root=tree, probes=probes, environ={"XDG_RUNTIME_DIR": "/none"} | environ), what)
    assert chosen.name == name
    assert chosen.best == (name not in ("watchdog", "affinity", "nobody")) and chosen.why


def test_a_version_1_cgroup_is_asked_for_below_our_own(tree: Path) -> None:
    """One beside it would be out of the limits of the job, or of the container."""
    mountinfo = "22 1 0:20 / / rw - ext4 /dev/sda rw\n31 22 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    put(tree, {"proc/self/cgroup": "4:memory:/job", "proc/self/mountinfo": mountinfo})
    found = limits.memory(Host(root=tree, environ={}))
    assert found.status is Status.WEAKER and f"/sys/fs/cgroup/memory/job/lisrt-{os.geteuid()} " in found.fix, found


@pytest.mark.parametrize(
    ("answer", "name"), [(b"OK 1234\r\n", "scope"), (b"REJECTED EXTERNAL\r\n", "watchdog"), (b"", "watchdog")]
)
def test_a_user_manager_delegates(tree: Path, answer: bytes, name: str) -> None:
    """Only one that answers, and never out of a Slurm job."""
    put(tree, CGROUP2)
    (tree / "run/me").mkdir(parents=True)
    environ = {"XDG_RUNTIME_DIR": "/run/me"}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "run/me/bus"))
        server.listen()
        thread = threading.Thread(target=serve, args=(server, answer))
        thread.start()
        chosen = limits.backend(Host(root=tree, probes=FOREIGN, environ=environ), "memory")
        thread.join()
        in_job = limits.backend(Host(root=tree, probes=FOREIGN, environ=environ | {"SLURM_JOB_ID": "1"}), "memory")
    assert (chosen.name, in_job.name) == (name, "watchdog")
    assert "Slurm" in in_job.why


def serve(server: socket.socket, answer: bytes) -> None:
    """The first lines of a D-Bus server."""
    connection, _ = server.accept()
    with connection:
        said = connection.recv(100)
        assert said == b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n"
        connection.sendall(answer)


REFUSED = Probe(Answer.FAILS, 1, "user-namespace")
USED_UP = Probe(Answer.FAILS, 28, "user-namespace")
UNMAPPED = Probe(Answer.FAILS, 13, "id-map")
PLAIN = {"proc/self/mountinfo": "22 1 0:20 / / rw - ext4 /dev/sda rw"}
CAUSES = {
    "Ubuntu": (UNMAPPED, {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor", "apparmor_restrict"),
    "Debian 10": (REFUSED, {"proc/sys/kernel/unprivileged_userns_clone": "0"}, "userns_clone is 0", "userns_clone=1"),
    "Docker": (REFUSED, {".dockerenv": "", "proc/self/status": "Seccomp:\t2"}, "Docker", "seccomp=unconfined"),
    "Podman": (REFUSED, {"run/.containerenv": "", "proc/self/status": "Seccomp:\t2"}, "Podman", "unmask=ALL"),
    "RHEL 7": (Probe(Answer.FAILS, 22, "user-namespace"), {}, "booted without", "user_namespace.enable=1"),
    "a STIG": (USED_UP, {"proc/sys/user/max_user_namespaces": "0"}, "is 0", "max_user_namespaces="),
    "nobody knows": (REFUSED, {}, "does not say why", "ask the administrator"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_why_user_namespaces_are_refused(name: str, tree: Path) -> None:
    """Each kind of host by its signature, with its own command."""
    probe, files, cause, fix = CAUSES[name]
    put(tree, PLAIN | files)
    found = isolation.user_namespaces(Host(root=tree, probes={"user-namespace": probe}, environ={}))
    assert found.status is Status.FAIL
    assert cause in found.found and fix in found.fix, found


def test_apparmor_takes_the_powers_only(tree: Path) -> None:
    """Where the namespace can be made and mapped, but nothing can be mounted in it."""
    put(tree, PLAIN | {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"})
    denied = Probe(Answer.FAILS, 13, "unprivileged_userns (enforce)")
    found = isolation.capabilities(Host(root=tree, probes={"capabilities": denied}, environ={}))
    assert "profile unprivileged_userns (enforce)" in found.found and "apparmor_restrict" in found.fix
    put(tree, {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0"})
    found = isolation.capabilities(Host(root=tree, probes={"capabilities": denied}, environ={}))
    assert "label=disable" in found.fix


def test_calls_that_are_missing_or_forbidden(tree: Path) -> None:
    """ENOSYS without a filter is an old kernel or gVisor; under one it is the container's."""
    put(tree, PLAIN)
    lacking = {"openat2": Probe(Answer.FAILS, 38, "openat2")}
    found = isolation.kernel_calls(Host(root=tree, probes=lacking, environ={}))
    assert found.status is Status.FAIL and "openat2" in found.found and "5.12" in found.fix and "gVisor" in found.fix
    put(tree, {"proc/self/status": "Seccomp:\t2"})
    assert "seccomp=unconfined" in isolation.kernel_calls(Host(root=tree, probes=lacking, environ={})).fix


def test_a_filter_from_outside_is_told() -> None:
    """Of this very process, which has none."""
    assert Host().filtered == ("Seccomp:\t2" in Path("/proc/self/status").read_text())


def test_bwrap_is_tried(working_host: None) -> None:
    """The other launcher makes a sandbox, or the reason is told; nothing fails for it."""
    found = lisrt.doctor.surroundings.bwrap(Host())
    assert found.status in (Status.PASS, Status.NOTE)
    assert "bubblewrap" in found.found
    works = " works, and " in found.found
    if works:
        with Sandbox(launcher="bwrap") as box:
            assert box.run(["true"]).ok
    else:
        with pytest.raises(HostError):
            Sandbox(launcher="bwrap")


def test_a_host_where_only_bubblewrap_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the native launcher lacks is weaker there, not broken."""
    host = Host(launcher="bwrap 0.9.0 (/usr/bin/bwrap), because: AppArmor")
    row = next(row for row in ROWS if row.name == "user-namespaces")
    check = lisrt.doctor._judge(dataclasses.replace(row, judge=lambda _: Found(Status.FAIL, "could not", "fix")), host)
    assert check.status is Status.WEAKER and "bubblewrap" in check.found


def test_a_ceiling_against_the_number_wanted() -> None:
    """Enough, some, none; a soft one never fails."""
    host_of_ten = Host(concurrency=10)
    assert ceilings.judged(host_of_ten, 10, "x", "fix") == Found(Status.PASS, "x: room for 10", room=10)
    assert ceilings.judged(host_of_ten, 9, "x", "fix") == Found(Status.WEAKER, "x: room for 9 of 10", "fix", 9)
    assert ceilings.judged(host_of_ten, -5, "x", "fix") == Found(Status.FAIL, "x: room for 0 of 10", "fix", 0)
    assert ceilings.judged(host_of_ten, 0, "x", "fix", hard=False).status is Status.WEAKER


def test_the_fix_for_descriptors_is_enough() -> None:
    """What it says gives room for all that were wanted."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = min(1024, before[1] // 4), before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wanted = Host(concurrency=min(soft, hard // ceilings.DESCRIPTORS - ceilings.SPARE_DESCRIPTORS))
    low = ceilings.descriptors(wanted)
    assert low.status is Status.WEAKER
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(low.fix.removeprefix("ulimit -n ")), hard))
        assert ceilings.descriptors(wanted).status is Status.PASS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
