"""Compressed layers, each a file named by the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lisrt.errors import ImageError
from lisrt.store.home import Home, sync_directory

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """A file in the store."""

    digest: str
    """`sha256:` and 64 hexadecimal digits."""
    size: int


def checked_digest(text: object) -> str:
    """The digest, if it is one that we can check. ImageError."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise ImageError(f"not a SHA-256 digest: {str(text)[:100]!r}")
    return text


class Blobs:
    """The blobs of a store. Call `add` while `home.adding()` is held."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def path(self, digest: str) -> Path:
        """Where a blob lies, whether or not it is there."""
        return self._home.part("blobs") / checked_digest(digest).removeprefix("sha256:")

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether it is there (and of that size)."""
        try:
            found = self.path(digest).stat().st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    def add(self, chunks: Iterable[bytes], *, expected: str | None = None, size: int | None = None) -> Blob:
        """Takes a blob in: all of it, checked against `expected` and `size` where they are known, or nothing.

        Raises ImageError for a blob that is not what it should be, OSError where the disk is full.
        """
        with self._home.draft() as place:
            digest, length = hashlib.sha256(), 0
            fd = os.open(place / "blob", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                for chunk in chunks:
                    length += len(chunk)
                    if size is not None and length > size:
                        raise ImageError(f"{expected or 'a blob'} is longer than the {size} bytes that it should have")
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            found = f"sha256:{digest.hexdigest()}"
            if size is not None and length != size:
                raise ImageError(f"{expected or 'a blob'} ends after {length} of {size} bytes")
            if expected is not None and found != expected:
                raise ImageError(f"a blob that should be {expected} is {found}: damaged, or not what was asked for")
            self.adopt(place / "blob", found)
            return Blob(found, length)

    def adopt(self, file: Path, digest: str) -> None:
        """Takes in a finished, synced file of the store's own file system, whose digest is known."""
        os.rename(file, self.path(digest))
        sync_directory(self._home.part("blobs"))

    def set_aside_if_damaged(self, digest: str) -> bool:
        """Renames a blob to `HEX.damaged` if that is not its digest, so that the next import brings it anew.

        Whether it did, or found none. False also where it can't be read or the store not be written. `sweep` removes what
        was set aside.
        """
        path = self.path(digest)
        try:
            with open(path, "rb") as file:
                if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest:
                    return False
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # else an import has just replaced it
                    os.rename(path, path.with_suffix(".damaged"))
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def chunks(self, digest: str) -> Iterator[bytes]:
        """The bytes of a blob. ImageError when it is not there."""
        try:
            with open(self.path(digest), "rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except FileNotFoundError:
            raise ImageError(f"the store lacks {digest}, which an image needs: import or build the image again") from None
