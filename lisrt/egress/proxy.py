"""`Proxy`: the network of a sandbox that may reach some hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lisrt.egress.rules import Policy

HTTP_PORT, SOCKS_PORT = 3128, 1080
"""On the sandbox's own loopback; csrc/lis.h has them, too."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Hosts that programs in a sandbox may reach, by way of a proxy of this process; everything else is out of reach.

    A rule is a name, `*.` and a name for all below that, `*`, an address or a range of them; `:PORT` or `:*` after it (80 and
    443 without), and `GET,HEAD ` or other methods before it, which are seen of plain HTTP alone. Names are looked up here, and
    what is dialled is the address that was checked: of an allowed name only a public one, unless a rule allows that address.

    Args:
        allow: what may be reached. Nothing, by default.
        deny: what may not, whatever `allow` says.
        max_bytes: that may go through it in both directions together, for the life of the sandbox. None: no limit.

        headers: by host, what is added to requests for it, so that a key never enters the sandbox: `{"api.example.org":
            {"Authorization": "Bearer ..."}}`. Programs ask for http://api.example.org/; the request leaves this host by TLS, to
            port 443 or to the one that is named (`api.example.org:8443`), which a rule has to allow. Not in tunnels (`https:`).

    Raises ValueError and TypeError for what is no rule.
    """

    allow: Sequence[str] = ()
    deny: Sequence[str] = ()
    max_bytes: int | None = None
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        self.policy()
        if self.max_bytes is not None and (isinstance(self.max_bytes, bool) or self.max_bytes < 1):
            raise ValueError(f"max_bytes is a number of bytes above 0, or None: {self.max_bytes!r}")
        object.__setattr__(self, "allow", tuple(self.allow))
        object.__setattr__(self, "deny", tuple(self.deny))
        object.__setattr__(self, "headers", {host: dict(added) for host, added in self.headers.items()})

    def policy(self) -> Policy:
        """The rules, read."""
        return Policy(self.allow, self.deny, self.headers)


def variables() -> dict[str, str]:
    """What programs find their proxy by."""
    url = f"http://127.0.0.1:{HTTP_PORT}"
    own = "localhost,127.0.0.1,::1"
    found = {name: url for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    # the one way that every Java program knows, and each says so on its stderr
    java = [f"-D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort={HTTP_PORT}" for scheme in ("http", "https")]
    return {**found, "no_proxy": own, "NO_PROXY": own, "JAVA_TOOL_OPTIONS": " ".join(java)}
