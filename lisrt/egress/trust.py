"""Whom this host trusts."""

from __future__ import annotations

import os
from functools import lru_cache

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
)  # fmt: skip


def bundle() -> str | None:
    """The file with the certificates that this host trusts: what variables name, or the distribution's."""
    return _first_of(*(os.environ.get(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")))


@lru_cache(maxsize=16)
def _first_of(*named: str | None) -> str | None:
    return next((os.path.realpath(path) for path in [*named, *BUNDLES] if path and os.access(path, os.R_OK)), None)
