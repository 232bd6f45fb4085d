"""The values of one call, on their way from the generator that yields them to whoever reads them.

A flow is the reader's end. It stands in the table of open calls where a plain call has a slot, and is one: what fills
it is the answer, which is how the stream ends. The values before it wait here, at most a window of them; each half a
window that has been read is told to the other end, which may send as many more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from xoscar_sc.errors import ProtocolError
from xoscar_sc.loop import Loop, Slot

WINDOW = 64
"""Values that a stream has under way."""


class Flow:
    """See the top of this file.

    Args:
        loop: the reader's.
        demand: called with the number of values that have been read since it was called last.
        wait: how the reader waits for a slot to be filled.
        window: values that may wait here.
    """

    def __init__(
        self,
        loop: Loop,
        demand: Callable[[int], None],
        wait: Callable[[Slot], Awaitable[Any]] | None = None,
        window: int = WINDOW,
    ) -> None:
        self._loop = loop
        self._demand = demand
        self._wait = wait
        self._window = window
        self._items: deque[Any] = deque()
        self._read = 0
        """Values that have been read, and that the other end has not been told of."""
        self._woken: Slot | None = None
        """Of the one that waits for a value or for the answer."""
        self._ends: list[Slot] = []
        """Of those that wait for the answer alone."""
        self._cleared = False
        self.reading = False
        """A task is in :meth:`peek`."""
        self.filled = False
        self.value: Any = None
        """The answer, when it is there."""

    def put(self, item: object) -> None:
        """One more value has come.

        Raises:
            ProtocolError: the other end has sent more than it may.
        """
        if self._cleared:
            return
        if len(self._items) >= self._window:
            raise ProtocolError(f"more than {self._window} values of a stream were sent ahead")
        self._items.append(item)
        self._wake()

    def set(self, value: object) -> None:
        """The answer has come: the stream ends with what is here."""
        if not self.filled:
            self.filled = True
            self.value = value
            self._wake()
            for slot in self._ends:
                slot.set(None)

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set(None)

    async def wait(self) -> Any:
        """Wait for the answer; another may read meanwhile."""
        while not self.filled:
            slot = self._loop.slot()
            self._ends.append(slot)
            try:
                await self._wait_for(slot)
            finally:
                self._ends.remove(slot)
        return self.value

    async def peek(self) -> bool:
        """Wait until a value or the answer is here; whether it is a value.

        Raises:
            RuntimeError: another task is in here.

        Cancellation: nothing is lost.
        """
        if self.reading:
            raise RuntimeError("another task is reading this stream already")
        self.reading = True
        try:
            await self._loop.breathe()
            while not (self._items or self.filled):
                self._woken = slot = self._loop.slot()
                await self._wait_for(slot)
        finally:
            self.reading = False
            self._woken = None
        return bool(self._items)

    def _wait_for(self, slot: Slot) -> Awaitable[Any]:
        return slot.wait() if self._wait is None else self._wait(slot)

    def take(self) -> Any:
        """The oldest value that is here."""
        item = self._items.popleft()
        self._read += 1
        if self._read * 2 >= self._window and not self.filled:
            read, self._read = self._read, 0
            self._demand(read)
        return item

    def clear(self) -> None:
        """Nobody will read what is here, and what still comes."""
        self._cleared = True
        self._items.clear()
