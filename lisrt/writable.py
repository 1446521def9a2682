"""What can't be had of a writable layer in memory."""

from __future__ import annotations

from collections.abc import Sequence

from lisrt.errors import HostError
from lisrt.limits import Limits
from lisrt.spec import Mount


def check_together(tmpfs: int, limits: Limits, read_only: Sequence[Mount]) -> None:
    """ValueError for what does not fit; `read_only`: the mounts, where nothing may be written."""
    if any(mount.writable for mount in read_only):
        raise ValueError('a mount is writable, and writable="none" says that nothing is')
    if tmpfs and (limits.disk is not None or limits.files is not None):
        raise ValueError("a writable layer in memory is limited by its own size: leave out limits on disk and files")


def check_launcher(tmpfs: int, *, is_bubblewrap: bool) -> None:
    """HostError: bubblewrap has no size for it."""
    if tmpfs and is_bubblewrap:
        raise HostError(
            "bubblewrap can't bound a writable layer in memory",
            check="bwrap",
            fix='Use launcher="native", or writable="disk" with a scratch directory in memory ($LISRT_SCRATCH=/dev/shm)',
        )


def check_kept(tmpfs: int) -> None:
    """HostError: it ends with the last process that sees it."""
    if tmpfs:
        raise HostError(
            "what this sandbox writes is in memory of its own, and goes with its processes",
            check="scratch",
            fix='For snapshots, forks and diff use writable="disk"; $LISRT_SCRATCH=/dev/shm is memory, too',
        )
