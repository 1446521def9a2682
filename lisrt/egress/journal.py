"""What a sandbox has asked of the network, and got."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

MOST_KEPT = 10_000


@dataclass(slots=True)
class Egress:
    """One connection or request. It is written down when it is decided, and its numbers grow until `ended`."""

    host: str
    port: int
    method: str
    """Of HTTP; `CONNECT` for a tunnel, in which nothing more is seen; `SOCKS`."""
    allowed: bool
    rule: str
    """The rule that has decided, as it is written; "" for the default."""
    why: str = ""
    """In words: why it was denied, or has failed."""
    at: float = field(default_factory=time.time)
    """Seconds since 1970."""
    sent: int = 0
    """Bytes from the sandbox."""
    received: int = 0
    """Bytes to the sandbox."""
    ended: bool = False
    cached: bool = False
    """The answer is a file that this host had already, or was fetching for another sandbox."""
    number: int = 0
    """Of the sandbox's records, from 1 on."""


class Journal:
    """The records of one sandbox: the last 10,000, and the sums of all."""

    def __init__(self) -> None:
        self._kept: deque[Egress] = deque(maxlen=MOST_KEPT)
        self._lock = threading.Lock()
        self.allowed = self.denied = self.sent = self.received = 0

    def open(self, record: Egress) -> Egress:
        """Enters it."""
        with self._lock:
            record.number = self.allowed + self.denied + 1
            self._kept.append(record)
            if record.allowed:
                self.allowed += 1
            else:
                self.denied += 1
        return record

    def count(self, record: Egress, sent: int, received: int) -> None:
        """Bytes have moved."""
        record.sent += sent
        record.received += received
        self.sent += sent
        self.received += received

    def sums(self) -> tuple[int, int, int]:
        """Bytes sent and received so far, and how often something was denied."""
        return self.sent, self.received, self.denied

    def records(self) -> list[Egress]:
        """Copies would be no truer: they are as of now."""
        with self._lock:
            return list(self._kept)
