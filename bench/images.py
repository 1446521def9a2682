"""What images cost: creations of one in turn with `host`; snapshots and forks with a megabyte and with a gigabyte written; a
tree of a thousand forks.

    python bench/images.py [IMAGE]

Times are medians of one run, in milliseconds, all in turn, so that what else the machine does meets them alike.
"""

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from lisrt import Sandbox

ROUNDS = 100
NODES = 1000


class Times:
    """Durations by name."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Times the body."""
        started = time.perf_counter()
        yield
        self._found.setdefault(name, []).append(time.perf_counter() - started)

    def print(self) -> None:
        """A line for each."""
        for name, found in self._found.items():
            found.sort()
            low, middle, high = found[len(found) // 10], statistics.median(found), found[len(found) * 9 // 10]
            print(f"{name:28} {middle * 1000:8.2f}   10-90 %: {low * 1000:.2f}-{high * 1000:.2f}   of {len(found)}")


def creations(image: str, times: Times) -> None:
    """Of the image and of `host`, in turn, each used once."""
    for _ in range(3 * ROUNDS):
        for name in ("host", image):
            with times.of(f"create, {name}"):
                box = Sandbox(name)
            box.run(["true"]).check()
            box.close()


def branches(image: str | None, times: Times) -> None:
    """Snapshots and forks of a small and a large sandbox, in turn with creations."""
    with Sandbox(image) as small, Sandbox(image) as large:
        small.sh("head -c 1M /dev/urandom > data").check()
        large.sh("head -c 1G /dev/zero > data").check()
        starts = {small: small.snapshot(), large: large.snapshot()}
        for number in range(ROUNDS):
            with times.of("create"):
                box = Sandbox(image)
            with times.of("destroy"):
                box.close()
            for name, one in (("1 MB", small), ("1 GB", large)):
                one.write("mark", str(number))
                with times.of(f"snapshot, {name}"):
                    one.snapshot()
                one.write("mark", str(number))
                with times.of(f"fork, {name}"):
                    twin = one.fork()
                assert twin.read_text("mark") == str(number)
                twin.close()
            if number % 4 == 3:  # else what is measured is a stack of thirty layers
                small.reset(starts[small])
                large.reset(starts[large])


def tree(image: str | None, times: Times) -> None:
    """A thousand sandboxes, each forked from another one, all alive; afterwards nothing of them is left."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(Sandbox(image))]
        scratch = nodes[0]._box.home.scratch
        started = time.perf_counter()
        for number in range(1, NODES):
            parent = nodes[(number - 1) // 2]
            with times.of("fork in a tree of 1000"):
                nodes.append(stack.enter_context(parent.fork()))
            nodes[-1].write("way", parent.read_text("way") + f" {number}" if number > 2 else str(number))
        print(f"{NODES} nodes in {time.perf_counter() - started:.1f} s, with a file written and read for each")
        assert nodes[-1].read_text("way").split()[-1] == str(NODES - 1)
    del nodes, parent, stack
    gc.collect()
    wait_until(lambda: not [name for name in os.listdir(scratch) if name[0] in "fb"])
    print("nothing is left of them")


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "layers are left"
        time.sleep(0.1)


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else None
    found = Times()
    if chosen not in (None, "host"):
        creations(str(chosen), found)
    branches(chosen, found)
    tree(chosen, found)
    found.print()
