"""PID 1 against programs with the same ids: it is not to be changed, stopped, deceived or taken over, and serves on."""

import pytest
from support.subjects import Box
from support.waiting import not_blocked

from lisrt import Outcome

STATE = r"""
import os, resource
def state():
    stat = open("/proc/1/stat").read().rpartition(")")[2].split()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in open("/proc/1/status"))}
    return {
        "nice": stat[16], "policy": stat[38], "rt priority": stat[37], "io": libc.syscall(ioprio_get, 1, 1),
        "cpus": os.sched_getaffinity(1), "limits": [resource.prlimit(1, number) for number in range(16)],
        "group": stat[2:4], "blocked": status["SigBlk"], "oom": open("/proc/1/oom_score_adj").read(),
        "traced": status["TracerPid"], "stopped": stat[0] == "T",
    }
from kernel import attempt, call, libc
ioprio_get = {"x86_64": 252, "aarch64": 31}[os.uname().machine]
"""


def assert_serves(box: Box) -> None:
    """Commands, files and time limits work as before."""
    box.write("after", "x")
    assert box.read("after") == b"x"
    assert box.run(["echo", "alive"]).stdout == "alive\n"
    with not_blocked():
        assert box.sh("sleep 1000 & sleep 1000", timeout=0.3).outcome is Outcome.TIMED_OUT


CHANGES = {
    "every limit to 0": "[call('prlimit64', 1, number, struct.pack('QQ', 0, 0), 0) for number in range(16)]",
    "a limit, by a pid with high bits": "[call('prlimit64', 1 << 32 | 1, 7, struct.pack('QQ', 3, 3), 0)]",
    "its scheduler": "[call('sched_setscheduler', 1, policy, struct.pack('I', 0)) for policy in (0, 3, 5)]",
    "its priority": "[call('sched_setparam', 1, struct.pack('I', 0))]",
    "its attributes": "[call('sched_setattr', 1, struct.pack('IIQiIQQQ', 48, 5, 0, 19, 0, 0, 0, 0), 0)]",
    "its processors": "[call('sched_setaffinity', 1, 8, struct.pack('Q', 1))]",
    "its nice value": "[call('setpriority', 0, 1, 19), call('setpriority', 1, 1, 19), call('setpriority', 2, 0, 19)]",
    "its share of the disk": "[call('ioprio_set', which, who, 3 << 13) for which, who in ((1, 1), (2, 1), (3, 0))]",
    "its memory": "[call('migrate_pages', 1, 64, struct.pack('Q', 1), struct.pack('Q', 1))]",
}


@pytest.mark.parametrize("what", CHANGES)
def test_it_can_not_be_changed(box: Box, what: str) -> None:
    """prlimit, the scheduler's calls and their like ask for no more than the same ids; the filter asks for another pid."""
    source = f"import struct\nbefore = state()\nprint(*{CHANGES[what]})\nassert state() == before, (before, state())"
    assert set(box.python(STATE + source).check().stdout.split()) == {"EPERM"}
    assert_serves(box)


def test_its_files_in_proc_can_not_be_written(box: Box) -> None:
    """Nor can those that weigh it against others: oom_score_adj, autogroup, its name."""
    source = """
for name in ("oom_score_adj", "oom_adj", "autogroup", "comm", "clear_refs", "coredump_filter", "timerslack_ns", "mem",
             "uid_map", "setgroups", "attr/current", "loginuid", "make-it-fail"):
    print(attempt(os.open, f"/proc/1/{name}", os.O_WRONLY), attempt(os.chmod, f"/proc/1/{name}", 0o666))
"""
    assert set(box.python(STATE + source).check().stdout.split()) <= {"EROFS", "EACCES", "EPERM", "ENOENT"}
    assert_serves(box)


def test_it_can_not_be_taken_over(box: Box) -> None:
    """ptrace, another process's memory, descriptors and executable: refused, PID 1 being no process that can be dumped."""
    source = """
import ctypes
buffer = ctypes.create_string_buffer(8)
class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
mine, theirs = iovec(ctypes.addressof(buffer), 8), iovec(0x400000, 8)
for request in (16, 0x4206, 4, 12):  # ATTACH, SEIZE, POKETEXT, GETREGS
    print(call("ptrace", request, 1, 0, 0))
print(call("process_vm_readv", 1, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0))
print(call("process_vm_writev", 1, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0))
pidfd = os.pidfd_open(1)
for fd in range(12):
    print(call("pidfd_getfd", pidfd, fd, 0))
for request in range(0xFF01, 0xFF0B):  # PIDFD_GET_*_NAMESPACE
    print(call("ioctl", pidfd, request, 0))
for name in ("exe", "cwd", "root", "fd/3", "ns/user", "ns/mnt"):
    print(attempt(os.readlink, f"/proc/1/{name}"), attempt(os.open, f"/proc/1/{name}", os.O_RDONLY))
for name in ("environ", "maps", "mem", "auxv", "syscall", "stack", "smaps_rollup"):
    print(attempt(lambda: open(f"/proc/1/{name}", "rb").read(1)))
"""
    answers = box.python(STATE + source).check().stdout.split()
    refusals = {"EPERM", "EACCES", "ESRCH", "ENOENT", "EIO", "ENOTTY", "EINVAL", "ENOSYS"}
    assert len(answers) >= 40
    assert set(answers) <= refusals
    assert_serves(box)


@pytest.mark.parametrize("name", ["KILL", "STOP", "TERM", "SEGV", "ABRT", "QUIT", "HUP", "TSTP", "TTIN", "CHLD", "IO", "PIPE"])
def test_it_can_not_be_signalled(box: Box, name: str) -> None:
    """By kill, tgkill, a pidfd, and by the kernel on behalf of a descriptor (F_SETOWN with a signal of one's choice)."""
    source = """
import fcntl, signal, socket, sys
number = getattr(signal, "SIG" + sys.argv[1])
before = state()
for _ in range(50):
    os.kill(1, number)
    signal.pidfd_send_signal(os.pidfd_open(1), number)
    call({"x86_64": 234, "aarch64": 131}[os.uname().machine], 1, 1, int(number))  # tgkill
one, other = socket.socketpair()
attempt(fcntl.fcntl, one, fcntl.F_SETOWN, 1)
attempt(fcntl.fcntl, one, 10, int(number))  # F_SETSIG
fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
for _ in range(50):
    other.send(b"x")
    one.recv(1)
assert state() == before, (before, state())
print("unmoved")
"""
    assert box.python(STATE + source, name).check().stdout == "unmoved\n"
    assert_serves(box)


def test_signals_with_a_forged_sender(box: Box) -> None:
    """rt_sigqueueinfo says whatever it likes about where a signal comes from: not to PID 1."""
    source = """
import struct
info = bytearray(128)
for code in (-1, -2, -6, -60):
    struct.pack_into("iii", info, 0, 9, 0, code)
    print(call("rt_sigqueueinfo", 1, 9, bytes(info)), call("rt_tgsigqueueinfo", 1, 1, 17, bytes(info)))
"""
    assert set(box.python(STATE + source).check().stdout.split()) == {"EPERM"}
    assert_serves(box)


def test_a_flood_of_signals(box: Box) -> None:
    """Half a million of them, real-time ones that queue among them, while commands start and end."""
    flood = """
import os, signal
print("flooding", flush=True)
while True:
    for number in (signal.SIGCHLD, signal.SIGRTMIN, signal.SIGRTMAX, signal.SIGSTOP, signal.SIGKILL):
        os.kill(1, number)
"""
    pending = [box.start("run", ["python3", "-c", flood], timeout=3) for _ in range(4)]
    with not_blocked():
        for number in range(50):
            assert box.run(["echo", str(number)]).stdout == f"{number}\n"
    assert all(call.result().outcome is Outcome.TIMED_OUT for call in pending)
    assert_serves(box)


def test_an_orphan_brings_no_signal_of_its_choice(box: Box) -> None:
    """A child whose death is to raise SIGKILL in its parent, and whose parent is then PID 1; and PID 1's own children."""
    source = """
import signal
read, write = os.pipe()
def orphan(flags):
    if call("clone", int(flags), 0, 0, 0, 0) == "0":
        while os.getppid() != 1:
            os.sched_yield()
        os.write(write, b"x")
        os._exit(0)
for flags in (signal.SIGKILL, signal.SIGSTOP, signal.SIGRTMIN, 0):
    middle = os.fork()
    if middle == 0:
        orphan(flags)
        os._exit(0)
    os.waitpid(middle, 0)
    assert os.read(read, 1) == b"x"
CLONE_PARENT = 0x8000
for flags in (signal.SIGKILL, signal.SIGSTOP, signal.SIGRTMIN, 0):
    orphan(CLONE_PARENT | flags)
    assert os.read(read, 1) == b"x"
print("done")
"""
    assert box.python(STATE + source).check().stdout == "done\n"
    assert_serves(box)
    with not_blocked():
        source = "import os\nwhile any(n.isdigit() and int(n) not in (1, os.getpid()) for n in os.listdir('/proc')): pass"
        assert box.python(source, timeout=15).ok, "PID 1 reaps them, whatever their signal"


def test_a_sibling_dies_with_its_command(box: Box) -> None:
    """CLONE_PARENT makes a child of PID 1, not of the command; at the time limit it is killed all the same."""
    source = """
if call("clone", 0x8000 | 17, 0, 0, 0, 0) == "0":
    os.setsid()
import time
time.sleep(1000)
"""
    with not_blocked():
        assert box.python(STATE + source, timeout=1).outcome is Outcome.TIMED_OUT
    alone = "import os; print([n for n in os.listdir('/proc') if n.isdigit() and int(n) not in (1, os.getpid())])"
    assert box.python(alone).stdout == "[]\n"


def test_everything_else_can_be_killed(box: Box) -> None:
    """kill(-1) takes the sandbox's own processes, and neither PID 1 nor anything of the host."""
    pending = box.start("run", ["sleep", "1000"])
    source = "import os, signal; os.kill(-1, signal.SIGKILL); print('I am spared by the kernel')"
    with not_blocked():
        assert box.python(source).stdout == "I am spared by the kernel\n"
        assert pending.result().signal == 9
    assert_serves(box)
