"""What can't be had of a writable layer in memory."""

from __future__ import annotations

from lisrt.errors import HostError


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
