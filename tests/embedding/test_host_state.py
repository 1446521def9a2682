"""Host programs in odd states: signals, descriptors, memory, directories. lisrt works there, or says plainly why not."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.features import missing
from support.fresh import environment, python
from support.procs import leftovers
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("working_host")

#: What every one of these programs does: sandboxes work, and the program's own children are its own.
WORK = """
import os, subprocess, sys
from lisrt import Sandbox

def work(own_children=True):
    with Sandbox() as box:
        for number in (0, 1, 7):
            result = box.run(["sh", "-c", f"cat; echo err >&2; exit {number}"], stdin="in")
            assert (result.exit_code, result.stdout, result.stderr) == (number, "in", "err\\n"), result
        assert box.run(["sleep", "1000"], timeout=0.1).outcome == "timed_out"
        assert box.sh("kill -TERM $$").signal == 15
        assert box.run(["sh", "-c", "grep Sig /proc/self/status"]).stdout.count("0000000000000000") >= 3
        box.write("file", b"x" * 100_000)
        assert box.read("file") == b"x" * 100_000
        if own_children:
            child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 9"], os.environ)
            box.run(["true"])
    if own_children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert subprocess.run(["sh", "-c", "exit 5"]).returncode == 5
"""


def test_a_sigchld_handler(tmp_path: Path) -> None:
    """A program that reaps in its SIGCHLD handler: it sees its own children, and calls of lisrt aren't disturbed."""
    source = """
import signal
seen = []

def on_child(number, frame):
    seen.append(number)

signal.signal(signal.SIGCHLD, on_child)
for _ in range(3):
    work()
assert seen
"""
    python(WORK + source, cwd=tmp_path)


def test_a_handler_that_reaps_everything(tmp_path: Path) -> None:
    """A handler that calls waitpid(-1) until there is nothing left takes nothing that lisrt needs."""
    source = """
import signal
reaped = {}

def on_child(number, frame):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        reaped[pid] = status

signal.signal(signal.SIGCHLD, on_child)
for _ in range(3):
    work(own_children=False)
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 9"], os.environ)
    with Sandbox() as box:
        while child not in reaped:
            assert box.run(["true"]).ok
    assert os.waitstatus_to_exitcode(reaped[child]) == 9
"""
    python(WORK + source, cwd=tmp_path)


def test_sigchld_ignored(tmp_path: Path) -> None:
    """A program that ignores SIGCHLD has its children reaped by the kernel; sandboxes work all the same."""
    source = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(3):
    work(own_children=False)
"""
    python(WORK + source, cwd=tmp_path)


def test_all_signals_blocked(tmp_path: Path) -> None:
    """A program with every signal blocked in all threads; inside, nothing is blocked."""
    source = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
work()
with Sandbox() as box:
    status = box.run(["cat", "/proc/self/status"]).stdout
    assert "SigBlk:\\t0000000000000000" in status, status
"""
    python(WORK + source, cwd=tmp_path)


def test_all_signals_ignored(tmp_path: Path) -> None:
    """A program that ignores whatever can be ignored (nohup and worse); inside, nothing is ignored."""
    source = """
import signal
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
work(own_children=False)
with Sandbox() as box:
    status = box.run(["cat", "/proc/self/status"]).stdout
    assert "SigIgn:\\t0000000000000000" in status, status
"""
    python(WORK + source, cwd=tmp_path)


def test_a_waitpid_loop(tmp_path: Path) -> None:
    """A program whose thread waits for any child all the time (a supervisor) neither breaks lisrt nor is broken by it."""
    source = """
import threading
reaped = {}
born = threading.Condition()

def supervise():
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            pid = 0
        with born:
            if pid:
                reaped[pid] = status
                born.notify_all()
            else:
                born.wait(0.01)

threading.Thread(target=supervise, daemon=True).start()
for _ in range(5):
    work(own_children=False)
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 9"], os.environ)
    work(own_children=False)
    with born:
        assert born.wait_for(lambda: child in reaped, timeout=20)
    assert os.waitstatus_to_exitcode(reaped[child]) == 9
"""
    python(WORK + source, cwd=tmp_path)


def test_the_hosts_children_are_not_killed(tmp_path: Path) -> None:
    """Timeouts and closing end the sandbox's processes, never a child of the program itself."""
    source = """
child = subprocess.Popen(["sleep", "1000"])
group = subprocess.Popen(["sleep", "1000"], start_new_session=True)
work()
assert child.poll() is None and group.poll() is None
for process in (child, group):
    process.kill()
    process.wait()
"""
    python(WORK + source, cwd=tmp_path)


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1", "1 2", "0 1 2"])
def test_closed_standard_streams(tmp_path: Path, closed: str) -> None:
    """A daemon without stdin, stdout or stderr: descriptors get the low numbers, and nothing is confused by it."""
    answer = tmp_path / "answer"
    source = f"""
for _ in range(3):
    work(own_children=False)
assert os.path.exists("/usr")
with open({str(answer)!r}, "w") as stream:
    stream.write("worked")
"""
    script = tmp_path / "scenario.py"
    script.write_text(
        f"""
import traceback
try:
    exec({WORK + source!r})
except BaseException:
    open({str(answer)!r}, "w").write(traceback.format_exc())
"""
    )
    redirections = " ".join(f"{fd}>&-" for fd in closed.split())
    command = ["sh", "-c", f'exec "$0" "$1" {redirections}', sys.executable, str(script)]
    subprocess.run(command, env=environment(), check=True, timeout=60)
    assert answer.read_text() == "worked"


def test_the_cwd_is_gone(tmp_path: Path) -> None:
    """A program whose working directory was deleted."""
    source = """
import tempfile
place = tempfile.mkdtemp()
os.chdir(place)
os.rmdir(place)
work()
with Sandbox() as box, tempfile.TemporaryDirectory() as host:
    box.write("file", "x")
    box.download("file", host + "/file")
    box.upload(host + "/file", "back")
    assert box.read("back") == b"x"
"""
    python(WORK + source, cwd=tmp_path)


def test_the_cwd_can_change(tmp_path: Path) -> None:
    """A relative host path means the cwd of the moment, as everywhere in Python."""
    source = """
os.mkdir("a")
os.mkdir("b")
open("a/file", "w").write("from a")
open("b/file", "w").write("from b")
with Sandbox() as box:
    for place in "ab":
        os.chdir(place)
        box.upload("file", place)
        box.download(place, "copy")
        assert open("copy").read() == "from " + place
        os.chdir("..")
"""
    python(WORK + source, cwd=tmp_path)


@pytest.mark.parametrize("mask", ["0o077", "0o027", "0o000"])
def test_the_hosts_umask(tmp_path: Path, scratch: Path, mask: str) -> None:
    """The program's umask neither breaks a sandbox, nor shows inside, nor opens the scratch directory to others."""
    source = f"""
os.umask({mask})
work()
with Sandbox() as box:
    assert box.sh("umask; touch f; stat -c %a f").stdout == "0022\\n644\\n"
    box.write("g", "x")
    assert box.sh("stat -c %a g").stdout == "644\\n"
    top = os.environ["LISRT_SCRATCH"]
    for name in os.listdir(top):
        assert os.stat(os.path.join(top, name)).st_mode & 0o077 == 0, name
"""
    python(WORK + source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)})


def test_inheritable_descriptors_of_the_host(tmp_path: Path) -> None:
    """Descriptors that the program left inheritable reach neither the sandbox nor the helper: their other ends see EOF."""
    source = """
import select
r, w = os.pipe()
os.set_inheritable(w, True)
secret = os.open("/etc/hostname", os.O_RDONLY)
os.set_inheritable(secret, True)
with Sandbox() as box:
    script = "import os; print([fd for fd in range(3, 1024) if os.path.lexists(f'/proc/self/fd/{fd}')])"
    assert box.run(["python3", "-c", script]).stdout == "[]\\n"
    os.close(w)
    assert select.select([r], [], [], 10)[0] and os.read(r, 1) == b"", "someone else holds the pipe"
    assert box.run(["true"]).ok
"""
    python(WORK + source, cwd=tmp_path)


def test_warnings_are_errors(tmp_path: Path) -> None:
    """With -X dev and every warning an error, a full life of both faces says nothing: no unclosed file, no lost task."""
    source = """
import asyncio
from lisrt import AsyncSandbox

async def main():
    async with AsyncSandbox() as box:
        assert (await box.run(["cat"], stdin="x")).stdout == "x"
        try:
            await asyncio.wait_for(box.run(["sleep", "1000"]), 0.05)
        except TimeoutError:
            pass
        await box.write("f", "x")
        assert await box.read("f") == b"x"

work()
asyncio.run(main())
with Sandbox() as box:
    pass
"""
    done = python(WORK + source, cwd=tmp_path, options=["-X", "dev", "-W", "error"])
    assert (done.stdout, done.stderr) == ("", "")


def test_few_descriptors(tmp_path: Path) -> None:
    """At whatever point RLIMIT_NOFILE is hit, the error is typed, nothing is leaked, and with room all is well again."""
    source = """
import errno, resource
from lisrt import HostError, SetupError

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

def used():
    return sorted(int(fd) for fd in os.listdir("/proc/self/fd"))

def attempt(box):
    box.run(["cat"], stdin="x")
    box.write("f", "x")
    box.read("f")
    with Sandbox() as another:
        another.run(["true"])

failures = 0
with Sandbox() as box:
    attempt(box)
    before = used()
    for room in range(0, 30):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + room, hard))
        error = None
        try:
            attempt(box)
        except (OSError, HostError, SetupError) as raised:
            error = raised
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        failures += error is not None
        if isinstance(error, OSError):
            assert error.errno == errno.EMFILE, error
        assert used() == before, (room, before, used())
        assert box.alive
        attempt(box)
assert 3 <= failures < 30, failures
"""
    python(WORK + source, cwd=tmp_path)


def test_descriptors_run_out(tmp_path: Path) -> None:
    """A program that opens sandboxes until it can't gets a typed error, keeps those it has, and goes on after closing some."""
    source = """
import errno, resource
from lisrt import HostError, SetupError

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
boxes = []
try:
    while len(boxes) < 100:
        boxes.append(Sandbox())
except (OSError, HostError, SetupError) as error:
    assert not isinstance(error, OSError) or error.errno == errno.EMFILE
assert 12 < len(boxes) < 64, "a sandbox costs some descriptors"
for box in boxes[-12:]:
    box.close()
for box in boxes[:-12]:
    assert box.run(["true"]).ok
with Sandbox() as box:
    assert box.run(["true"]).ok
for box in boxes:
    box.close()
"""
    python(WORK + source, cwd=tmp_path)


def test_descriptors_above_1024(tmp_path: Path) -> None:
    """A program with thousands of open files: nothing relies on small descriptor numbers."""
    source = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if hard < 3000:
    print("skip")
    sys.exit()
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
files = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
work()
import asyncio
from lisrt import AsyncSandbox

async def main():
    async with AsyncSandbox() as box:
        assert (await box.run(["cat"], stdin="x", timeout=50)).stdout == "x"

asyncio.run(main())
"""
    if python(WORK + source, cwd=tmp_path).stdout:
        missing("room for 3,000 open files")


@pytest.mark.slow
def test_a_big_program_creates_as_fast_as_a_small_one(tmp_path: Path) -> None:
    """With a gibibyte resident, creating and running cost about what they cost without: nothing forks the program."""
    source = """
import statistics, time

def median(action, count=15):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)

def cycle():
    with Sandbox() as box:
        box.run(["true"])

cycle()
small = median(cycle)
ballast = bytearray(os.urandom(4096)) * (1 << 18)
resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
assert resident > 1 << 30
big = median(cycle)
assert big < 3 * small + 0.002, (small, big)
"""
    python(WORK + source, cwd=tmp_path)


@pytest.mark.slow
def test_a_big_program_starts_as_fast_as_a_small_one(tmp_path: Path) -> None:
    """The very first Sandbox of a program with a gibibyte resident is not paid for by the gibibyte."""
    source = """
import time
from lisrt import Sandbox

ballast = bytearray(b"x" * 4096) * (%d >> 12)
start = time.perf_counter()
Sandbox().close()
print(time.perf_counter() - start)
"""
    small = min(float(python(source % (1 << 20), cwd=tmp_path).stdout) for _ in range(2))
    big = min(float(python(source % (1 << 30), cwd=tmp_path).stdout) for _ in range(2))
    assert big < 3 * small + 0.005


# Where the host refuses

REFUSED = """
from lisrt import HostError, LisrtError, Sandbox, SetupError
import sys

try:
    with Sandbox() as box:
        status = box.run(["cat", "/proc/self/status"]).stdout
except HostError as error:
    assert error.check and error.fix and str(error), (error.check, error.fix)
    print("refused: host")
except SetupError as error:
    assert error.stage and str(error)
    print("refused: setup")
else:
    print("worked")
"""


@pytest.mark.parametrize("kind", ["user", "net", "pid", "mnt", "ipc", "uts"])
def test_a_host_that_allows_no_namespaces(tmp_path: Path, kind: str) -> None:
    """Where a kind of namespace is forbidden the sandbox is refused, with a check and a fix, not made weaker in silence."""
    if not shutil.which("unshare"):
        missing("unshare program")
    forbid = f'echo 0 > /proc/sys/user/max_{kind}_namespaces && exec "$@"'
    done = python(REFUSED, cwd=tmp_path, prefix=["unshare", "-U", "-r", "sh", "-c", forbid, "sh"])
    assert done.stdout == "refused: host\n"


def test_sandboxes_within_a_user_namespace(tmp_path: Path) -> None:
    """A program that is itself root of a user namespace either gets its sandboxes or is told why not."""
    if not shutil.which("unshare"):
        missing("unshare program")
    done = python(REFUSED, cwd=tmp_path, prefix=["unshare", "-U", "-r"])
    assert done.stdout in ("worked\n", "refused: host\n", "refused: setup\n")


@pytest.mark.parametrize("scratch_is", ["a file", "missing below a file", "closed"])
def test_a_scratch_that_can_not_be_used_is_named(tmp_path: Path, scratch_is: str, unprivileged: None) -> None:
    """A scratch base that can't hold sandboxes is an error that names it; nothing is made elsewhere instead."""
    place = tmp_path / "place"
    if scratch_is == "closed":
        place.mkdir(mode=0o500)
    else:
        place.write_text("")
    path = place / "below" if scratch_is == "missing below a file" else place
    source = """
        import os
        from lisrt import LisrtError, Sandbox
        try:
            Sandbox().close()
        except (LisrtError, OSError) as error:
            print(error)
        else:
            print("worked")
    """
    done = python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(path)})
    assert str(path) in done.stdout


def is_clean(scratch: Path) -> bool:
    """Nothing of a program that has ended is left in its scratch base."""
    return not leftovers(scratch)


@pytest.mark.slow
def test_a_scratch_with_odd_names(tmp_path: Path) -> None:
    """Commas, colons, backslashes, blanks and bytes in the scratch path confuse no mount option."""
    for name in ("a,b", "a:b", "a\\b", "a b", "é", "a=b", "caf\udce9", "%s", "new\nline"):
        scratch = tmp_path / name
        scratch.mkdir()
        python(WORK + "work()", cwd=tmp_path, env={"LISRT_SCRATCH": os.fspath(scratch)})
        eventually(functools.partial(is_clean, scratch), within=10, what="an empty scratch directory")


def test_mount_sources_with_odd_names(tmp_path: Path) -> None:
    """So do the names of mounted directories."""
    source = """
from lisrt import Mount
for name in ("a,b", "a:b", "a\\\\b", "a b", "caf\\udce9", "new\\nline"):
    os.mkdir(name)
    open(name + "/file", "w").write("x")
    with Sandbox(mounts=[Mount(os.path.abspath(name), "/data/" + name)]) as box:
        assert box.read("/data/" + name + "/file") == b"x"
"""
    python(WORK + source, cwd=tmp_path)
