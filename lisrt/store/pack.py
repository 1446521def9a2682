"""From a directory tree in overlayfs' form (a writable layer, an unpacked one) to a layer's tar, and to a blob of the store.

The tree may be the work of programs in a sandbox: it is walked by descriptor, and no link in it is followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from lisrt.errors import ImageError
from lisrt.store import archive
from lisrt.store.archive import zstd_writer
from lisrt.store.blobs import CHUNK, Blobs
from lisrt.store.home import Home
from lisrt.store.record import LayerRecord
from lisrt.store.unpack import LONGEST, OPAQUE_ATTRIBUTE, WHITEOUT

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 256
"""Directories in directories: each is an open descriptor while we are in it."""
_SMALL_HOLE = 64 << 10
_MOST_ATTRIBUTES = 1 << 19
"""Bytes of a file's extended attributes; `archive` refuses headers of twice that."""


class _Digested:
    """A file to write to that digests and counts what goes through."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)


class _Tar(tarfile.TarFile):
    """An archive that is refused while it is written, not when it is needed."""

    _count = 0

    def addfile(self, tarinfo: tarfile.TarInfo, fileobj: IO[bytes] | None = None) -> None:  # type: ignore[override]
        self._count += 1
        if self._count >= archive.MOST_ENTRIES:
            raise ImageError(f"{archive.MOST_ENTRIES:,} entries or more")
        if len(os.fsencode(tarinfo.name)) > LONGEST:
            raise ImageError(f"a path of more than {LONGEST} bytes")
        super().addfile(tarinfo, fileobj)


def pack(root: Path, home: Home, *, without: frozenset[str] = frozenset()) -> LayerRecord:
    """Adds a tree to the store as a layer, but for the paths `without`. ImageError, OSError.

    Call it while `home.adding()` is held.
    """
    return write_layer(home, lambda out: write_tar(root, out, without=without))


def write_layer(home: Home, write: Callable[[IO[bytes]], None]) -> LayerRecord:
    """Adds what `write` writes, a layer's tar, to the store, compressed. Else as `pack`."""
    with home.draft() as place:
        with open(place / "blob", "xb") as file:
            compressed = _Digested(file)
            with zstd_writer(compressed) as writer:  # type: ignore[arg-type]
                plain = _Digested(writer)
                write(plain)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        blob = f"sha256:{compressed.digest.hexdigest()}"
        Blobs(home).adopt(place / "blob", blob)
        return LayerRecord(f"sha256:{plain.digest.hexdigest()}", blob, compressed.size)


def write_tar(root: Path, out: IO[bytes], *, without: frozenset[str] = frozenset()) -> None:
    """Writes a tree as the tar of an OCI layer: all is root's, and whiteouts are files named `.wh.NAME`.

    ImageError for what `unpack` would not take back.
    """
    with _Tar.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar, ExitStack() as stack:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, top)
        links: dict[tuple[int, int], str] = {}
        tar.addfile(_info("./", os.fstat(top)))
        for path, at, name, status in _walk(top, "", 0, without):
            try:
                _add(tar, path, at, name, status, links)
            except ImageError as error:
                raise ImageError(f"{path[:200]!r}: {error}") from None


def _walk(at: int, path: str, depth: int, without: frozenset[str]) -> Iterator[tuple[str, int, str, os.stat_result]]:
    """(path, the directory that it is in, its name there, its status), in an order that is always the same."""
    if depth > _DEEPEST:
        raise ImageError(f"directories more than {_DEEPEST} deep")
    for name in sorted(os.listdir(at)):
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
        inner = f"{path}{name}"
        if inner in without:
            continue
        yield inner, at, name, status
        if stat.S_ISDIR(status.st_mode):
            with _opened(at, name, _DIRECTORY) as fd:
                yield from _walk(fd, f"{inner}/", depth + 1, without)


def _add(
    tar: tarfile.TarFile,
    path: str,
    at: int,
    name: str,
    status: os.stat_result,
    links: dict[tuple[int, int], str],
) -> None:
    mode = status.st_mode
    if name.startswith(WHITEOUT):
        raise ImageError(f"its name is one that a layer can't hold: {WHITEOUT}* marks what was removed")
    if stat.S_ISCHR(mode) and status.st_rdev == 0:
        gone = tarfile.TarInfo(f"{path[: len(path) - len(name)]}{WHITEOUT}{name}")
        tar.addfile(gone)
        return
    info = _info(path, status)
    if stat.S_ISREG(mode):
        _add_file(tar, info, at, name, status, links)
    elif stat.S_ISLNK(mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=at)
        tar.addfile(info)
    elif stat.S_ISDIR(mode):
        with _opened(at, name, _DIRECTORY) as fd:
            info.pax_headers, opaque = _attributes(fd), _is_opaque(fd)
        tar.addfile(info)
        if opaque:
            tar.addfile(tarfile.TarInfo(f"{path}/.wh..wh..opq"))
    elif stat.S_ISFIFO(mode):
        info.type = tarfile.FIFOTYPE
        tar.addfile(info)  # sockets that nobody serves, and devices that do nothing, stay behind


def _add_file(
    tar: tarfile.TarFile,
    info: tarfile.TarInfo,
    at: int,
    name: str,
    status: os.stat_result,
    links: dict[tuple[int, int], str],
) -> None:
    first = links.setdefault((status.st_dev, status.st_ino), info.name) if status.st_nlink > 1 else info.name
    if first != info.name:
        info.type, info.linkname = tarfile.LNKTYPE, first
        tar.addfile(info)
        return
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with _opened(at, name, flags) as fd, open(fd, "rb", buffering=CHUNK, closefd=False) as file:
        info.pax_headers = _attributes(fd)
        status = os.fstat(fd)
        extents = (
            _extents(fd, status.st_size) if status.st_blocks * 512 < status.st_size else [(0, status.st_size)]
        )
        if sum(length for _, length in extents) < status.st_size:
            _add_sparse(tar, info, file, extents, status.st_size)
        else:
            info.size = status.st_size
            tar.addfile(info, file)


def _attributes(fd: int) -> dict[str, str]:
    headers, size = {}, 0
    for attribute in os.listxattr(fd):
        if (
            attribute.startswith("user.")
            and not attribute.startswith("user.overlay.")
            and "=" not in attribute
        ):
            value = os.getxattr(fd, attribute)
            size += len(attribute) + len(value)
            if size > _MOST_ATTRIBUTES:
                raise ImageError(f"extended attributes of more than {_MOST_ATTRIBUTES >> 10} KiB at one file")
            headers[f"SCHILY.xattr.{attribute}"] = value.decode(errors="surrogateescape")
    return headers


def _extents(fd: int, size: int) -> list[tuple[int, int]]:
    """(offset, length) of what is not a hole. A program in a sandbox makes a file of 8 EiB with one call."""
    extents: list[tuple[int, int]] = []
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # the rest is a hole
            raise
        offset = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start < offset:
            extents.append((start, offset - start))
        if len(extents) >= archive.MOST_PIECES:
            extents = _joined(extents)
    os.lseek(fd, 0, os.SEEK_SET)
    return extents


def _joined(extents: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Fewer: small holes between them are written out. ImageError where that does not help; `unpack` takes only so many."""
    made: list[tuple[int, int]] = []
    for start, length in extents:
        if made and start - sum(made[-1]) <= _SMALL_HOLE:
            made[-1] = (made[-1][0], start + length - made[-1][0])
        else:
            made.append((start, length))
    if len(made) > archive.MOST_PIECES // 2:
        raise ImageError(f"a sparse file of more than {archive.MOST_PIECES // 2:,} pieces")
    return made


def _add_sparse(
    tar: tarfile.TarFile, info: tarfile.TarInfo, file: IO[bytes], extents: list[tuple[int, int]], size: int
) -> None:
    """As GNU tar does it (format 1.0 in pax headers): the map as lines of decimal numbers in the first blocks, then the data."""
    extents = [*extents, (size, 0)]
    lines = f"{len(extents)}\n" + "".join(f"{offset}\n{length}\n" for offset, length in extents)
    text = lines.encode()
    text += bytes(-len(text) % tarfile.BLOCKSIZE)
    parent, _, name = info.name.rpartition("/")
    info.pax_headers = {
        **info.pax_headers,
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": info.name,
        "GNU.sparse.realsize": str(size),
    }
    info.name = f"{parent}/GNUSparseFile.0/{name}".lstrip("/")
    info.size = len(text) + sum(length for _, length in extents)
    tar.addfile(info, cast(IO[bytes], _Pieces(text, file, extents)))


class _Pieces:
    """What is read one after the other: a text, then some extents of a file."""

    def __init__(self, text: bytes, file: IO[bytes], extents: list[tuple[int, int]]) -> None:
        self._parts = self._read_all(text, file, extents)
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (part := next(self._parts, b"")):
            self._rest += part
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    @staticmethod
    def _read_all(text: bytes, file: IO[bytes], extents: list[tuple[int, int]]) -> Iterator[bytes]:
        yield text
        for offset, length in extents:
            file.seek(offset)
            while length > 0 and (data := file.read(min(length, CHUNK))):
                length -= len(data)
                yield data


def _info(path: str, status: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode = stat.S_IMODE(status.st_mode)
    info.mtime = int(status.st_mtime)
    info.type = tarfile.DIRTYPE if stat.S_ISDIR(status.st_mode) else tarfile.REGTYPE
    return info


@contextmanager
def _opened(at: int, name: str, flags: int) -> Iterator[int]:
    """A descriptor, also of what its owner may not read: meanwhile that has another mode. OSError."""
    with ExitStack() as stack:
        try:
            fd = os.open(name, flags, dir_fd=at)
            stack.callback(os.close, fd)
            if flags & os.O_DIRECTORY:
                os.stat(".", dir_fd=fd)  # it may be readable, and closed to those who want to enter
        except PermissionError:
            holder = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            stack.callback(os.close, holder)
            mode, path = stat.S_IMODE(os.fstat(holder).st_mode), f"/proc/self/fd/{holder}"
            os.chmod(path, mode | 0o700)  # fchmod refuses O_PATH
            stack.callback(os.chmod, path, mode)
            fd = os.open(path, flags & ~os.O_NOFOLLOW)
            stack.callback(os.close, fd)
        yield fd


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OPAQUE_ATTRIBUTE) == b"y"
    except OSError:
        return False  # no such attribute
