"""writable="tmpfs:SIZE": what is written stays in memory, as much as was said, and goes with the processes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.subjects import Box

from lisrt import HostError, Limits


@pytest.fixture
def memory(open_box: Callable[..., Box], request: pytest.FixtureRequest) -> Callable[..., Box] | None:
    """Opens one; under bubblewrap that is refused by name, and a fork can't be had."""

    def make(**options: Any) -> Box:
        return open_box(writable="tmpfs:32MiB", **options)

    subject = request.node.callspec.params["subject"]
    if "bwrap" in subject or "forked" in subject:
        with pytest.raises(HostError, match="memory"):
            make()
        return None
    return make


def test_what_is_written_is_in_memory(memory: Callable[..., Box] | None) -> None:
    """And nowhere in the scratch directory; the sandbox works as others do."""
    if memory is None:
        return
    box = memory()
    box.sh("echo x > f; mkdir d; rm /etc/hosts; rm -r /home/user; mkdir /home/user; ls -A /home/user").check()
    assert box.sh("cat f; test -e /etc/hosts || echo gone; stat -f -c %T /testbed").stdout.split()[:2] == ["x", "gone"]
    place = Path(box.sandbox._box.home.scratch) / box.id
    assert os.listdir(place) == []
    assert "32 MiB of memory" in box.guarantees["disk"]


def test_its_size_is_the_limit(memory: Callable[..., Box] | None) -> None:
    """ENOSPC beyond it, for bytes and for files; what is deleted can be used again."""
    if memory is None:
        return
    box = memory()
    result = box.sh("head -c 64M /dev/zero > big")
    assert result.exit_code == 1 and "No space left" in result.stderr
    assert (24 << 20) < int(box.sh("stat -c %s big").stdout) <= (32 << 20)
    assert box.sh("rm big && head -c 16M /dev/zero > big && echo fits").stdout == "fits\n"
    many = box.python("for i in range(20000): open(f'/tmp/{i}', 'w').close()")
    assert many.exit_code == 1 and "No space left" in many.stderr


def test_reset_empties_it(memory: Callable[..., Box] | None) -> None:
    """Back to the start; snapshots, forks and diff are refused by name."""
    if memory is None:
        return
    box = memory()
    box.write("f", "x")
    for verb in ("snapshot", "fork", "diff"):
        with pytest.raises(HostError, match="memory of its own"):
            box.start(verb).result()
    assert box.read("f") == b"x"
    box.reset()
    assert box.sh("ls -A").stdout == ""


@pytest.mark.parametrize("writable", ["", "tmpfs", "tmpfs:", "tmpfs:x", "tmpfs:0", "tmpfs:4K", "ram:1G", "disk:1G"])
def test_what_makes_no_sense(open_box: Callable[..., Box], writable: str) -> None:
    """ValueError."""
    with pytest.raises(ValueError):
        open_box(writable=writable)


def test_two_limits(open_box: Callable[..., Box]) -> None:
    """Its size, and none on disk besides."""
    with pytest.raises(ValueError, match="its own size"):
        open_box(writable="tmpfs:1GiB", limits=Limits(disk="1GiB"))
