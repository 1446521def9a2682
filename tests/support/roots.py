"""A root file system of a few programs of this host, with the libraries that they need: real programs, no download."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from support.archives import Entry, file, folder, tar
from support.features import missing


def libraries(program: str) -> list[str]:
    """By their absolute paths, the loader included."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True)
    if done.returncode != 0:
        missing(f"ldd that works for {program}")
    words = done.stdout.split()
    return sorted({word for word in words if word.startswith("/")})


def root_of(*programs: str, more: Iterable[Entry] = ()) -> bytes:
    """The tar of a root with these in /bin, an /etc/passwd with `user` (uid 1000), and `more`."""
    files: dict[str, bytes] = {"etc/passwd": b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"}
    for name in programs:
        path = shutil.which(name) or missing(name)
        files[f"bin/{name}"] = Path(path).read_bytes()
        for library in libraries(path):
            files[os.path.normpath(library).lstrip("/")] = Path(library).read_bytes()
    folders = sorted({os.fspath(parent) for name in files for parent in Path(name).parents if os.fspath(parent) != "."})
    entries = [folder(name) for name in [*folders, "tmp", "home", "home/user"]]
    return tar([*entries, *(file(name, data, 0o755) for name, data in files.items()), *more])
