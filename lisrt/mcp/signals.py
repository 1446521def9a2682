"""SIGINT, SIGTERM and SIGHUP: the first one ends a server as the leaving of its clients would, the second one at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

__all__ = ["on_ending_signal"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def on_ending_signal(stop: Callable[[], None]) -> list[int]:
    """Has `stop` called by the running loop at the first of them. The list gets its number."""
    loop = asyncio.get_running_loop()
    received: list[int] = []
    ending = [name for name in _ENDING if signal.getsignal(name) is not signal.SIG_IGN]  # nohup's stay ignored

    def on_signal(number: int) -> None:
        received.append(number)
        for name in ending:  # the second one is not for us
            loop.remove_signal_handler(name)
            signal.signal(name, signal.SIG_DFL)
        stop()

    for name in ending:
        loop.add_signal_handler(name, on_signal, int(name))
    return received
