"""Programs that waste what no limit counts: depth, names, output, arguments, dead children. Limits have their own suite."""

import os
import resource
from pathlib import Path

import pytest
from support.command import Cli
from support.fresh import python
from support.subjects import Box
from support.waiting import not_blocked

from lisrt import Outcome

DEEP = """
import os
for _ in range(20_000):
    os.mkdir("dd")
    os.chdir("dd")
open("at the bottom", "w").close()
print("done")
"""


def test_directories_deeper_than_any_path(tmp_path: Path, scratch: Path) -> None:
    """20,000 below each other: made inside, gone after the close, with neither recursion nor paths that grow."""
    source = f"""
        from lisrt import Sandbox
        with Sandbox() as box:
            print(box.run(["python3", "-c", {DEEP!r}]).check().stdout, end="")
        with Sandbox() as box:
            print(box.run(["echo", "and others are made meanwhile"]).stdout, end="")
    """
    said = python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, within=40).stdout
    assert said == "done\nand others are made meanwhile\n"
    Cli(tmp_path, scratch)("gc")  # a program that ends does not wait so long for its directories
    assert [name for name in os.listdir(scratch / f"lisrt-{os.geteuid()}") if name[0] != "."] == []


@pytest.mark.slow
def test_ten_gigabytes_of_output(box: Box) -> None:
    """A verdict, the head, the tail and a count; this process grows by no more than what is kept."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with not_blocked(120):
        result = box.sh("echo first; head -c 10737418240 /dev/zero; echo last", timeout=110)
    assert result.outcome is Outcome.EXITED
    assert result.stdout_bytes.startswith(b"first\n") and result.stdout_bytes.endswith(b"last\n")
    assert result.dropped_stdout + len(result.stdout_bytes) == 10737418240 + 11
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_output_without_end(box: Box) -> None:
    """Both streams, to the time limit; other commands are served meanwhile."""
    with not_blocked():
        flood = box.start("sh", "yes | tee /dev/stderr", timeout=2)
        for number in range(10):
            assert box.run(["echo", str(number)]).stdout == f"{number}\n"
        result = flood.result()
    assert result.outcome is Outcome.TIMED_OUT
    assert result.truncated and len(result.stdout_bytes) == len(result.stderr_bytes) == 1 << 20


def test_output_that_is_no_text(box: Box) -> None:
    """Every byte there is, escape sequences for a terminal and NUL: exact as bytes, harmless as text."""
    data = bytes(range(256)) * 64 + b"\x1b]0;title\x07\x1b[2J\x9b5n\x00\xff\xfe\xed\xa0\x80"
    result = box.run(["cat"], stdin=data)
    assert result.stdout_bytes == data
    assert result.stdout == data.decode(errors="replace")


def test_input_that_is_never_read(box: Box) -> None:
    """Fifty megabytes for a program that sleeps, one that closes it, and one that a child inherits it from."""
    data = b"x" * (50 << 20)
    with not_blocked():
        assert box.run(["sleep", "1000"], stdin=data, timeout=0.5).outcome is Outcome.TIMED_OUT
        assert box.sh("exec <&-; echo closed", stdin=data).stdout == "closed\n"
        assert box.sh("sleep 1000 & echo left", stdin=data).stdout == "left\n"


@pytest.mark.parametrize("how", ["arguments", "environment", "one of each"])
def test_a_huge_start(box: Box, how: str) -> None:
    """A megabyte and a half of arguments and variables arrives; more than the kernel takes is an OSError, the box serves on."""
    many = ["x" * 1000] * 1500
    variables = {f"V{number}": "x" * 1000 for number in range(1500)}
    count = "import os, sys; print(len(sys.argv), sum(name[0] == 'V' for name in os.environ))"
    if how == "arguments":
        assert box.python(count, *many).stdout == "1501 0\n"
        with pytest.raises(OSError):
            box.run(["true", *many * 4])
    elif how == "environment":
        assert box.python(count, env=variables).stdout == "1 1500\n"
        with pytest.raises(OSError):
            box.run(["true"], env={f"W{number}": "x" * 100_000 for number in range(100)})
    else:
        with pytest.raises(OSError):
            box.run(["true", "x" * (1 << 20)])
        with pytest.raises(OSError):
            box.run(["true"], env={"V": "x" * (1 << 20)})
    assert box.run(["echo", "alive"]).stdout == "alive\n"


def test_a_flood_of_dead_children(box: Box) -> None:
    """Thousands of orphans for PID 1 to reap, and as many as fit that their parent never waits for."""
    source = """
import os, sys
for _ in range(3_000):
    if os.fork() == 0:  # double fork: the orphan is PID 1's
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
zombies = 0
try:
    for zombies in range(2_000):
        if os.fork() == 0:
            os._exit(0)
except BlockingIOError:
    pass
print(zombies > 100)
"""
    with not_blocked(50):
        flood = box.start("run", ["python3", "-c", source], timeout=45)
        served = 0
        while not flood.done():
            assert box.run(["echo", "served"]).stdout == "served\n"
            served += 1
        assert flood.result().stdout == "True\n"
    assert served > 3
    count = "import os; print(sum(name.isdigit() for name in os.listdir('/proc')))"
    assert box.python(count).stdout == "2\n", "PID 1 and this one: the zombies went with their parent"


def test_a_crash_leaves_no_core(box: Box, tmp_path: Path) -> None:
    """Every signal that dumps core: no file inside, none in this directory of the host, and the verdict is the signal."""
    for name in ("QUIT", "ILL", "ABRT", "FPE", "SEGV", "BUS", "SYS", "TRAP", "XCPU", "XFSZ"):
        result = box.sh(f"ulimit -c unlimited 2>/dev/null; exec sh -c 'kill -{name} $$'")
        assert result.outcome is Outcome.SIGNALED, name
    assert box.sh("find / -xdev -name 'core*' -size +0 -newer kernel.py -not -path '/proc/*' 2>/dev/null").stdout == ""
    assert not [name for name in os.listdir() if name.startswith("core") and os.path.isfile(name)]


def test_names_of_every_kind_by_the_thousand(box: Box, tmp_path: Path) -> None:
    """A directory of 4,000 files with newlines, bytes that are no text and the longest names comes out whole."""
    source = r"""
import os
os.mkdir("wide")
for number in range(4_000):
    kind = number % 4
    name = [b"plain", b"new\nline", b"\xff\xfe", b"n" * 240][kind] + b"%d" % number
    os.close(os.open(b"wide/" + name, os.O_CREAT | os.O_WRONLY))
"""
    box.python(source).check()
    with not_blocked(45):
        transfer = box.download("wide", tmp_path / "wide")
    assert transfer.files == 4_000 and transfer.skipped == ()
    assert len(os.listdir(tmp_path / "wide")) == 4_000


def test_it_can_stop_itself(box: Box) -> None:
    """SIGSTOP to everything, oneself included, is a timeout; the sandbox goes on."""
    with not_blocked():
        pending = box.start("run", ["sleep", "1000"], timeout=2)
        result = box.sh("kill -STOP -1; kill -STOP $$; echo resumed", timeout=1)
        assert result.outcome is Outcome.TIMED_OUT
        assert pending.result().outcome is Outcome.TIMED_OUT
    assert box.run(["echo", "alive"]).stdout == "alive\n"


def test_all_descriptors_in_use(box: Box) -> None:
    """Programs that open files, pipes, watches and timers to their limits: PID 1 keeps its own, and serves."""
    source = """
import os, signal
from kernel import libc
for make in (lambda: os.open("/dev/null", 0), os.pipe, lambda: os.eventfd(0), lambda: libc.epoll_create1(0),
             lambda: libc.timerfd_create(1, 0), lambda: os.open("f", os.O_CREAT | os.O_WRONLY)):
    if os.fork() == 0:
        try:
            for _ in range(100_000):
                if make() == -1:
                    break
        except OSError:
            pass
        os.write(1, b"full ")
        break
signal.pause()
"""
    pending = box.start("run", ["python3", "-c", source], timeout=6)
    with not_blocked(30):
        while not pending.done():
            assert box.run(["echo", "served"]).stdout == "served\n"
            box.write("after", "x")
            assert box.read("after") == b"x"
    assert pending.result().stdout.split() == ["full"] * 6
