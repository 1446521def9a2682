"""`Proxy`: the network of a sandbox that may reach some hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lisrt.egress.rules import Policy
from lisrt.limits import size

if TYPE_CHECKING:
    from lisrt.egress.registries import Registries

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
        max_bytes: that may go through it in both directions together, heads of requests and answers too, for the life of the
            sandbox: a number, or `"1GB"`. Then everything is denied. None: no limit.

        headers: by host, what is added to requests for it, so that a key never enters the sandbox: `{"api.example.org":
            {"Authorization": "Bearer ..."}}`. Programs ask for http://api.example.org/; the request leaves this host by TLS, to
            port 443 or to the one that is named (`api.example.org:8443`), which a rule has to allow. Not in tunnels (`https:`).
        cache: pip's wheels, npm's tarballs, conda's packages and apt's .deb files are fetched once and kept for all sandboxes
            of this user on this host (`$LISRT_CACHE`; at most `$LISRT_CACHE_SIZE`, 10GiB; docs/security.md). Rules hold all the
            same. Decided when the sandbox is made. Not by default: it takes disk space of yours, tells the tools other indexes
            than the image does (by variables), and by how quick an answer is a sandbox learns what others have fetched.

    Raises ValueError and TypeError for what is no rule.
    """

    allow: Sequence[str] = ()
    deny: Sequence[str] = ()
    max_bytes: int | str | None = None
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False, hash=False)
    cache: bool = False

    def __post_init__(self) -> None:
        self.policy()
        if self.max_bytes is not None:
            object.__setattr__(self, "max_bytes", size(self.max_bytes, what="max_bytes"))
            if self.most_bytes == 0:
                raise ValueError("max_bytes is above 0, or None: 0")
        object.__setattr__(self, "allow", tuple(self.allow))
        object.__setattr__(self, "deny", tuple(self.deny))
        object.__setattr__(self, "headers", {host: dict(added) for host, added in self.headers.items()})

    @property
    def most_bytes(self) -> int | None:
        """`max_bytes` as a number."""
        return None if self.max_bytes is None else int(self.max_bytes)

    def policy(self) -> Policy:
        """The rules, read."""
        return Policy(self.allow, self.deny, self.headers)

    def registries(self) -> Registries | None:
        """Whose files are kept, by what this host is told now; None without a cache."""
        if not self.cache:
            return None
        from lisrt.egress import registries  # for those alone who have a cache

        return registries.look()


def variables(proxy: Proxy) -> dict[str, str]:
    """What programs find their proxy by, and the registries that it keeps files of."""
    url = f"http://127.0.0.1:{HTTP_PORT}"
    own = "localhost,127.0.0.1,::1"
    found = {name: url for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    # the one way that every Java program knows, and each says so on its stderr
    java = [f"-D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort={HTTP_PORT}" for scheme in ("http", "https")]
    registries = proxy.registries()
    if registries is not None:
        found |= registries.variables
    return {**found, "no_proxy": own, "NO_PROXY": own, "JAVA_TOOL_OPTIONS": " ".join(java)}
