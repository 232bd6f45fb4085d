"""Many readers of one stream, each of which gets every message.

Whoever finds nothing in its own buffer reads the stream for all. So no task stands between the stream and its readers,
and a stream that nobody reads holds up its writer as it would without them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, get_args

import anyio

from xoscar_sc.errors import Lagged
from xoscar_sc.loop import ClosedResourceError, Loop, Slot, undisturbed

Overflow: TypeAlias = Literal["block", "drop_oldest", "raise"]


class _Gap:
    """Stands where messages were dropped.

    Args:
        missed: how many.
    """

    def __init__(self, missed: int = 0) -> None:
        self.missed = missed


class _Bad:
    """Stands for a message that makes no sense here.

    Args:
        exc: why.
    """

    def __init__(self, exc: Exception) -> None:
        self.exc = exc


class Fanout:
    """What the subscriptions of one stream share."""

    def __init__(
        self, loop: Loop, receive: Callable[[], Awaitable[Any]], unpack: Callable[[Any], Any]
    ) -> None:
        self.loop = loop
        self._receive = receive
        self._unpack = unpack
        self.subscriptions: set[Subscription] = set()
        self._reading = False
        """One of them reads the stream."""
        self._end: BaseException | None = None
        """What the stream ended with."""
        self._waiting: list[Slot] = []

    @undisturbed
    async def read(self) -> None:
        """Wait until there may be something new."""
        if self._end is not None:
            raise self._end
        if self._reading or any(each.blocks for each in self.subscriptions):
            await self._wait()
            return
        self._reading = True
        try:
            packed = await self._receive()
        except Exception as exc:
            self._end = exc
            raise
        else:
            item = self._unpacked(packed)
            for each in self.subscriptions:
                each.put(item)
        finally:
            self._reading = False
            self.changed()

    def _unpacked(self, packed: object) -> Any:
        try:
            return self._unpack(packed)
        except Exception as exc:  # all get it, in its place, and the stream goes on
            return _Bad(exc)

    async def _wait(self) -> None:
        slot = self.loop.slot()
        self._waiting.append(slot)
        try:
            await slot.wait()
        finally:
            if not slot.filled:
                self._waiting.remove(slot)

    def changed(self) -> None:
        """Something has come, or has been read, or a reader has gone: all look again."""
        waiting, self._waiting = self._waiting, []
        for slot in waiting:
            slot.set(None)


class Subscription:
    """One reader of a stream that has many; see :meth:`Stream.subscribe`."""

    def __init__(self, fanout: Fanout, max_buffer: int, overflow: Overflow) -> None:
        if isinstance(max_buffer, bool) or not isinstance(max_buffer, int):
            raise TypeError(f"max_buffer= is {max_buffer!r}; it is a number of messages")
        if max_buffer < 1:
            raise ValueError(f"max_buffer= is {max_buffer}; it is 1 or more")
        if overflow not in get_args(Overflow):
            raise ValueError(f"overflow= is {overflow!r}; it is one of {get_args(Overflow)}")
        self._fanout = fanout
        self._max = max_buffer
        self._overflow = overflow
        self._items: deque[Any] = deque()
        """Those that wait, and a gap for those that were dropped between them."""
        self._waiting = 0
        """Those that wait, without the gaps."""

    @property
    def blocks(self) -> bool:
        """Whether nothing may be read for anybody until this one has read."""
        return self._overflow == "block" and self._waiting >= self._max

    def put(self, item: object) -> None:
        """A message has come."""
        items = self._items
        if self._waiting < self._max:
            self._waiting += 1
        elif self._overflow == "raise":
            if not isinstance(items[-1], _Gap):
                items.append(_Gap())
            items[-1].missed += 1
            return
        else:
            items.popleft()
        items.append(item)

    @undisturbed
    async def receive(self) -> Any:
        """The next message, as soon as there is one; see :meth:`Stream.receive`.

        Raises:
            Lagged: so many were dropped in this place, since this reader was too slow. The next ones come again.
            ClosedResourceError: its block has been left, or not entered.
        """
        await self._fanout.loop.breathe()
        while True:
            if self not in self._fanout.subscriptions:
                raise ClosedResourceError("this subscription is not open")
            if self._items:
                return self._next()
            await self._fanout.read()

    def _next(self) -> Any:
        item = self._items.popleft()
        if isinstance(item, _Gap):
            raise Lagged(item.missed)
        self._waiting -= 1
        self._fanout.changed()
        if isinstance(item, _Bad):
            raise item.exc
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        self._fanout.subscriptions.add(self)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._fanout.subscriptions.discard(self)
        self._items.clear()
        self._waiting = 0
        self._fanout.changed()
