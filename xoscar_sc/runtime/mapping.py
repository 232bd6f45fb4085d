"""Calls for many items at the same time, whose values are read one by one.

The calls are made by a few runners, tasks out of reach of the reader's cancel scopes; the reader's leaving ends them.
What is under way, or done and not read, is bounded: a slow reader slows the runners, and so those who give the items.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

import anyio

from xoscar_sc.loop import Loop, Slot, undisturbed
from xoscar_sc.runtime.current import Frame, delegate, require_runtime, waiting_frame

T_co = TypeVar("T_co", covariant=True)

Items: TypeAlias = "Iterable[Any] | AsyncIterable[Any]"
Call: TypeAlias = "Callable[[tuple[Any, ...]], Coroutine[Any, Any, Any]]"


class MapStream(Generic[T_co]):
    """The values of many calls, as an async iterator; see :meth:`ActorGroup.map`.

    Args:
        call: called with the arguments of each call.
        iterables: where the arguments come from.
        ordered: the values come in the order of the items.
        limit: items that are under way, or done and not read.

    Cancellation: in an ``async with`` block, a cancelled wait for the next value loses nothing. Without one, all calls
    are cancelled, and waited for.
    """

    def __init__(self, call: Call, iterables: Sequence[Items], *, ordered: bool, limit: int) -> None:
        self._runners: _Runners | None = None
        if not iterables:
            raise TypeError("map() needs an iterable of items")
        if len(iterables) > 1 and any(isinstance(each, AsyncIterable) for each in iterables):
            raise TypeError("map() takes several iterables, or one async iterable")
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit= is {limit!r}; it is a number of items")
        if limit < 1:
            raise ValueError(f"limit= is {limit}; it is 1 or more")
        self._start = call, _items(iterables), ordered, limit
        self._entered = False
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    @undisturbed
    async def __anext__(self) -> T_co:
        if self._ended:
            raise StopAsyncIteration
        if self._runners is None:
            self._runners = _Runners(*self._start)
        try:
            outcome = await self._runners.next()
        except BaseException:
            if not self._entered:
                await self.aclose()
            raise
        if outcome is None or self._ended:  # another task may have closed it meanwhile
            self._ended = True
            raise StopAsyncIteration
        succeeded, value = outcome
        if succeeded:
            return value  # type: ignore[no-any-return]
        with contextlib.suppress(Exception):  # what the call raised comes first
            await self.aclose()
        if isinstance(value, StopAsyncIteration):  # a call's own, and not the end of this
            raise RuntimeError("a call raised StopAsyncIteration") from value  # noqa: TRY004
        raise value

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    @undisturbed
    async def aclose(self) -> None:
        """Cancel the calls that are open, and wait until they have ended.

        Raises:
            what an async iterable of items raised while it was closed.
        """
        self._ended = True
        if self._runners is not None:
            await self._runners.close()

    def __del__(self) -> None:
        if self._runners is not None and not self._ended:
            self._runners.abandon()


class _Runners:
    """What goes on behind a :class:`MapStream`; it knows nothing of it, so that who drops that ends this."""

    def __init__(self, call: Call, items: AsyncIterator[tuple[Any, ...]], ordered: bool, limit: int) -> None:
        self._loop: Loop = require_runtime().loop
        self._call = call
        self._items = items
        self._taking = anyio.Lock()
        self._scopes = [anyio.CancelScope() for _ in range(limit)]
        self._ordered = ordered
        self._outcomes: dict[int, tuple[bool, Any]] = {}
        """What has come of the items, by their numbers, until it is read."""
        self._completed: deque[int] = deque()
        """The numbers, as they were completed."""
        self._taken = 0
        """Items that have been taken."""
        self._read = 0
        """Outcomes that have been read."""
        self._over = False
        """No more items will be taken."""
        self._limit = limit
        self._waiting: deque[Slot] = deque()
        """Of the runners that wait until more has been read."""
        self._woken: Slot | None = None
        """Of the reader."""
        self._running = limit
        self._closed = False
        """Nobody reads any more."""
        self._gone = anyio.Event()
        """Set when the runners have ended, and the items are closed."""
        self._error: Exception | None = None
        """What the items raised then, until it is told."""
        reader = waiting_frame(self._loop)
        for scope in self._scopes:
            self._loop.spawn(self._run, scope, reader)

    # The runners

    async def _run(self, scope: anyio.CancelScope, reader: Frame | None) -> None:
        delegate(reader)
        try:
            with scope:
                while await self._run_one(scope):
                    pass
        finally:
            self._running -= 1
            if not self._running:
                await self._close_items()
            self._wake()

    async def _close_items(self) -> None:
        try:
            await self._items.aclose()  # type: ignore[attr-defined]
        except Exception as exc:  # of whoever gives the items
            self._error = exc
        finally:
            self._gone.set()

    async def _run_one(self, scope: anyio.CancelScope) -> bool:
        """Take an item, and call; whether there may be another."""
        async with self._taking:
            while not self._over and self._taken - self._read >= self._limit:
                slot = self._loop.slot()
                self._waiting.append(slot)
                await slot.wait()
            if self._over:
                return False
            number = self._taken
            try:
                args = await anext(self._items)
            except StopAsyncIteration:
                self._end()
                return False
            except BaseException as exc:  # of whoever gives the items
                if scope.cancel_called and isinstance(exc, self._loop.cancelled):
                    raise
                self._taken += 1
                self._complete(number, succeeded=False, value=exc)
                return False
            self._taken += 1
        try:
            value = await self._call(args)
        except self._loop.cancelled:
            raise
        except BaseException as exc:  # whatever it is, it is the reader's
            self._complete(number, succeeded=False, value=exc)
            return False
        self._complete(number, succeeded=True, value=value)
        return True

    def _complete(self, number: int, *, succeeded: bool, value: object) -> None:
        self._outcomes[number] = succeeded, value
        self._completed.append(number)
        if not succeeded:
            self._end()
        self._wake()

    def _end(self) -> None:
        """Take no more items."""
        self._over = True
        self._let_go()
        self._wake()

    def _let_go(self) -> None:
        while self._waiting:
            self._waiting.popleft().set(None)

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set(None)

    # The reader

    async def next(self) -> tuple[bool, Any] | None:
        """The next outcome: whether it is a value, and the value or exception; None if all have been read."""
        await self._loop.breathe()
        while not self._closed:
            number = self._read if self._ordered else self._completed[0] if self._completed else -1
            if number in self._outcomes:
                if not self._ordered:
                    self._completed.popleft()
                self._read += 1
                self._let_go()
                return self._outcomes.pop(number)
            if self._over and self._read == self._taken:
                return None
            await self._wait_changed()
        return None

    async def _wait_changed(self) -> None:
        if self._woken is not None:
            raise RuntimeError("another task is reading these values already")
        self._woken = slot = self._loop.slot()
        try:
            await slot.wait()
        finally:
            self._woken = None

    async def close(self) -> None:
        """Cancel the calls that are open, and wait until they have ended."""
        self._closed = True
        self._end()
        self._cancel()
        await self._loop.run_shielded(self._gone.wait)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _cancel(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    def abandon(self) -> None:
        """Cancel the calls that are open, and wait for nothing; from any thread."""
        with contextlib.suppress(Exception):  # the loop has ended, and everything with it
            self._loop.soon(self._cancel)


async def _items(iterables: Sequence[Items]) -> AsyncIterator[tuple[Any, ...]]:
    """The arguments of each call."""
    first = iterables[0]
    if isinstance(first, AsyncIterable):
        iterator = aiter(first)
        try:
            async for item in iterator:
                yield (item,)
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()
    else:
        for items in zip(first, *iterables[1:], strict=False):
            yield items
