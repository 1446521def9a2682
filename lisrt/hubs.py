"""The hubs of this process: one for each spawner whose sandboxes have a network with addresses of their own."""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lisrt import settings, spawner
from lisrt.errors import HostError
from lisrt.explain import fault_error, limit_error
from lisrt.kernel import wire
from lisrt.nat.policy import Nat, NetworkGroup
from lisrt.spawned import Spawner
from lisrt.waiting import Flow, Ready, drive

if TYPE_CHECKING:
    from lisrt.nat.hub import Hub, Namespace, Wire

NAMESPACE_TIMEOUT = 30.0
RESOLV = "resolv.conf"
_lock = threading.Lock()
_hubs: weakref.WeakKeyDictionary[Spawner, Hub] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Line:
    """What a sandbox is to be connected with."""

    nat: Nat
    group: NetworkGroup | None
    hostname: str
    is_open: bool = True
    """Whether those rules hold, or nothing passes."""


def current(home: Spawner) -> Hub:
    """The spawner's, its uplink running. Blocks: offload it. HostError."""
    with _lock:
        hub = _hubs.get(home)
        if hub is None:
            hub = _hubs[home] = _start(home)
    hub.ready()
    return hub


def running(home: Spawner) -> Hub | None:
    """The spawner's, if there is one and its uplink runs, without waiting for anything."""
    hub = _hubs.get(home)
    return hub if hub is not None and hub.alive else None


def attach(home: Spawner, namespace: Namespace, line: Line) -> Wire:
    """Connects a namespace to the hub that `current` has made, and closes it. HostError."""
    try:
        return _hubs[home].attach(namespace, line.nat, line.group, line.hostname, is_open=line.is_open)
    except OSError as error:
        raise _explained(error) from None
    finally:
        namespace.close()


def _start(home: Spawner) -> Hub:
    if home.bubblewrap is not None:
        raise HostError(
            'network="nat" is not there under bubblewrap, whose network namespaces belong to nobody outside',
            check="uplink",
            fix='Use network=Proxy(...), or launcher="native"',
        )
    from lisrt.nat import program
    from lisrt.nat.hub import Hub

    found = program.find(settings.get("uplink"))
    namespace = drive(new_namespace(home, is_hub=True))
    if namespace.rules is None:
        namespace.close()
        raise _explained(OSError(errno.EPROTONOSUPPORT, "the kernel has no nf_tables"))
    try:
        hub = Hub(namespace, found, home.scratch)
    except OSError as error:
        namespace.close()
        raise _explained(error) from None
    spawner.keep_from_children(hub)
    return hub


def new_namespace(home: Spawner, *, is_hub: bool = False) -> Flow[Namespace]:
    """One that nobody has used. HostError, SetupError, SandboxGone."""
    from lisrt.kernel.netlink import Netlink
    from lisrt.nat.hub import Namespace

    for last_try in (False, True):
        message, fds = yield from _ask(home, is_hub)
        if wire.kind(message) == wire.NETWORK and len(fds) >= 2:
            fd, links, *rest = fds
            return Namespace(fd, Netlink(links), Netlink(rest[0]) if rest else None)
        for fd in fds:
            os.close(fd)
        if wire.kind(message) == wire.FAULT:
            raise fault_error(wire.decode_fault(message))
        if last_try:
            break
    raise _explained(OSError(errno.EPIPE, "the process that makes network namespaces has ended"))


def _ask(home: Spawner, is_hub: bool) -> Flow[tuple[bytes, list[int]]]:
    ours, theirs = wire.pair()
    with ours:
        with theirs:
            home.ask_for_network(theirs, is_hub=is_hub)
        if not (yield Ready((ours.fileno(),), (), time.monotonic() + NAMESPACE_TIMEOUT)):
            return b"", []
        return wire.receive_fds(ours)


def _explained(error: OSError) -> HostError:
    known = limit_error(error, "connect the sandbox")
    return known or HostError(
        f"could not connect the sandbox: {error.strerror or error}",
        check="nat",
        fix="The kernel needs bridges, veth and nf_tables; `lisrt doctor` tries them. network=Proxy(...) needs none of them",
    )


def mounts(home: Spawner, group: NetworkGroup | None) -> dict[str, str]:
    """What members of the hub have over the image's own, by target: the name servers, and in a group each other's names."""
    path = os.path.join(home.scratch, RESOLV)
    if not os.path.exists(path):
        from lisrt.nat.subnets import NAMES

        kept = [line for line in _lines("/etc/resolv.conf") if line.split()[:1] in (["search"], ["domain"], ["options"])]
        beside = f"{path}.{threading.get_ident()}"
        with open(beside, "w") as file:
            file.write("\n".join([f"nameserver {NAMES}", *kept, ""]))
        os.replace(beside, path)
    return {"/etc/resolv.conf": path, **({} if group is None else {"/etc/hosts": _hubs[home].hosts_of(group)})}


def _lines(path: str) -> list[str]:
    try:
        with open(path, errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it
    _hubs.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
