"""Freezing: programs stand still while nobody needs them, and go on as if nothing had been."""

import os
import socket
from collections.abc import Callable

import pytest
from support.procs import assert_gone, assert_lives, marked
from support.subjects import Box
from support.waiting import eventually

import lisrt

OpenBox = Callable[..., Box]

#: Counts as fast as it can, in the background, in a file of memory that everybody can look at.
COUNTER = """if True:
    import mmap, os
    file = os.open("count", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 8)
    count = memoryview(mmap.mmap(file, 8)).cast("Q")
    if os.fork():
        os._exit(0)
    while True:
        count[0] += 1
"""
ECHO = """if True:
    import os, socket
    server = socket.create_server(("127.0.0.1", 8080))
    if os.fork():
        os._exit(0)
    while True:
        connection, _ = server.accept()
        connection.sendall(b"here")
        connection.close()
"""


def count(box: Box) -> int:
    return int.from_bytes(box.read("count"), "little")


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return stat.read().rpartition(b")")[2].split()[0].decode()


def test_programs_stand_still_and_go_on(box: Box) -> None:
    """A counter counts no further while its file can be read, and counts on after."""
    box.python(COUNTER).check()
    eventually(lambda: count(box), what="the first count")
    assert box.freeze().processes == 1
    frozen = count(box)
    box.write("between", "written meanwhile")
    assert (count(box), box.read("between")) == (frozen, b"written meanwhile")
    box.thaw()
    eventually(lambda: count(box) > frozen, what="another count")


def test_whole_trees_are_stopped(box: Box, marker: str) -> None:
    """Sessions and process groups of their own don't matter, nor how many there are."""
    box.sh(f"for i in 1 2 3; do setsid sh -c 'sleep {marker}; :' & done; sleep {marker} & sleep 0").check()
    found = eventually(lambda: (pids := marked(marker)) and len(pids) == 7 and pids, what="three shells and four sleepers")
    assert box.freeze().processes == 7
    eventually(lambda: {state(pid) for pid in found} == {"T"}, what="all of them stopped")
    box.thaw()
    eventually(lambda: {state(pid) for pid in found} == {"S"}, what="all of them asleep")


def test_a_command_thaws(box: Box) -> None:
    """Whoever freezes need not remember it."""
    box.python(COUNTER).check()
    box.freeze()
    frozen = count(box)
    box.run(["true"]).check()
    eventually(lambda: count(box) > frozen, what="another count")


def test_a_connection_thaws(open_box: OpenBox) -> None:
    """What was published answers."""
    box = open_box()
    box.python(ECHO).check()
    port = box.publish(8080)
    assert box.freeze().processes == 1
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        assert connection.recv(16) == b"here"


def test_thawing_what_is_not_frozen_continues_nobody(box: Box, marker: str) -> None:
    """Programs may stop each other: that is their business."""
    box.sh(f"sleep {marker} & until grep -q sleep /proc/$!/comm; do :; done; kill -STOP $!").check()
    sleeper = assert_lives(marker)
    eventually(lambda: state(sleeper) == "T", what="a stopped process")
    box.thaw()
    box.run(["true"]).check()
    assert state(sleeper) == "T"


def test_a_forked_child_learns_that_it_has_none(open_box: OpenBox) -> None:
    """Whatever the parent was doing at that moment."""
    box = open_box()
    with box.sandbox._box.gate.using():
        pid = os.fork()
        if pid == 0:
            try:
                lisrt.Sandbox.freeze(box.sandbox)
            except lisrt.SandboxGone:
                os._exit(0)
            except BaseException:
                os._exit(1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_nobody_to_freeze(box: Box) -> None:
    """An idle sandbox has no program to stop; again and again is the same; thawing what is not frozen does nothing."""
    box.thaw()
    assert [box.freeze().processes for _ in range(3)] == [0, 0, 0]
    assert box.run(["echo", "on"]).stdout == "on\n"


def test_without_a_group_nothing_is_reclaimed(box: Box) -> None:
    """And it says so."""
    assert box.freeze() == lisrt.Frozen(processes=0, reclaimed=None)


def test_not_while_a_command_runs(box: Box, marker: str) -> None:
    """It would never end."""
    call = box.start("run", ["sleep", marker], timeout=30)
    assert_lives(marker)
    with pytest.raises(lisrt.SandboxBusy, match="commands or transfers"):
        box.freeze()
    assert not call.done()


def test_a_frozen_one_can_be_closed(open_box: OpenBox, marker: str) -> None:
    """Stopped processes die like others."""
    box = open_box()
    box.sh(f"sleep {marker} & sleep 0").check()
    assert_lives(marker)
    box.freeze()
    box.close()
    assert_gone(marker)
    with pytest.raises(lisrt.SandboxGone):
        box.freeze()
    with pytest.raises(lisrt.SandboxGone):
        box.thaw()


def test_a_frozen_one_can_be_forked_and_reset(box: Box, marker: str) -> None:
    """Files are what is kept, as ever, and the next sandbox is not frozen."""
    box.write("file", "kept")
    box.sh(f"sleep {marker} & sleep 0").check()
    box.freeze()
    twin = box.fork()
    assert twin.run(["cat", "file"]).stdout == "kept"
    assert_gone(marker)
    box.freeze()
    box.reset()
    assert box.run(["cat", "file"]).stdout == "kept"


def test_a_time_limit_counts_on_after_a_thaw(box: Box, marker: str) -> None:
    """A command that thaws can be killed like any, and takes none of those that were frozen with it."""
    box.sh(f"sleep {marker} & sleep 0").check()
    box.freeze()
    assert box.run(["sleep", "1000"], timeout=0.1).outcome == "timed_out"
    assert state(assert_lives(marker)) == "S"
