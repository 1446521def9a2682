"""Reading a layer: from a compressed file to the entries of its tar, with bounds on all that an attacker can choose."""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self, cast

from lisrt.errors import ImageError

MOST_ENTRIES = 1_000_000
MOST_RATIO = 250
"""Bytes out of a byte in; gzip reaches 1,000 with zeros alone, real layers stay below 50."""
RATIO_FROM = 256 << 20
"""Smaller ones may be as thin as they like."""
_MOST_HEADER = 1 << 20
"""tarfile reads data piece by piece, but a long name or a pax header at once, whatever size it claims."""
_MOST_GLOBAL_HEADER = 64 << 10
_MOST_GLOBAL_KEYS = 100
MOST_PIECES = 1 << 17
"""Of a sparse file; `pack` makes no more."""
_MOST_MAP = MOST_PIECES * 42
"""Bytes that say where they are: two numbers of at most 20 digits each. The map is no part of a header, so has no bound there."""
_MOST_HEADERS = 16
"""In a row, before the entry that they are about. tarfile calls itself for each."""
_ABOUT_THE_NEXT = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"))


def compression(head: bytes) -> str:
    """`gzip`, `zstd`, `xz`, `bzip2`, or "" for none of them, from a file's first bytes."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def decompressed(raw: IO[bytes]) -> IO[bytes]:
    """A file's contents, whichever way they are compressed. `raw` can be rewound."""
    kind = compression(raw.read(8))
    raw.seek(0)
    match kind:
        case "gzip":
            import gzip

            return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
        case "zstd":
            return _zstd(raw)
        case "xz":
            return lzma.LZMAFile(raw)
        case "bzip2":
            import bz2

            return bz2.BZ2File(raw)
    return raw


def _zstd(raw: IO[bytes]) -> IO[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        from backports import zstd
    return zstd.ZstdFile(raw)  # type: ignore[no-any-return, unused-ignore]


def zstd_writer(raw: IO[bytes], level: int = 3) -> IO[bytes]:
    """Compresses what is written to it; closing it ends the frame and leaves `raw` open."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from backports import zstd
    return zstd.ZstdFile(raw, "wb", level=level)  # type: ignore[no-any-return, unused-ignore]


def digest(content: bytes) -> str:
    """`sha256:...`"""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Measured(io.RawIOBase):
    """What tarfile reads from: it is digested, counted and bounded on the way."""

    def __init__(self, source: IO[bytes], compressed: int | None) -> None:
        """`compressed`: bytes of the file, which bound what may come out of it; None for no bound."""
        self._source = source
        self._most = None if compressed is None else max(RATIO_FROM, compressed * MOST_RATIO)
        self._digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.count += len(data)
        if self._most is not None and self.count > self._most:
            raise ImageError(
                f"its contents are more than {MOST_RATIO} times as large as the file: a bomb, or damaged"
            )
        self._digest.update(data)
        return data

    def finish(self) -> str:
        """Reads to the end and returns the digest of all that there was."""
        while self.read(1 << 20):
            pass
        return f"sha256:{self._digest.hexdigest()}"


class _Headers(tarfile.TarInfo):
    """The headers of one archive, made into a class of its own by `Layer`, since tarfile wants a class.

    tarfile takes a header that it can't read, in the midst of an archive, for its end.
    """

    in_a_row = 0
    ended = False

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) == 0:
            return super().frombuf(
                buf, encoding, errors
            )  # raises; whether there should be more, `ended` says
        if len(buf) < tarfile.BLOCKSIZE:
            raise ImageError("it ends within a header")
        if not any(buf):
            cls.ended = True
            return super().frombuf(buf, encoding, errors)
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise ImageError(f"a header is damaged, or it is no tar archive ({error})") from None
        if header.size < 0:
            raise ImageError(f"a size below 0: {header.name[:200]!r}")
        if header.type not in _ABOUT_THE_NEXT:
            cls.in_a_row = 0
            return header
        cls.in_a_row += 1
        most = _MOST_GLOBAL_HEADER if header.type == tarfile.XGLTYPE else _MOST_HEADER
        if header.size > most or cls.in_a_row > _MOST_HEADERS:
            raise ImageError("headers larger, or more of them, than any archive that means well has")
        return header

    def _proc_gnusparse_10(self, next: Self, pax_headers: dict[str, str], archive: tarfile.TarFile) -> None:
        with _bounded_map(archive, is_text=True):
            super()._proc_gnusparse_10(next, pax_headers, archive)  # type: ignore[misc]

    def _proc_sparse(self, archive: tarfile.TarFile) -> Self:
        with _bounded_map(archive, is_text=False):
            return super()._proc_sparse(archive)  # type: ignore[misc, no-any-return]


@contextlib.contextmanager
def _bounded_map(archive: tarfile.TarFile, *, is_text: bool) -> Iterator[None]:
    """Meanwhile tarfile reads a sparse file's map, all of it into a list, and at the archive's end for ever."""
    stream = archive.fileobj
    archive.fileobj = cast(IO[bytes], _Map(cast(IO[bytes], stream), is_text))
    try:
        yield
    finally:
        archive.fileobj = stream


class _Map:
    """The blocks of a sparse file's map: lines of numbers, or else binary, and no end of it but in itself."""

    def __init__(self, stream: IO[bytes], is_text: bool) -> None:
        self._stream = stream
        self._is_text = is_text
        self._size = self._lines = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._size += len(data)
        self._lines += data.count(b"\n") if self._is_text else 0
        if len(data) < size or (self._is_text and b"\n" not in data):
            raise ImageError("a sparse file's map is damaged")
        if self._size > _MOST_MAP or self._lines > 2 * MOST_PIECES + tarfile.BLOCKSIZE:
            raise ImageError(f"a sparse file of more than {MOST_PIECES:,} pieces")
        return data

    def tell(self) -> int:
        return self._stream.tell()


class Layer:
    """A layer that is being read: `entries()` to the end, then `diff_id` and `has_end_mark`."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self._headers: type[_Headers] = type("_Headers", (_Headers,), {})
        self._tar = tarfile.open(
            fileobj=measured,
            mode="r|",
            bufsize=1 << 16,
            errorlevel=2,
            tarinfo=self._headers,
            errors="surrogateescape",
        )
        self.diff_id = ""
        self.count = 0

    @property
    def has_end_mark(self) -> bool:
        """Whether it ends as tar archives do. One that does not may have been cut off between two entries."""
        return self._headers.ended

    @property
    def size(self) -> int:
        """Bytes read so far, decompressed."""
        return self._measured.count

    def entries(self) -> Iterator[tarfile.TarInfo]:
        """Each entry, in the archive's order. Read its data before the next one."""
        while (entry := self._tar.next()) is not None:
            self._check_global()
            # tarfile lets `path` win, which a name has that is long or not ASCII: it is GNUSparseFile.0/NAME then
            entry.name = entry.pax_headers.get("GNU.sparse.name", entry.name)
            self._tar.members.clear()  # type: ignore[attr-defined]  # else all of a million entries stay in memory
            self.count += 1
            if self.count >= MOST_ENTRIES:
                raise ImageError(f"{MOST_ENTRIES:,} entries or more")
            yield entry
        self.diff_id = self._measured.finish()

    def _check_global(self) -> None:
        """What a pax header says of all entries to come, tarfile copies for each of them."""
        headers = self._tar.pax_headers
        if len(headers) > _MOST_GLOBAL_KEYS or any(key.startswith("GNU.sparse.") for key in headers):
            raise ImageError("global headers larger, or other ones, than any archive that means well has")

    def data(self, entry: tarfile.TarInfo) -> IO[bytes]:
        """The contents of a regular file."""
        file = self._tar.extractfile(entry)
        if file is None:
            raise ImageError(f"{entry.name!r} has no contents")
        return file

    def stored(self, entry: tarfile.TarInfo) -> IO[bytes]:
        """What an archive has of a sparse file, one piece after the other. tarfile's own reader can't skip holes in a stream."""
        stream = cast(IO[bytes], self._tar.fileobj)
        stream.seek(entry.offset_data)
        return stream


@contextlib.contextmanager
def reading(path: Path, what: str, *, is_ours: bool = False) -> Iterator[Layer]:
    """A layer's file, opened. `what` names it in every ImageError that comes out of the body.

    `is_ours`: it lies in the store, so it was read through when it came, or we packed it ourselves. Its ratio is no matter
    then: a snapshot with 300 MiB of zeros was once taken, and could never be opened.
    """
    with open(path, "rb") as raw, naming(what):
        with decompressed(raw) as source:
            yield Layer(Measured(source, None if is_ours else path.stat().st_size))


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Whatever goes wrong with an archive's own bytes is an ImageError that begins with `what`."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{what}: {error}") from None
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise ImageError(f"{what} is damaged or no tar archive: {error}") from None
    except OSError as error:
        if error.errno is None:  # gzip.BadGzipFile and bz2 say OSError
            raise ImageError(f"{what} is damaged: {error}") from None
        raise ImageError(
            f"{what}: {error.strerror}{f' ({error.filename})' if error.filename else ''}"
        ) from error
    except Exception as error:
        if type(error).__name__ == "ZstdError":  # its module may not be there to name it by
            raise ImageError(f"{what} is damaged: {error}") from None
        raise
