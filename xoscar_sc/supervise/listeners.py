"""Those who listen to a nursery's events."""

from __future__ import annotations

from collections import deque
from typing import Self

from xoscar_sc.events import Event
from xoscar_sc.loop import Loop, Slot

KEPT = 10_000
"""Events that wait for one listener before the oldest is forgotten."""


class EventStream:
    """A nursery's events from now on, as an async iterator that ends with the nursery."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._slots: list[Slot] = []
        self._ended = False

    def put(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)
        self._wake()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        slots, self._slots = self._slots, []
        for slot in slots:
            slot.set(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Cancellation: no event is lost.
        """
        await self._loop.breathe()
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            slot = self._loop.slot()
            self._slots.append(slot)
            await slot.wait()
        return self._events.popleft()
