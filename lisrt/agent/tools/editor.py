"""The file editor behind `str_replace_editor`.

Files are edited as bytes: what an edit does not name stays as it was, whatever its line ends, tabs or
encoding. All access goes through the sandbox's own file verbs, so no path and no text ever meets a shell.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections import deque
from collections.abc import Sequence

from lisrt.agent.tools.edits import Edit, cap, insert, line_range, numbered, replace_once, split_lines
from lisrt.agent.tools.observation import SandboxFault, ToolError
from lisrt.aio import AsyncSandbox

__all__ = ["MAX_FILE", "Editor", "observed"]

# The largest file, in bytes, that is viewed or edited; beyond it a program is the better tool.
MAX_FILE = 10 * 1024 * 1024

# Lines shown around an edit, on either side.
_AROUND = 4

# A directory listing: seconds it may take, and bytes of it that are kept.
_LISTING_TIMEOUT = 30.0
_LISTING_BYTES = 4 * 1024 * 1024

# What a program inside the sandbox can bring about. Any other errno from a verb (no descriptors left on the
# host, say) is not the program's doing.
_PROGRAM_ERRNOS = frozenset(
    {
        errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ELOOP,
        errno.ENAMETOOLONG, errno.EFBIG, errno.E2BIG, errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.ENOTSUP,
        errno.EROFS, errno.EBUSY, errno.ETXTBSY, errno.ENOSPC, errno.EDQUOT, errno.ENOEXEC, errno.EOVERFLOW,
        errno.EAGAIN,  # a lease on the file
        errno.EIO, errno.ETIMEDOUT,  # the process that serves files was killed, or stopped
    }
)  # fmt: skip


# Edits that can be taken back, of all files; and bytes that they may keep of what they have replaced.
_UNDO = 50
_UNDO_BYTES = 1024 * 1024


class Editor:
    """Views and edits the files of one sandbox; every method answers with text for the model.

    Relative paths start at `working_dir`. `max_output`: characters of one answer. Raises ToolError for what
    the model can mend, and LisrtError or SandboxFault where it is the sandbox that failed.
    """

    def __init__(self, box: AsyncSandbox, *, working_dir: str, max_output: int) -> None:
        self._box = box
        self._working_dir = working_dir
        self._max_output = max_output
        self._edits: deque[tuple[str, Edit]] = deque(maxlen=_UNDO)

    async def view(self, path: str, view_range: Sequence[int] | None = None) -> str:
        """A text file with numbered lines, or the entries of a directory, two levels deep."""
        path = self._resolve(path)
        data = await self._read(path)
        if data is None:
            if view_range is not None:
                raise ToolError(f"{path} is a directory: view_range is for files")
            return cap(await self._listing(path), self._max_output)
        if b"\0" in data:
            raise ToolError(f"{path} is not text: its {len(data)} bytes include NUL")
        lines = split_lines(data)
        first, last = line_range(view_range, len(lines))
        if not lines:
            return f"{path} is empty."
        part = "" if (first, last) == (1, len(lines)) else f"lines {first} to {last} of "
        total = f"{len(lines)} {'line' if len(lines) == 1 else 'lines'}"
        return cap(f"{path} ({part}{total})\n{numbered(lines, first, last)}", self._max_output)

    async def create(self, path: str, text: str) -> str:
        """A new file that holds exactly `text`."""
        path = self._resolve(path)
        if await self._exists(path):
            raise ToolError(f"{path} exists already and was left alone; str_replace and insert change files")
        data = text.encode()
        await self._write(path, data)
        self._keep(path, Edit.of(data, 0, b"", data, created=True))
        return f"Created {path} ({len(data)} bytes)."

    async def str_replace(self, path: str, old: str, new: str) -> str:
        """`new` in place of the only occurrence of `old`."""
        path = self._resolve(path)
        data = await self._read_file(path)
        edited, at = replace_once(data, old.encode(), new.encode())
        await self._write(path, edited)
        self._keep(path, Edit.of(edited, at, old.encode(), new.encode()))
        first = data.count(b"\n", 0, at) + 1
        return self._after_edit(path, edited, first, first + new.count("\n"))

    async def insert(self, path: str, after: int, text: str) -> str:
        """`text` as lines of its own after line `after` (0: before the first)."""
        path = self._resolve(path)
        data = await self._read_file(path)
        edited, at = insert(data, after, text.encode())
        await self._write(path, edited)
        self._keep(path, Edit.of(edited, at, b"", edited[at : at + len(edited) - len(data)]))
        return self._after_edit(path, edited, after + 1, after + max(len(split_lines(text.encode())), 1))

    async def undo(self, path: str) -> str:
        """Takes back the last edit that this editor has made to the file."""
        path = self._resolve(path)
        at = next((at for at in range(len(self._edits) - 1, -1, -1) if self._edits[at][0] == path), None)
        if at is None:
            raise ToolError(f"no edit of {path} is known that could be undone")
        edit = self._edits[at][1]
        before = edit.undone(await self._read_file(path))
        if edit.created:
            await self._remove(path)
        else:
            await self._write(path, before)
        del self._edits[at]
        if edit.created:
            return f"Undone: {path} is gone again."
        first = before.count(b"\n", 0, edit.at) + 1
        return self._after_edit(path, before, first, first + edit.old.count(b"\n"), done="Undone:")

    def _keep(self, path: str, edit: Edit) -> None:
        self._edits.append((path, edit))
        while len(self._edits) > 1 and sum(len(one.old) for _, one in self._edits) > _UNDO_BYTES:
            self._edits.popleft()

    def _after_edit(self, path: str, data: bytes, first: int, last: int, *, done: str = "Edited") -> str:
        lines = split_lines(data)
        if not lines:
            return f"{done} {path}; it is empty now."
        shown = numbered(lines, max(first - _AROUND, 1), min(last + _AROUND, len(lines)))
        return cap(f"{done} {path}; it now reads here:\n{shown}", self._max_output)

    def _resolve(self, path: str) -> str:
        if not path or "\0" in path:
            raise ToolError("path contains a NUL character" if path else "path is empty")
        path = posixpath.join(self._working_dir, path)
        return path if ".." in path.split("/") else posixpath.normpath(path)  # what .. leads to, links decide

    async def _read_file(self, path: str) -> bytes:
        data = await self._read(path)
        if data is None:
            raise ToolError(f"{path} is a directory")
        return data

    async def _read(self, path: str) -> bytes | None:
        """The file's bytes; None for a directory."""
        try:
            return await self._box.read(path, max_bytes=MAX_FILE)
        except IsADirectoryError:
            return None
        except OSError as error:
            if error.errno == errno.EFBIG:
                size = f"{MAX_FILE // 1024**2} MiB"
                raise ToolError(f"{path} is larger than {size}: use sed, grep or a program") from error
            raise observed(error, path) from error

    async def _exists(self, path: str) -> bool:
        try:
            await self._box.read(path, max_bytes=1)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in (errno.EFBIG, errno.EISDIR):
                raise observed(error, path) from error
        return True

    async def _write(self, path: str, data: bytes) -> None:
        try:
            await self._box.write(path, data)
        except OSError as error:
            raise observed(error, path) from error

    async def _remove(self, path: str) -> None:
        try:
            result = await self._box.run(["rm", "--", path], cwd="/", timeout=_LISTING_TIMEOUT)
        except OSError as error:
            raise observed(error, path) from error
        if not result.ok:
            raise ToolError(result.stderr.strip() or f"{path} could not be removed")

    async def _listing(self, path: str) -> str:
        """Type, size and name of what is below `path`, hidden entries left out, as `find` tells it."""
        argv = ["find", "-H", path, "-mindepth", "1", "-maxdepth", "2", "-name", ".*", "-prune", "-o"]
        argv += ["-printf", r"%y\0%s\0%P\0%l\0"]
        try:
            result = await self._box.run(argv, timeout=_LISTING_TIMEOUT, max_output=_LISTING_BYTES)
        except OSError as error:
            raise observed(error, path) from error
        if not result.started:
            raise ToolError("this sandbox has no find program, so directories cannot be viewed; try ls")
        if result.truncated:
            raise ToolError(f"{path} has too many entries to view; use find or ls with a pattern")
        fields = result.stdout_bytes.split(b"\0")[:-1]
        entries = sorted(zip(fields[2::4], fields[0::4], fields[1::4], fields[3::4], strict=False))
        lines = [_entry(*(os.fsdecode(part) for part in entry)) for entry in entries]
        notes = [] if result.ok else [f"(incomplete: {result.stderr.strip() or result.outcome.value})"]
        head = f"{path}/ ({len(lines)} entries, two levels, hidden ones left out)"
        return "\n".join([head, *lines, *notes])


def _entry(name: str, kind: str, size: str, target: str) -> str:
    if kind == "d":
        return f"{_printable(name)}/"
    if kind == "l":
        return f"{_printable(name)} -> {_printable(target)}"
    return f"{_printable(name)} ({size} {'byte' if size == '1' else 'bytes'})"


def _printable(name: str) -> str:
    """A file name on one line; what cannot be printed, bytes that are no UTF-8 included, is escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)


def observed(error: OSError, path: str) -> ToolError | SandboxFault:
    """What to raise for `error` of a verb: ToolError if a program can cause it, else SandboxFault."""
    text = f"{error.filename or path}: {error.strerror or error}"
    return ToolError(text) if error.errno in _PROGRAM_ERRNOS else SandboxFault(text)
