"""A sandbox whose programs stand still while nobody has anything for it to do. `Sandbox.freeze` drives this."""

from __future__ import annotations

from functools import partial

from lisrt import process
from lisrt.box import Box
from lisrt.channel import Channel
from lisrt.kernel import cgroup, wire
from lisrt.kernel.steps import BY_CGROUP
from lisrt.result import Frozen
from lisrt.waiting import Flow, Offload


def freeze(box: Box) -> Flow[Frozen]:
    """Stops its programs, and has the kernel take back what memory of theirs it can. SandboxBusy, SandboxGone."""
    with box.gate.alone():
        home = yield from box.home_here()
        stopped = yield from _stop(box.channel, is_wanted=True)
        if box.by.memory != BY_CGROUP:
            return Frozen(stopped)
        reclaimed = yield Offload(partial(cgroup.reclaim, home.group("memory", box.channel.name)))
        return Frozen(stopped, reclaimed)


def thaw(box: Box) -> Flow[None]:
    """Has them go on. SandboxBusy, SandboxGone."""
    with box.gate.using():
        yield from box.home_here()
        yield from _stop(box.channel, is_wanted=False)


def _stop(channel: Channel, *, is_wanted: bool) -> Flow[int]:
    ours, theirs = wire.pair()
    with ours:
        with theirs:
            yield from channel.send(wire.encode_freeze(is_wanted=is_wanted), (theirs.fileno(),))
        message, _ = yield from process.answer(channel, ours, wire.FROZEN)
    if wire.kind(message) != wire.FROZEN:
        raise channel.gone()
    return wire.decode_frozen(message)
