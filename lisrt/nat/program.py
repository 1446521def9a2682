"""The program that carries a hub's traffic out: slirp4netns or pasta, whichever is there."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from lisrt.errors import HostError
from lisrt.kernel import helper, links
from lisrt.kernel.netlink import Netlink
from lisrt.nat.firewall import UPLINK

NAMES = ("slirp4netns", "pasta")
"""In this order: Debian 12's pasta (2023) stalls where one direction of a connection has been closed, and takes more memory."""
MTU = 65520
START_TIMEOUT = 10.0
_GET_USERNS = 0xB701
"""ioctl: the user namespace that owns another namespace."""
_USER, _NETWORK = (f"/proc/self/fd/{fd}" for fd in helper.TETHERED)


@dataclass(frozen=True, slots=True)
class Program:
    """Where it is, and where it answers questions for names."""

    name: str
    path: str
    resolver: str

    def words(self) -> list[str]:
        """Its command line."""
        if self.name == "slirp4netns":
            options = ["--configure", f"--mtu={MTU}", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"]
            where = ["--netns-type=path", _NETWORK, UPLINK]
            return [self.path, *options, *where]
        ports = [word for option in ("-t", "-u", "-T", "-U") for word in (option, "none")]
        addresses = ["-4", "-a", "169.254.2.1", "-n", "24", "-g", "169.254.2.2", "--dns-forward", self.resolver]
        user = f"{os.getuid()}:{os.getgid()}"
        options = ["--config-net", "--no-map-gw", "-f", "-q", "-m", str(MTU), "-I", UPLINK, "--runas", user]
        return [self.path, *options, *ports, *addresses, "--userns", _USER, "--netns", _NETWORK]


def find(wanted: str | None) -> Program:
    """The one that is asked for, or the first that is there. HostError, ValueError."""
    if wanted is not None and wanted not in NAMES:
        raise ValueError(f"uplink must be one of {', '.join(NAMES)}: {wanted!r}")
    for name in [wanted] if wanted else NAMES:
        path = shutil.which(name)
        if path is not None:
            return Program(name, path, "169.254.1.1" if name == "pasta" else "10.0.2.3")
    raise HostError(
        f"{wanted or 'neither slirp4netns nor pasta'} is {'not ' if wanted else ''}installed",
        check="uplink",
        fix="Install the package slirp4netns or passt, or use network=Proxy(...), which needs neither",
    )


class Running:
    """One that has been started, and has set its interface up in the hub's namespace."""

    def __init__(self, program: Program, network: int, route: Netlink) -> None:
        """`route`: a socket of rtnetlink in that namespace. HostError when it does not come up."""
        self.program = program
        self._output = os.memfd_create("uplink", os.MFD_CLOEXEC)
        self._tether: socket.socket | None = None
        user = fcntl.ioctl(network, _GET_USERNS)
        try:
            with route.news(links.ROUTES) as news:
                self._tether = helper.tether(program.words(), (user, network), self._output, inside=program.name == "slirp4netns")
                self.interface = self._wait(route.sock, news)
                """The number of the interface that it has made."""
        except BaseException:
            self.close()
            raise
        finally:
            os.close(user)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        try:
            return self._tether is not None and self._tether.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def said(self) -> str:
        """What it has written."""
        return os.pread(self._output, 1 << 16, 0).decode(errors="replace").strip()

    def close(self) -> None:
        """Ends it. Again is allowed."""
        if self._tether is not None:
            self._tether.close()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1

    def _wait(self, route: socket.socket, news: Callable[[], bytes]) -> int:
        deadline = time.monotonic() + START_TIMEOUT
        poll = select.poll()
        poll.register(route, select.POLLIN)
        if self._tether is not None:
            poll.register(self._tether, select.POLLIN)
        while True:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise self._error(f"did not come up within {START_TIMEOUT:.0f} s")
            interface = links.default_interface(news())
            if interface:
                return interface
            if not self.alive:
                raise self._error("has ended at once")

    def _error(self, what: str) -> HostError:
        said = self.said()
        if "/dev/net/tun" in said:
            return HostError(
                f"{self.program.name} can't open /dev/net/tun",
                check="tun",
                fix="It is for everybody where udev runs: ask for `chmod 0666 /dev/net/tun`, or use network=Proxy(...)",
            )
        return HostError(
            f"{self.program.name} {what}{': ' + said if said else ''}",
            check="uplink",
            fix="network=Proxy(...) needs no such program; `lisrt doctor` tries what it needs",
        )
