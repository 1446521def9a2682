"""Two hundred sandboxes later, everything is as it was before the first."""

from pathlib import Path

import pytest
from support.fresh import python
from support.procs import leftovers, mounts_naming
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("working_host")

#: Counts what could leak: of this process, of its helpers, of the scratch directory.
COUNT = """
import asyncio, os, threading, time
from support.procs import children, helpers as helpers_of, tree
from lisrt import AsyncSandbox, CommandFailed, Sandbox
from pathlib import Path

scratch = Path(os.environ["LISRT_SCRATCH"])

def fds(pid):
    found = {}
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0]
            except FileNotFoundError:
                pass
    except (PermissionError, FileNotFoundError, ProcessLookupError):  # a PID 1, which nobody may look into; or gone
        pass
    networks = [name for name in found.values() if name == "net"]
    assert len(networks) <= 4, "made ahead, and kept"  # fewer while others are being made
    return sorted(name for name in found.values() if name != "net")

def mounts(pid):
    try:
        return len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return 0

def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

def count():
    helpers = sorted(helpers_of(scratch) - {os.getpid()})
    return {
        "own descriptors": fds("self"),
        "helpers": helpers,
        "helpers' descriptors": {pid: fds(pid) for pid in helpers},
        "children": sorted(children(os.getpid())),
        "threads": threading.active_count(),
        "tasks": len(os.listdir("/proc/self/task")),
        "mounts": {pid: mounts(pid) for pid in [os.getpid(), *helpers]},
        "scratch": tree(scratch),
    }

def settled():
    deadline = time.monotonic() + 10
    now = None
    while (before := now) != (now := count()):
        assert time.monotonic() < deadline, f"never at rest: {before} became {now}"
        time.sleep(0.05)
    return now

def settles_to(before):
    deadline = time.monotonic() + 10
    while (now := count()) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    for what in before:
        assert now[what] == before[what], f"{what}: {before[what]} became {now[what]}"
"""


@pytest.mark.slow
def test_two_hundred_cycles(tmp_path: Path, scratch: Path) -> None:
    """Create, run, write, close, two hundred times: descriptors, children, threads, mounts and directories are as before."""
    source = """
def cycle(number):
    with Sandbox() as box:
        assert box.run(["echo", str(number)]).stdout == f"{number}\\n"
        box.write("/testbed/file", b"x" * 10_000)
        box.sh("sleep 1000 & (setsid sleep 1000 &)")

for number in range(3):
    cycle(number)
before, memory = settled(), resident("self")
helpers = {pid: resident(pid) for pid in before["helpers"]}
for number in range(200):
    cycle(number)
settles_to(before)
assert resident("self") - memory < 16 << 20, "memory of the program"
for pid, size in helpers.items():
    assert resident(pid) - size < 1 << 20, "memory of a helper"
"""
    python(COUNT + source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, within=200)
    assert_scratch_is_clean(scratch)


@pytest.mark.slow
def test_fifty_async_cycles_side_by_side(tmp_path: Path, scratch: Path) -> None:
    """The same for AsyncSandbox, several at once, some of them cancelled in the middle."""
    source = """
async def cycle(number):
    async with AsyncSandbox() as box:
        await box.write("/testbed/file", b"x" * 10_000)
        if number % 5 == 4:
            try:
                await asyncio.wait_for(box.run(["sleep", "1000"]), 0.05)
            except TimeoutError:
                pass
        assert (await box.run(["echo", str(number)])).stdout == f"{number}\\n"

async def main():
    await asyncio.gather(*(cycle(number) for number in range(5)))
    before = settled()
    for _ in range(10):
        await asyncio.gather(*(cycle(number) for number in range(5)))
    settles_to(before)

async def abandoned():
    task = asyncio.create_task(AsyncSandbox().__aenter__())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

asyncio.run(main())
before = settled()
for _ in range(20):
    asyncio.run(abandoned())
asyncio.run(main())
settles_to(before)
"""
    python(COUNT + source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, within=200)
    assert_scratch_is_clean(scratch)


@pytest.mark.slow
def test_failures_leak_nothing(tmp_path: Path, scratch: Path) -> None:
    """Timeouts, missing programs, refusals, oversized output, failed transfers and failed openings leave nothing open."""
    source = """
import contextlib
from lisrt import Mount

def mishaps(box):
    box.run(["sleep", "1000"], timeout=0.02)
    box.run(["no-such-program"])
    box.run(["head", "-c", "300000", "/dev/zero"], max_output=1000)
    box.run(["true"], stdin=b"x" * 1_000_000)
    failing = [
        lambda: box.run(["/testbed"]),
        lambda: box.run(["true"], cwd="/missing"),
        lambda: box.run(["a\\0"]),
        lambda: box.run(["echo", "x" * 200_000]),
        lambda: box.run(["true"], timeout=-1),
        lambda: box.read("/missing"),
        lambda: box.read("/dev/zero"),
        lambda: box.read("/testbed"),
        lambda: box.read("/etc/passwd", max_bytes=1),
        lambda: box.write("/testbed", "x"),
        lambda: box.write("/etc/passwd/x", "x"),
        lambda: box.upload("/missing", "x"),
        lambda: box.upload("/dev/zero", "x"),
        lambda: box.download("/missing", scratch.parent / "never"),
        lambda: box.download("/etc/passwd", "/missing/dir/file"),
        lambda: box.run(["false"]).check(),
        lambda: Sandbox(image="no-such-image"),
        lambda: Sandbox(network="bogus"),
        lambda: Sandbox(mounts=[Mount("/missing", "/data")]),
        lambda: Sandbox(env={"A=B": "x"}),
    ]
    for call in failing:
        try:
            call()
        except Exception:
            continue
        raise AssertionError(f"mishap number {failing.index(call)} did not fail")

with Sandbox() as box:
    mishaps(box)
    before = settled()
    for _ in range(20):
        mishaps(box)
    settles_to(before)
"""
    python(COUNT + source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, within=200)
    assert_scratch_is_clean(scratch)


def test_one_live_sandbox_has_a_bounded_cost(tmp_path: Path, scratch: Path) -> None:
    """A live, idle sandbox costs the program few descriptors and no thread."""
    source = """
with Sandbox() as first:
    before = settled()
    boxes = [Sandbox() for _ in range(20)]
    now = count()
    assert now["threads"] == before["threads"], "a thread per sandbox"
    assert len(now["own descriptors"]) - len(before["own descriptors"]) <= 20 * 6
    for box in boxes:
        box.close()
    settles_to(before)
"""
    python(COUNT + source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)})


def test_awkward_trees_are_removed(tmp_path: Path, scratch: Path) -> None:
    """Whatever a sandbox leaves in its layer goes with it: closed directories, deep ones, odd names, immutable-looking ones."""
    source = """
from lisrt import Sandbox

with Sandbox() as box:
    box.sh('''
        mkdir -p closed/below; touch closed/below/file; chmod 000 closed/below closed
        mkfifo fifo; ln -s / r; touch $'new\\nline' $'\\\\xff'; mkdir -- -rf; rm -r /etc/ssl; mkdir /etc/ssl; chmod 500 /etc/ssl
        chattr +i closed 2>/dev/null; for i in $(seq 2000); do echo > many-$i; done
    ''')
    box.run(["python3", "-c", "import os\\nfor _ in range(3000): os.mkdir('dd'); os.chdir('dd')"])
"""
    python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)})
    assert_scratch_is_clean(scratch)


def assert_scratch_is_clean(scratch: Path) -> None:
    """After a clean exit the scratch base has no directory of any sandbox and no one has it mounted."""
    assert mounts_naming(str(scratch)) == {}
    eventually(lambda: not leftovers(scratch), within=10, what="an empty scratch directory")
