"""SIGINT, SIGTERM and SIGHUP: the first one ends a server as the leaving of its clients would, the second one at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

__all__ = ["on_ending_signal"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def on_ending_signal(stop: Callable[[], None], *, patience: float) -> list[int]:
    """Has `stop` called by the running loop at the first of them. The list gets its number.

    patience: seconds that the rest may take. A client that reads no answers holds one up for ever in a thread that nothing can
    interrupt: then this process ends as by the second signal, and the spawner destroys what it leaves.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []
    ending = [name for name in _ENDING if signal.getsignal(name) is not signal.SIG_IGN]  # nohup's stay ignored

    def on_signal(number: int) -> None:
        received.append(number)
        for name in ending:  # the second one is not for us
            loop.remove_signal_handler(name)
            signal.signal(name, signal.SIG_DFL)
        loop.call_later(patience, os.kill, os.getpid(), number)
        stop()

    for name in ending:
        loop.add_signal_handler(name, on_signal, int(name))
    return received
