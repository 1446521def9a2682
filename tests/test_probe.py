"""`lisrt-helper probe`: each probe tells a kernel that can from one that can't, on hosts made so; and leaves nothing."""

import ctypes
import errno
import os
import platform
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.fresh import environment
from support.hosts import host
from support.waiting import not_blocked

from lisrt.doctor import surroundings
from lisrt.doctor.host import Answer, Probe, run_probes
from lisrt.doctor.isolation import PROBES as ISOLATION
from lisrt.doctor.limits import PROBES as LIMITS
from lisrt.kernel import helper

pytestmark = pytest.mark.usefixtures("working_host")

ALL = (*ISOLATION, *LIMITS)


def probe(*names: str, prefix: Sequence[str] = (), env: dict[str, str] | None = None) -> dict[str, Probe]:
    """Run the helper itself, behind a prefix, and take its lines apart."""
    done = subprocess.run(
        [*prefix, str(helper.PATH), "probe", *names], capture_output=True, text=True, timeout=50, env=environment(**(env or {}))
    )
    assert (done.returncode, done.stderr) == (0, "")
    fields = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in fields] == list(names)
    return {name: Probe(Answer(int(answer)), int(number), words) for name, answer, number, words in fields}


@pytest.mark.parametrize("name", ALL)
def test_works_here(name: str) -> None:
    """Where sandboxes work, all works that they are made of."""
    if name == "process-limit" and os.geteuid() == 0:
        pytest.skip("the kernel counts no processes for root")
    answer = probe(name)[name]
    assert answer.works, answer
    assert answer.number == 0 and answer.words


def test_the_doctor_asks_the_same_helper() -> None:
    """By way of the sealed copy that sandboxes are started from, all in one run, in order."""
    answers = run_probes([*ALL, *surroundings.PROBES])
    assert list(answers) == [*ALL, *surroundings.PROBES]
    assert not [name for name, answer in answers.items() if answer.answer is Answer.UNTRIED]


@pytest.mark.parametrize("name", ["nonesuch", "", "proc=/tmp", "overlay", "cgroup", "proc/"])
def test_what_is_no_probe_is_said(name: str) -> None:
    """Unknown names, a place where none is wanted, none where one is."""
    assert probe(name, "pidfd")[name].number == errno.EINVAL


SPOILT = {
    ("echo 0 >/proc/sys/user/max_user_namespaces", "user-namespace"): (Answer.FAILS, errno.ENOSPC),
    ("echo 0 >/proc/sys/user/max_user_namespaces", "proc"): (Answer.UNTRIED, errno.ENOSPC),
    ("echo 0 >/proc/sys/user/max_net_namespaces", "network-namespace"): (Answer.FAILS, errno.ENOSPC),
    ("echo 0 >/proc/sys/user/max_net_namespaces", "veth"): (Answer.UNTRIED, errno.ENOSPC),
    ("echo 0 >/proc/sys/user/max_uts_namespaces", "uts-namespace"): (Answer.FAILS, errno.ENOSPC),
    ("echo 0 >/proc/sys/user/max_uts_namespaces", "ipc-namespace"): (Answer.WORKS, 0),
    ("mount -t tmpfs none /proc/sys", "proc"): (Answer.FAILS, errno.EPERM),
    ("mount -t tmpfs none /proc/sys", "no-nesting"): (Answer.UNTRIED, errno.EPERM),
    ("mount -t tmpfs none /proc/sys", "capabilities"): (Answer.WORKS, 0),
    ("ulimit -u 2", "process-limit"): (Answer.UNTRIED, errno.EAGAIN),
}


@pytest.mark.parametrize(("setup", "name"), SPOILT)
def test_a_host_that_can_not(setup: str, name: str) -> None:
    """The right probe fails with the right errno, its neighbour works, and what depends on it is untried."""
    answer = probe(name, prefix=host(setup))[name]
    assert (answer.answer, answer.number) == SPOILT[setup, name], answer


PLACES = {
    "mount -t tmpfs none DIR": (Answer.WORKS, 0, "whiteouts"),
    "mount -t tmpfs -o noexec,nosuid,nodev none DIR": (Answer.WORKS, 0, "programs"),
    "mount -t tmpfs -o ro none DIR": (Answer.FAILS, errno.EROFS, "make a directory"),
    "mount -t tmpfs -o nr_inodes=6 none DIR": (Answer.FAILS, errno.ENOSPC, "make files"),
    "mount -t ramfs none DIR": (Answer.FAILS, errno.EOPNOTSUPP, "user.* attributes"),
    "rmdir DIR": (Answer.FAILS, errno.ENOENT, "make a directory"),
    "rmdir DIR; touch DIR": (Answer.FAILS, errno.ENOTDIR, "make a directory"),
}


@pytest.mark.parametrize("setup", PLACES)
def test_a_place_for_overlays(setup: str, tmp_path: Path) -> None:
    """Executed, not inferred from mount options: an overlay on a noexec place runs programs."""
    place = tmp_path / "place"
    place.mkdir()
    name = f"overlay={place}"
    answer = probe(name, prefix=host(setup.replace("DIR", str(place))))[name]
    expected = PLACES[setup]
    assert (answer.answer, answer.number) == expected[:2] and expected[2] in answer.words, answer
    assert not place.is_dir() or os.listdir(place) == []


def test_a_long_or_odd_place_spoils_no_line(tmp_path: Path) -> None:
    """A path is printed in one line, whatever is in it; the answers stay in order."""
    odd = tmp_path / "tab\tand\nnewline, a,comma:and\\more"
    odd.mkdir()
    answers = run_probes([f"overlay={odd}", f"overlay=/{'x' * 5000}", "pidfd"])
    assert [answer.answer for answer in answers.values()] == [Answer.WORKS, Answer.FAILS, Answer.WORKS]
    assert os.listdir(odd) == []


def test_nobody_reads_the_answers(tmp_path: Path) -> None:
    """Its caller may die: the helper goes on to remove what it made, and ends."""
    read_end, write_end = os.pipe()
    with subprocess.Popen([helper.PATH, "probe", "pidfd", f"overlay={tmp_path}", "nft"], stdout=write_end) as process:
        os.close(write_end)
        os.close(read_end)
        assert process.wait(30) == 0
    assert os.listdir(tmp_path) == []


def test_ctrl_c_does_not_come_between(tmp_path: Path) -> None:
    """Ctrl-C goes to the terminal's process group, which the helper has left before it makes anything."""
    command = ["sh", "-c", '"$@"; exit', "sh", helper.PATH, "probe", "pidfd", *[f"overlay={tmp_path}"] * 50]
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"pidfd\t0\t")  # it is past its start
        os.killpg(process.pid, signal.SIGINT)
        assert len(process.stdout.read().splitlines()) == 50
    assert os.listdir(tmp_path) == []


# A filter as containers have it: some calls answer with an errno of their choice.

_NUMBERS = {
    "x86_64": {"unshare": 272, "clone3": 435, "openat2": 437, "seccomp": 317},
    "aarch64": {"unshare": 97, "clone3": 435, "openat2": 437, "seccomp": 277},
}
FILTERED = """
import ctypes, os, struct, sys
HANG, ERRNO, ALLOW = 0x7fc00000, 0x50000, 0x7fff0000
rules = [tuple(map(int, rule.split(":"))) for rule in sys.argv[2].split(",")]
code = struct.pack("HBBI", 0x20, 0, 0, 0)
for number, error in rules:
    code += struct.pack("HBBI", 0x15, 0, 1, number) + struct.pack("HBBI", 0x06, 0, 0, ERRNO | error if error else HANG)
code += struct.pack("HBBI", 0x06, 0, 0, ALLOW)
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(code, len(code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
if libc.prctl(38, 1, 0, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
listener = libc.syscall(int(sys.argv[1]), 1, 0 if all(error for _, error in rules) else 8, program)
if listener < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
if listener > 0:
    os.set_inheritable(listener, True)  # somebody who could answer, and never does
os.execv(sys.argv[3], sys.argv[3:])
"""


def filtered(**calls: int) -> tuple[str, ...]:
    """A prefix under which these system calls fail with these errnos, or never return where that is 0."""
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None or struct.calcsize("P") != 8 or ctypes.sizeof(ctypes.c_void_p) != 8:
        pytest.skip("numbers of system calls are known for x86-64 and arm64")
    rules = ",".join(f"{numbers[name]}:{error}" for name, error in calls.items())
    return sys.executable, "-c", FILTERED, str(numbers["seccomp"]), rules


def test_under_a_containers_filter() -> None:
    """Docker's: unshare is EPERM, clone3 is ENOSYS."""
    answers = probe("user-namespace", "clone3", "filter", "proc", prefix=filtered(unshare=errno.EPERM, clone3=errno.ENOSYS))
    assert [(answer.answer, answer.number) for answer in answers.values()] == [
        (Answer.FAILS, errno.EPERM),
        (Answer.FAILS, errno.ENOSYS),
        (Answer.WORKS, 0),
        (Answer.UNTRIED, errno.EPERM),
    ]


def test_without_openat2_and_filters() -> None:
    """gVisor has had no openat2; some filters forbid further filters."""
    answers = probe("openat2", "filter", "filter-notify", prefix=filtered(openat2=errno.ENOSYS, seccomp=errno.EPERM))
    assert [answer.number for answer in answers.values()] == [errno.ENOSYS, errno.EPERM, errno.EPERM]


def test_a_probe_that_hangs_is_ended(tmp_path: Path) -> None:
    """After ten seconds, with all its processes and its directory; the next one has its turn."""
    name = f"overlay={tmp_path}"
    with not_blocked(40):
        answers = probe(name, "pidfd", prefix=filtered(unshare=0))
    assert (answers[name].answer, answers[name].number) == (Answer.UNTRIED, errno.ETIMEDOUT)
    assert answers["pidfd"].works
    assert os.listdir(tmp_path) == []


@pytest.mark.root
@pytest.mark.parametrize("controller", ["memory", "pids", "cpu"])
def test_a_cgroup_of_our_own(controller: str) -> None:
    """A child takes limits and a process, and is gone afterwards."""
    top = Path("/sys/fs/cgroup", controller)
    if not top.is_dir():
        pytest.skip("needs cgroup v1 hierarchies")
    before = sorted(os.listdir(top))
    answer = probe(f"cgroup={top}")[f"cgroup={top}"]
    assert answer.works and controller in answer.words.split(), answer
    assert sorted(os.listdir(top)) == before
