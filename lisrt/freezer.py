"""A sandbox whose programs stand still while nobody has anything for it to do. `Sandbox.freeze` drives this."""

from __future__ import annotations

import errno
import os
import threading
from functools import partial

from lisrt import process
from lisrt.box import Box
from lisrt.channel import Channel
from lisrt.errors import SandboxBusy
from lisrt.kernel import cgroup, wire
from lisrt.kernel.steps import BY_CGROUP
from lisrt.result import Frozen
from lisrt.waiting import Flow, Offload


def freeze(box: Box) -> Flow[Frozen]:
    """Stops its programs, and has the kernel take back what memory of theirs it can. SandboxBusy, SandboxGone, OSError."""
    with box.gate.alone():
        home = yield from box.home_here()
        stopped = yield from _ask(box.channel, freeze=True)
    if box.by.memory != BY_CGROUP:
        return Frozen(stopped)
    # That may take seconds, where there is swap; nobody needs to wait for it: the next command has its programs go on.
    enough = threading.Event()
    group = home.group("memory", box.channel.name)
    reclaimed = yield Offload(partial(cgroup.reclaim, group, enough.is_set), enough.set)
    if not box.channel.alive:
        raise box.channel.gone()
    return Frozen(stopped, reclaimed)


def thaw(box: Box) -> Flow[None]:
    """Has them go on. SandboxBusy, SandboxGone."""
    with box.gate.using():
        yield from box.home_here()
        yield from _ask(box.channel, freeze=False)


def _ask(channel: Channel, *, freeze: bool) -> Flow[int]:
    ours, theirs = wire.pair()
    with ours:
        with theirs:
            yield from channel.send(wire.encode_freeze(is_wanted=freeze), (theirs.fileno(),))
        message, _ = yield from process.answer(channel, ours, wire.FROZEN)
    if wire.kind(message) != wire.FROZEN:
        raise channel.gone()
    number = wire.decode_frozen(message)
    if number == -errno.EBUSY:
        raise SandboxBusy("a command is still being ended in the sandbox: try again")
    if number < 0:
        raise OSError(-number, f"the sandbox can't be frozen: {os.strerror(-number)}")
    return number
