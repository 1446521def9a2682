"""How many sandboxes a pool keeps warm."""

from __future__ import annotations


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
        if self._lowest is None or now < self._ends_at:
            if self._lowest is None:
                self._lowest, self._ends_at = warm, now + self._period
            return
        self.target = max(self._least, self.target - self._lowest)
        self._lowest, self._ends_at = warm, now + self._period
