"""Messages that were dropped, told without a flood.

An actor that drops what it has no room for may drop thousands a second, and an event for each would cost more than the
messages. So the first of a kind is told at once, and those that follow it are gathered, and told as one with their
number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import anyio

from xoscar_sc.events import MessageDropped
from xoscar_sc.loop import Loop

GATHERED = 0.1
"""Seconds of drops that one event tells of, at most."""

_Kind: TypeAlias = tuple[str, str, str]
"""Uid, method, reason."""


class Drops:
    """The drops of one pool.

    Args:
        loop: runs the task that tells of what was gathered; there is one only while there is something to gather.
        emit: told of each event.
    """

    def __init__(self, loop: Loop, emit: Callable[[MessageDropped], None]) -> None:
        self._loop = loop
        self._emit = emit
        self._more: dict[_Kind, int] = {}
        """For each kind that was told a moment ago, how many there have been since."""
        self._gathering = False
        self._closed = False

    def add(self, uid: str, method: str, reason: str) -> None:
        """One more."""
        kind = (uid, method, reason)
        if kind in self._more:
            self._more[kind] += 1
            return
        self._emit(MessageDropped(*kind))
        if self._closed:
            return
        self._more[kind] = 0
        if not self._gathering:
            self._gathering = True
            self._loop.spawn(self._gather)

    def flush(self) -> None:
        """Tell of what was gathered, now."""
        more, self._more = self._more, {}
        for kind, count in more.items():
            if count:
                self._emit(MessageDropped(*kind, count))

    def close(self) -> None:
        """The pool is ending: tell of what was gathered, and of what comes at once."""
        self._closed = True
        self.flush()

    async def _gather(self) -> None:
        try:
            while self._more:
                await anyio.sleep(GATHERED)
                going_on = [kind for kind, count in self._more.items() if count]
                self.flush()
                if not self._closed:
                    self._more = dict.fromkeys(going_on, 0)
        finally:
            self._gathering = False
