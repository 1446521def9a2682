"""The compiled extension, behind plain Python functions. The only module that imports cffi's `ffi` and `lib`."""

from __future__ import annotations

import errno
import os

try:
    from lisrt.kernel._native import ffi, lib
except ModuleNotFoundError as error:  # a shell in the checkout, whose `lisrt` goes before the installed one
    if error.name != "lisrt.kernel._native":
        raise
    raise ModuleNotFoundError(
        f"lisrt's C is not built in {os.path.dirname(os.path.dirname(__file__))}, a directory of sources:"
        " start Python in another directory, or install lisrt with `pip install -e`",
        name=error.name,
    ) from None


def stages() -> list[tuple[str, str]]:
    """(name, what it was to do) of every stage that a fault can name, by number."""
    return [
        (ffi.string(lib.lis_stage_slug(i)).decode(), ffi.string(lib.lis_stage_words(i)).decode())
        for i in range(lib.lis_stage_count())
    ]


def check_plan(plan: bytes) -> int:
    """The number of steps of an encoded plan, as the helper's own decoder sees it; ValueError with its reason."""
    reason = ffi.new("char[248]")
    steps: int = lib.lis_plan_check(plan, len(plan), reason, 248)
    if steps < 0:
        raise ValueError(ffi.string(reason).decode(errors="replace") or os.strerror(-steps))
    return steps


def open_beneath(dir_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """openat2(2) below `dir_fd`: no link is followed and no `..` leads out. OSError with the path."""
    fd: int = lib.lis_open_beneath(dir_fd, path, flags, mode)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), os.fsdecode(path))
    return fd


def open_in_root(root_fd: int, path: bytes, flags: int) -> int:
    """openat2(2) as if `root_fd` were the root: links are followed, and none leads out. OSError with the path."""
    fd: int = lib.lis_open_in_root(root_fd, path, flags)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), os.fsdecode(path))
    return fd


def sync_filesystem(fd: int) -> None:
    """syncfs(2): all that is on the file system of `fd` is on its disk. OSError."""
    result: int = lib.lis_sync_filesystem(fd)
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def cached_bytes(fd: int) -> int:
    """Bytes of a file of one's own that are in the page cache (mincore(2)). OSError."""
    result: int = lib.lis_cached_bytes(fd)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def remove_tree(dir_fd: int, name: str) -> None:
    """Removes a directory and all below it, whatever its modes and depth; follows nothing. OSError."""
    while (result := lib.lis_remove_tree_within(dir_fd, os.fsencode(name), 100)) == -errno.ETIME:
        pass  # back in Python, where Ctrl-C is heard
    if result < 0 and result != -errno.ENOENT:
        raise OSError(-result, os.strerror(-result), name)


def owner_is_of_here(base_fd: int, name: str) -> bool:
    """Whether the owner directory's lock, when it is free, proves that its owner is dead: see csrc/owner.c."""
    return bool(lib.lis_owner_is_of_here(base_fd, os.fsencode(name)))


def remove_owner(base_fd: int, name: str) -> None:
    """Removes an owner directory and all below it, its record last; takes as long as it takes. OSError."""
    while (result := lib.lis_owner_remove_within(base_fd, os.fsencode(name), 100)) == -errno.ETIME:
        pass  # back in Python, where Ctrl-C is heard
    if result < 0:
        raise OSError(-result, os.strerror(-result), name)


def private_in_proc() -> list[str]:
    """The names below /proc that tell of more than a pid namespace: see csrc/outside.h."""
    names: list[str] = []
    while (name := lib.lis_private_in_proc(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


def landlock_scopes() -> bool:
    """Whether this kernel can keep processes among abstract sockets of their own (Linux 6.12, Landlock)."""
    return bool(lib.lis_landlock_scopes())
