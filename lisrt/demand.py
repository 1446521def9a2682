"""How many sandboxes a pool keeps warm, and when it tries again to make one."""

from __future__ import annotations

LOOK_AGAIN = 0.05
"""Seconds until memory, or what other programs hold, is looked at again. Nothing tells when it has changed."""
LOOK_IDLE = 1.0
"""Seconds between looks at sandboxes: whether they live, and whether another program waits for their slots."""
CLOSE_PATIENCE = 5.0
"""Seconds for whoever holds the lock to let go, where that might be one who never does."""
FORGOTTEN = 10.0
"""Seconds after which a sandbox is ended in the background, when its taker was to do so and was interrupted."""


class Demand:
    """Who finds none has one more kept from then on; those that nobody has needed for a while are given up.

    `least` and `most` are the bounds of `target`; `period` is the while, in seconds.
    """

    def __init__(self, least: int, most: int, period: float) -> None:
        self.target = least
        self._least, self._most, self._period = least, most, period
        self._lowest: int | None = None
        self._ends_at = 0.0

    def missed(self) -> None:
        """Somebody came, there was room for a sandbox, and none was warm."""
        self.target = min(self.target + 1, self._most)
        self._lowest = 0

    def left(self, warm: int) -> None:
        """Somebody took one, and so many were left. The fewest of a period were needed by nobody in it."""
        if self._lowest is not None:
            self._lowest = min(self._lowest, warm)

    def look(self, now: float, warm: int) -> None:
        """Ends a period, when it is over."""
        if self._lowest is not None and now < self._ends_at:
            return
        self.target = max(self._least, self.target - (self._lowest or 0))
        self._lowest, self._ends_at = warm, now + self._period


PAUSES = 0.1, 10.0
"""Seconds before the next try after one that failed in the background: from the first, twice as long each time, to the second."""


class Patience:
    """A host that is broken is not asked again and again. `until`: the moment before which nothing is tried."""

    def __init__(self) -> None:
        self.until = 0.0
        self._pause = PAUSES[0]

    def failed(self, now: float) -> None:
        """A try has."""
        self.until = now + self._pause
        self._pause = min(2 * self._pause, PAUSES[1])

    def worked(self) -> None:
        """Somebody's try has: it is mended."""
        self.until, self._pause = 0.0, PAUSES[0]
