"""Ctrl-C, SIGTERM and SIGHUP as an event, once; the second one ends the program as ever."""

from __future__ import annotations

import asyncio
import signal
from types import TracebackType
from typing import Self

__all__ = ["Signals"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While entered, in a running event loop: `stop` is set by the first signal, `received` has its number."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.received: list[int] = []
        self._ending = [name for name in _ENDING if signal.getsignal(name) is not signal.SIG_IGN]  # nohup's stay ignored

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for name in self._ending:
            self._loop.add_signal_handler(name, self._on_signal, int(name))
        return self

    def _on_signal(self, number: int) -> None:
        self.received.append(number)
        self.stop.set()
        for name in self._ending:  # the second one is not for us
            self._loop.remove_signal_handler(name)
            signal.signal(name, signal.SIG_DFL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.received:
            for name in self._ending:
                self._loop.remove_signal_handler(name)
