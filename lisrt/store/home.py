"""Where images are kept: `$LISRT_HOME`, else `$XDG_DATA_HOME/lisrt` (`~/.local/share/lisrt`).

    lock             shared by whoever adds something, exclusive for whoever removes what nobody names
    names.lock       held for the moment in which names and images are entered or taken away
    images/ID.json   what an image is (record.py)
    names/NAME       the id that a name stands for
    blobs/HEX        a layer, compressed
    builds/HEX.json  the layers that a step of a recipe has made (build/cache.py)
    new/             what is not finished yet

It may lie on a file system that many hosts share. Whatever appears under its final name is whole: it was written under
`new`, synced, and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from lisrt import settings
from lisrt.errors import ImageError

_PARTS = ("images", "names", "blobs", "builds", "new")
_LOCK = ".lock"


def default() -> Path:
    """The directory that the settings name, whether or not it exists."""
    named = settings.get("home")
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data) / "lisrt"


class Home:
    """The directory of a store. Made when something is first added."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default()

    def part(self, name: str) -> Path:
        """One of its directories."""
        return self.path / name

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """While the body runs nothing is taken for garbage. OSError, ImageError."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def alone(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """While the body runs nobody adds anything: waits for those who do, and calls `waiting` first. OSError, ImageError."""
        with self._locked(fcntl.LOCK_EX, waiting):
            yield

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """While the body runs nobody else enters a name or takes one away. OSError, ImageError."""
        with self._locked(fcntl.LOCK_EX, file="names.lock"):
            yield

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """A directory of one's own for what is not finished yet; gone afterwards, with what is still in it.

        Its lock goes with the process: what a killed one has left, whoever drafts next on this host removes.
        """
        self._remove_dead_drafts()
        place, lock = self._new_draft()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
            os.close(lock)

    def _new_draft(self) -> tuple[Path, int]:
        while True:
            place = self.part("new") / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(6)}"
            place.mkdir(mode=0o700)
            try:
                lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError:  # the disk is full, say
                place.rmdir()
                raise
            try:
                _lock(lock, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(lock), os.stat(place / _LOCK)):
                    return place, lock
            except FileNotFoundError:  # somebody took it for a dead one's, in the moment before it was locked
                pass
            except BaseException:
                os.close(lock)
                shutil.rmtree(place, ignore_errors=True)
                raise
            os.close(lock)

    def _remove_dead_drafts(self) -> None:
        """Those of this host: file systems are about where locks are known to their own host alone."""
        for place in list(self.part("new").glob(f"{socket.gethostname()}-*")):
            try:
                lock = os.open(place / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue  # gone by now, or without one, which `Catalog.sweep` removes
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
            except OSError:
                pass  # it lives, or nobody can tell here
            finally:
                os.close(lock)

    def put(self, part: str, name: str, text: bytes) -> None:
        """Writes a small file, whole or not at all, over one that is there."""
        with self.draft() as place:
            write_synced(place / "file", text)
            os.rename(place / "file", self.part(part) / name)
            sync_directory(self.part(part))

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in _PARTS:
                self.part(name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ImageError(
                f"images can't be kept in {self.path}: {error.strerror}; name another directory with $LISRT_HOME"
            ) from None

    @contextlib.contextmanager
    def _locked(self, how: int, waiting: Callable[[], None] = lambda: None, file: str = "lock") -> Iterator[None]:
        self._make()
        fd = os.open(self.path / file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                _lock(fd, how | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                _lock(fd, how)
            yield
        finally:
            os.close(fd)


def _lock(fd: int, how: int) -> None:
    try:
        fcntl.flock(fd, how)
    except OSError as error:
        # Lustre mounted without -o flock. POSIX locks it refuses as well; there `lisrt image gc` is for one at a time.
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise


def write_synced(path: Path, data: bytes) -> None:
    """A new file, on the disk when this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """So that a name in it outlives a crash, too."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
