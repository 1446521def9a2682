"""What programs need of this host to use its network: name servers, certificates, proxies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from lisrt.spec import Mount

NAME_SERVICE = ("/etc/resolv.conf", "/etc/hosts")
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
)  # fmt: skip
BUNDLE_VARIABLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
BUNDLE = "/run/lisrt/ca.pem"
"""Where the host's certificates are in a sandbox. Not over the image's own: its package manager replaces those by rename."""
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


def proxies() -> dict[str, str]:
    """The variables that this program has, in both spellings."""
    return {name: os.environ[name] for lower in _PROXIES for name in (lower, lower.upper()) if os.environ.get(name)}


def bundle() -> str | None:
    """The file with the certificates that this host trusts: what variables name, or the distribution's."""
    named = [os.environ.get(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")]
    return next((os.path.realpath(path) for path in [*named, *BUNDLES] if path and os.access(path, os.R_OK)), None)


def mounts(given: Sequence[Mount]) -> tuple[Mount, ...]:
    """Those that a sandbox on the host's network gets besides the ones that it was given."""
    covered = {mount.target for mount in given}
    wanted = {path: path for path in NAME_SERVICE if os.path.exists(path)}
    certificates = bundle()
    if certificates:
        wanted[BUNDLE] = certificates
    return tuple(
        Mount(source, target)
        for target, source in wanted.items()
        if target not in covered and os.path.dirname(target) not in covered
    )


def variables() -> Mapping[str, str]:
    """For every command of a sandbox on the host's network."""
    return {**proxies(), **(dict.fromkeys(BUNDLE_VARIABLES, BUNDLE) if bundle() else {})}
