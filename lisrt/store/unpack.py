"""From the entries of a layer to a directory tree that overlayfs takes as a lower layer.

A layer may be the work of an attacker. Every path is resolved inside the tree, whatever links are in it, and nothing is
followed in its last part. What becomes of what an ordinary user can't have:

- owner and group are the caller's (overlayfs can't copy up what has an owner that is not mapped: EOVERFLOW)
- set-user-ID and set-group-ID bits of files go: sandboxes are mounted nosuid, and out here they would be the caller's
- device nodes are left out: a sandbox has its own /dev
- extended attributes but `user.*` go, and of those `user.overlay.*`, which are overlayfs' own
- the owner may read and write everything: root in a sandbox has no power over modes

Whiteouts become what overlayfs has for them: device 0:0, and `user.overlay.opaque`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lisrt.errors import ImageError
from lisrt.kernel import native
from lisrt.store.archive import Layer, reading

WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
OPAQUE_ATTRIBUTE = "user.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
LONGEST = 4095
"""Bytes of a path: the kernel's limit."""
_OPEN_DIRECTORIES = 32
_CHUNK = 1 << 20
_LATEST = 2**33
"""Seconds: what is later does not fit into ext4."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was made."""

    diff_id: str
    entries: int
    size: int
    """Bytes of the tar."""
    devices: int
    """Left out."""


def unpack(
    blob: Path, root: Path, what: str, progress: Callable[[int], None] = lambda _: None, *, is_ours: bool = False
) -> Unpacked:
    """Unpacks a layer's file into an empty directory. `progress` gets the number of bytes so far, now and then.

    `is_ours` is for a blob of the store: see `archive.reading`. ImageError, which begins with `what`: damaged, hostile, or
    no room for it.
    """
    with reading(blob, what, is_ours=is_ours) as layer:
        tree = _Tree(root)
        try:
            for entry in layer.entries():
                with _naming(entry):
                    tree.add(layer, entry)
                if layer.count % 256 == 0:
                    progress(layer.size)
            tree.finish()
        finally:
            tree.close()
        return Unpacked(layer.diff_id, layer.count, layer.size, tree.devices)


def examine(
    blob: Path, what: str, progress: Callable[[int], None] = lambda _: None, *, is_whole: bool = True
) -> Unpacked:
    """Reads a layer's file to its end without making anything: what `unpack` would refuse by the look of it is refused.

    `is_whole` says that somebody knows its digest; otherwise one without an end mark is refused, as it may be cut off.
    ImageError, which begins with `what`.
    """
    with reading(blob, what) as layer:
        devices = 0
        for entry in layer.entries():
            with _naming(entry):
                _check(entry)
            devices += entry.isdev() and not entry.isfifo()
            if layer.count % 256 == 0:
                progress(layer.size)
        if not is_whole and not layer.has_end_mark:
            raise ImageError("it has no end mark: cut off, or no tar archive")
        return Unpacked(layer.diff_id, layer.count, layer.size, devices)


def _check(entry: tarfile.TarInfo) -> None:
    _inside(entry.name)
    if entry.islnk():
        _inside(entry.linkname)
    if not (entry.isdir() or entry.isreg() or entry.issym() or entry.islnk() or entry.isdev()):
        raise ImageError(f"its type, {entry.type!r}, is unknown")


@contextlib.contextmanager
def _naming(entry: tarfile.TarInfo) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise ImageError(f"entry {entry.name[:200]!r}: {error}") from None
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"entry {entry.name[:200]!r}: {os.strerror(error.errno)}") from None


class _Tree:
    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY)
        self._open: OrderedDict[str, int] = OrderedDict()
        self._times: dict[str, float] = {}
        self.devices = 0

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        os.close(self._root)

    def add(self, layer: Layer, entry: tarfile.TarInfo) -> None:
        path = _inside(entry.name)
        if not path:
            if entry.isdir():
                os.fchmod(self._root, _mode(entry))
                self._times["."] = _time(entry)
            return
        parent, _, name = path.rpartition("/")
        if name.startswith(WHITEOUT):
            self._white_out(parent, name)
        elif entry.isdir():
            self._directory(path, parent, name, entry)
        elif entry.isreg():
            self._file(layer, entry, parent, name)
        elif entry.issym():
            self._replace(parent, name, lambda at: os.symlink(entry.linkname, name, dir_fd=at))
            self._set_time(parent, name, entry)
        elif entry.islnk():
            self._hard_link(entry, parent, name)
        elif entry.isfifo():
            self._replace(parent, name, lambda at: os.mkfifo(name, dir_fd=at))
            os.chmod(name, _mode(entry), dir_fd=self._parent(parent))  # past the umask; it was made just now, so is no link
            self._set_time(parent, name, entry)
        elif entry.isdev():
            self.devices += 1
        else:
            raise ImageError(f"its type, {entry.type!r}, is unknown")

    def _set_time(self, parent: str, name: str, entry: tarfile.TarInfo) -> None:
        os.utime(name, (_time(entry), _time(entry)), dir_fd=self._parent(parent), follow_symlinks=False)

    def finish(self) -> None:
        """The times of directories, which change when something is put in them.

        Some may be gone. To keep count of that is to look at all of them for each that is replaced: an archive of half a
        million, each of them replaced, would never end.
        """
        for path, when in self._times.items():
            try:
                fd = native.open_in_root(self._root, os.fsencode(path), _DIRECTORY | os.O_NOFOLLOW)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno == errno.ELOOP:
                    continue
                raise
            try:
                os.utime(fd, (when, when))
            finally:
                os.close(fd)

    def _parent(self, path: str) -> int:
        """A descriptor of a directory, made where it is missing. Those that were used last stay open."""
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        fd = self._opened(path)
        self._open[path] = fd
        if len(self._open) > _OPEN_DIRECTORIES:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def _opened(self, path: str) -> int:
        """A directory, and those above it, made where they are missing: up to the first that is there, and down again."""
        missing: list[str] = []
        above = path
        while True:
            try:
                fd = native.open_in_root(self._root, os.fsencode(above) or b".", _DIRECTORY)
                break
            except FileNotFoundError:
                if not above:
                    raise
                above, _, name = above.rpartition("/")
                missing.append(name)
        while missing:
            name = missing.pop()
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=fd)
            finally:
                os.close(fd)
            above = f"{above}/{name}" if above else name
            fd = native.open_in_root(self._root, os.fsencode(above), _DIRECTORY)
        return fd

    def _forget(self) -> None:
        """What a path leads to when a directory or a symbolic link in it is replaced: by any name, through any other link."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _replace(self, parent: str, name: str, make: Callable[[int], None]) -> None:
        """What comes later in an archive takes the place of what came before."""
        at = self._parent(parent)
        try:
            make(at)
        except FileExistsError:
            self._remove(at, name)
            make(self._parent(parent))

    def _remove(self, at: int, name: str) -> None:
        """Descriptors that `_parent` gave before, `at` among them, may be closed afterwards."""
        kind = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
        if stat.S_ISDIR(kind):
            native.remove_tree(at, name)
        else:
            os.unlink(name, dir_fd=at)
        if stat.S_ISDIR(kind) or stat.S_ISLNK(kind):
            self._forget()

    def _directory(self, path: str, parent: str, name: str, entry: tarfile.TarInfo) -> None:
        at = self._parent(parent)
        try:
            os.mkdir(name, 0o700, dir_fd=at)
        except FileExistsError:
            if not _is_directory(at, name):
                hidden = _is_whiteout(at, name)
                self._remove(at, name)
                at = self._parent(parent)
                os.mkdir(name, 0o700, dir_fd=at)
                if hidden:  # it was taken away, and made again
                    _set_opaque(self._parent(path))
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        try:
            os.fchmod(fd, _mode(entry))
            _set_attributes(fd, entry)
        finally:
            os.close(fd)
        self._times[path] = _time(entry)

    def _file(self, layer: Layer, entry: tarfile.TarInfo, parent: str, name: str) -> None:
        at = self._parent(parent)
        try:
            fd = os.open(name, _NEW, 0o600, dir_fd=at)
        except FileExistsError:
            self._remove(at, name)
            fd = os.open(name, _NEW, 0o600, dir_fd=self._parent(parent))
        try:
            _write(fd, layer, entry)
            os.fchmod(fd, _mode(entry))
            _set_attributes(fd, entry)
            os.utime(fd, (_time(entry), _time(entry)))
        finally:
            os.close(fd)

    def _hard_link(self, entry: tarfile.TarInfo, parent: str, name: str) -> None:
        source_parent, _, source = _inside(entry.linkname).rpartition("/")
        if not source:
            raise ImageError(f"a hard link to {entry.linkname!r}")
        try:
            from_fd = native.open_in_root(self._root, os.fsencode(source_parent) or b".", _DIRECTORY)
        except FileNotFoundError:
            raise ImageError(f"a hard link to {entry.linkname!r}, which is not there") from None
        try:
            if _is_directory(from_fd, source):
                raise ImageError(f"a hard link to the directory {entry.linkname!r}")
            if not _same(from_fd, source, self._parent(parent), name):
                self._replace(parent, name, lambda at: _link(from_fd, source, at, name))
        except FileNotFoundError:
            raise ImageError(f"a hard link to {entry.linkname!r}, which is not there") from None
        finally:
            os.close(from_fd)

    def _white_out(self, parent: str, name: str) -> None:
        at = self._parent(parent)
        if name == _OPAQUE:
            _set_opaque(at)
        elif not name.startswith(WHITEOUT * 2):  # others are what aufs kept for itself
            with contextlib.suppress(
                FileExistsError
            ):  # a whiteout hides what is below this layer, not what is in it
                os.mknod(
                    _checked_part(name.removeprefix(WHITEOUT)),
                    stat.S_IFCHR | 0o600,
                    os.makedev(0, 0),
                    dir_fd=at,
                )


def _link(from_fd: int, source: str, at: int, name: str) -> None:
    os.link(source, name, src_dir_fd=from_fd, dst_dir_fd=at, follow_symlinks=False)


def _inside(name: str) -> str:
    """A path below the tree's root, without a leading slash; "" for the root itself. ImageError where it leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ImageError("`..` in a path")
    if any(len(os.fsencode(part.removeprefix(WHITEOUT))) > 255 for part in parts) or len(os.fsencode(name)) > LONGEST:
        raise ImageError("too long a path")
    return "/".join(parts)


def _checked_part(name: str) -> str:
    if name in ("", ".", ".."):
        raise ImageError("a whiteout of nothing")
    return name


def _mode(entry: tarfile.TarInfo) -> int:
    if entry.isdir():
        return entry.mode & 0o3777 | 0o700
    return entry.mode & 0o777 | 0o600


def _time(entry: tarfile.TarInfo) -> float:
    """One that every file system can have: a pax header may say any number, NaN included."""
    return entry.mtime if 0 <= entry.mtime <= _LATEST else 0.0


def _write(fd: int, layer: Layer, entry: tarfile.TarInfo) -> None:
    pieces = cast(list[tuple[int, int]] | None, entry.sparse)  # typeshed takes it for a number of bytes
    if pieces is None:
        source = layer.data(entry)
        while data := source.read(_CHUNK):
            _write_all(fd, data)
        return
    source = layer.stored(entry)
    for offset, size in pieces:  # holes stay holes
        os.lseek(fd, offset, os.SEEK_SET)
        while size > 0:
            data = source.read(min(size, _CHUNK))
            if not data:
                raise ImageError("it ends too early")
            _write_all(fd, data)
            size -= len(data)
    os.ftruncate(fd, entry.size)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _set_attributes(fd: int, entry: tarfile.TarInfo) -> None:
    for key, value in entry.pax_headers.items():
        name = key.removeprefix("SCHILY.xattr.")
        if name != key and name.startswith("user.") and not name.startswith("user.overlay."):
            with contextlib.suppress(
                OSError
            ):  # a file system that has none, or no room: no program of an image relies on it
                os.setxattr(fd, name, value.encode(errors="surrogateescape"))


def _set_opaque(fd: int) -> None:
    os.setxattr(fd, OPAQUE_ATTRIBUTE, b"y")


def _is_directory(at: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)


def _is_whiteout(at: int, name: str) -> bool:
    status = os.stat(name, dir_fd=at, follow_symlinks=False)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _same(from_fd: int, source: str, at: int, name: str) -> bool:
    """Whether a hard link is there already: linking a file to itself would first remove it."""
    with contextlib.suppress(FileNotFoundError):
        old = os.stat(name, dir_fd=at, follow_symlinks=False)
        return os.path.samestat(os.stat(source, dir_fd=from_fd, follow_symlinks=False), old)
    return False
