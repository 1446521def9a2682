"""A TLS certificate for this machine's loopback, signed by itself."""

import shutil
import subprocess
from pathlib import Path

from support.features import missing


def certificate(directory: Path, *names: str) -> tuple[Path, Path]:
    """Certificate and key, for those names and addresses as openssl writes them; 127.0.0.1 if there are none."""
    if shutil.which("openssl") is None:
        missing("openssl")
    key, made = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", "/CN=tests", "-addext", f"subjectAltName={','.join(names or ['IP:127.0.0.1'])}"]
        + ["-keyout", str(key), "-out", str(made)],
        check=True,
        capture_output=True,
    )
    return made, key
