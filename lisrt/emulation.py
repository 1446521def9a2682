"""What packages need beside system calls that pretend: files of ours above an image's own, in a layer that is no part of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from lisrt.kernel import native

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_APT = "etc/apt/apt.conf.d"
# apt goes over to the user `_apt` for its downloads, sees that it is still root, and gives up: "Could not switch group"
_FILES = {f"{_APT}/00lisrt": 'APT::Sandbox::User "root";\n'}


def emulation_layers(base: Path, layers: tuple[str, ...]) -> tuple[str, ...]:
    """The layer to put on top of these, in `base`, where every sandbox of the user shares it; none for an image without apt.

    OSError.
    """
    if not any(_has(layer, _APT) for layer in layers):
        return ()
    place = base / ".emulation"
    for name, text in _FILES.items():
        path = place / name
        with contextlib.suppress(OSError):
            if path.read_text() == text:  # some hosts delete old files from /tmp one by one
                continue
        path.parent.mkdir(parents=True, exist_ok=True)
        for directory in (path.parent, *path.parent.relative_to(base).parents[:-1]):
            (base / directory).chmod(0o755)  # whatever the umask is: the sandboxes' own root directory looks like this one
        new = place / f".{secrets.token_hex(8)}"
        new.write_text(text)
        new.chmod(0o644)
        os.replace(new, path)
    return (str(place),)


def _has(layer: str, path: str) -> bool:
    """Whether a layer has that directory, through no link that leads out of it."""
    root = os.open(layer, _DIRECTORY)
    try:
        os.close(native.open_in_root(root, os.fsencode(path), _DIRECTORY))
        return True
    except OSError:
        return False
    finally:
        os.close(root)
