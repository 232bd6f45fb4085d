"""Methods that are generators, of every kind: what they yield is a value of a stream, or something to wait for.

- An awaitable that is yielded, or a tuple of them, is awaited, and its result given back at the ``yield``; meanwhile
  other messages are let in. A sync generator does nothing else. Source: xoscar's manner.
- Anything else is a value for whoever reads the stream. A :class:`Feed` says how many may go ahead of the reader.

Either way a ``yield`` is where others may have the actor's lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Protocol

from xoscar_sc.loop import disturbed
from xoscar_sc.runtime.gathering import awaited, gather
from xoscar_sc.runtime.methods import is_awaitable

if TYPE_CHECKING:
    from xoscar_sc.ipc import Channel
    from xoscar_sc.loop import Slot
    from xoscar_sc.runtime.work import Work

KINDS = frozenset({AsyncGeneratorType, GeneratorType})


class Return(Exception):
    """Ends a generator method with a value, as ``return value`` does where the language allows it.

    Source: xoscar.
    """

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value


class Left(BaseException):
    """Nobody wants what the generator yields: it is closed."""


class Feed:
    """How far a generator may go ahead of its reader.

    Args:
        window: values that it may yield before one has been read.
        send: sends a value to the reader.
        channel: what they go over, if they do: one that has too many bytes to send holds up the generator too.
    """

    __slots__ = ("_channel", "_credit", "_send", "_woken", "left", "waiting")

    def __init__(self, window: int, send: Callable[[Any], None], channel: Channel | None = None) -> None:
        self._credit = window
        self._send = send
        self._channel = channel
        self._woken: Slot | None = None
        self.left = False
        """The generator is to be closed at its ``yield``."""
        self.waiting = False
        """The generator is at a ``yield``: it waits for its reader, or for the lock."""

    def demand(self, count: int) -> None:
        """So many values have been read."""
        self._credit += count
        self._wake()

    def leave(self) -> None:
        """Close the generator at its ``yield``."""
        self.left = True
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set(None)

    async def put(self, work: Work, value: object) -> None:
        """Give a value to the reader, and wait until there may be another.

        Raises:
            Left: there will be no other.
            SerializationError: it cannot be sent, or is not of the declared type.
        """
        if not self.left:
            self._send(value if work.declared is None else work.declared.item(work.method, value))
            self._credit -= 1
            self.waiting = True
            try:
                if self._credit < 1 or self._crowded or work.cell.mailbox.wanted(work):
                    async with work.cell.unlocked():
                        await self._wait(work)
                else:
                    await work.cell.runtime.loop.breathe()
            finally:
                self.waiting = False
        if self.left:
            raise Left

    @property
    def _crowded(self) -> bool:
        return self._channel is not None and self._channel.crowded

    async def _wait(self, work: Work) -> None:
        while not self.left:
            if self._credit < 1:
                self._woken = slot = work.cell.runtime.loop.slot()
                try:
                    await slot.wait()
                finally:
                    self._woken = None
            elif self._channel is not None and self._channel.crowded:
                await self._channel.wait_room()
            else:
                return


async def run_generator(generator: Any, work: Work) -> tuple[bool, Any]:
    """Run a generator method to its end: whether that gave a value, and which.

    It is False for a generator that has done nothing but yield values to its reader.
    """
    steps: Steps = (
        work.cell.steps(generator) if isinstance(generator, AsyncGeneratorType) else _SyncSteps(generator)
    )
    valued = False
    cancelled = work.cell.runtime.loop.cancelled
    try:
        result: Any = None
        error: BaseException | None = None
        while True:
            yielded = await (steps.send(result) if error is None else steps.throw(error))
            result = error = None
            try:
                if is_awaitable(yielded) or _are_awaitables(yielded):
                    valued = True
                    async with work.cell.unlocked():
                        result = await _settle(yielded, work.cell.undergo)
                elif work.feed is not None:
                    await work.feed.put(work, yielded)
                elif yielded is not None or not isinstance(steps, _SyncSteps):
                    raise TypeError(_nobody_reads(work, yielded))
                else:
                    valued = True
                    async with work.cell.unlocked():
                        await work.cell.runtime.loop.breathe()
            except (Exception, cancelled) as exc:  # it is raised at the yield; a scope may end there as well
                error = exc
    except Done as done:
        return valued or done.value is not None, done.value
    except Return as returned:
        return True, returned.value
    except BaseException:
        await steps.close()
        raise


def _are_awaitables(yielded: object) -> bool:
    return isinstance(yielded, tuple) and bool(yielded) and all(map(is_awaitable, yielded))


def _nobody_reads(work: Work, yielded: object) -> str:
    return (
        f"{work.method}() yields {type(yielded).__name__}, which is no awaitable: "
        "a stream is read with async for; a sync generator gives one if it is marked with generator"
    )


async def _settle(yielded: Any, undergo: Callable[[Any], Awaitable[Any]]) -> Any:
    """The result of an awaitable, or the results of several at the same time."""
    if not isinstance(yielded, tuple):
        return await undergo(yielded)
    return tuple(await gather([partial(awaited, undergo(each)) for each in yielded]))


class Steps(Protocol):
    """A generator, from ``yield`` to ``yield``."""

    async def send(self, value: Any) -> Any:
        """Go on with a value; what is yielded next.

        Raises:
            Done: it has ended.
        """

    async def throw(self, exc: BaseException) -> Any:
        """Go on with an exception; the same."""

    async def close(self) -> None:
        """End it."""


class Done(Exception):
    """A generator has ended, with a value."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class AsyncSteps:
    """The steps of an asynchronous generator."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    @disturbed
    async def send(self, value: Any) -> Any:
        try:
            return await self._generator.asend(value)
        except StopAsyncIteration:
            raise Done(None) from None

    @disturbed
    async def throw(self, exc: BaseException) -> Any:
        try:
            return await self._generator.athrow(exc)
        except StopAsyncIteration:
            raise Done(None) from None

    async def close(self) -> None:
        try:
            await self._generator.aclose()
        except BaseExceptionGroup as exc:
            others = exc.split(GeneratorExit)[1]  # a nursery that it was in has wrapped it
            if others is not None:
                raise others from None


class _SyncSteps:
    def __init__(self, generator: Any) -> None:
        self._generator = generator

    async def send(self, value: Any) -> Any:
        return self._step(self._generator.send, value)

    async def throw(self, exc: BaseException) -> Any:
        return self._step(self._generator.throw, exc)

    @disturbed
    def _step(self, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            return step(value)
        except StopIteration as stop:
            raise Done(stop.value) from None

    @disturbed
    async def close(self) -> None:
        self._generator.close()
