"""What a generator method gives its caller: a stream of values.

:class:`ResultStream` is what users hold. It is lazy: the call is made when it is first
entered, iterated or awaited. Where the generator lives makes two kinds of source: :class:`RemoteSource` reads what
comes over a channel, :class:`LocalSource` what a generator of this pool has yielded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from xoscar_sc.ipc import Channel, Flow
from xoscar_sc.loop import undisturbed
from xoscar_sc.protocol import Call, Failed, Reply
from xoscar_sc.serialize import dumps, loads, rebuild

if TYPE_CHECKING:
    from xoscar_sc.loop import Loop
    from xoscar_sc.runtime.ref import Target
    from xoscar_sc.runtime.work_local import LocalWork

T_co = TypeVar("T_co", covariant=True)


class Source(Protocol):
    """An open stream, as :class:`ResultStream` reads it."""

    flow: Flow

    def take(self) -> Any:
        """The next value, which is here."""

    async def end(self) -> tuple[bool, Any]:
        """What the call ended with, which is here: whether that is a value of the method's, and the value.

        Raises:
            the method's own exception.
            ActorDied, PoolDied: it ended first.
        """

    async def close(self) -> None:
        """Cancel the generator, and wait until it has ended, for at most the grace of a cancel."""

    def abandon(self) -> None:
        """Cancel the generator, and do not wait."""


class RemoteSource:
    """A generator in another pool."""

    def __init__(
        self,
        channel: Channel,
        message: Call,
        flow: Flow,
        unconfirmed: Callable[[Call, str], None],
        deadline_passed: Callable[[str], Coroutine[Any, Any, Any]],
    ) -> None:
        self._channel = channel
        self._message = message
        self.flow = flow
        self._unconfirmed = unconfirmed
        self._deadline_passed = deadline_passed

    def take(self) -> Any:
        return loads(*self.flow.take())

    async def end(self) -> tuple[bool, Any]:
        answer = self.flow.value
        if isinstance(answer, Exception):
            raise answer
        message, segments = answer
        if isinstance(message, Reply):
            return loads(message.body, segments)  # type: ignore[return-value]
        if isinstance(message, Failed):
            raise rebuild(message.failure)
        return await self._deadline_passed(self._message.method)  # type: ignore[no-any-return]

    async def close(self) -> None:
        await self._channel.withdraw(self._message, self.flow, self._unconfirmed)
        answer = self.flow.value
        if isinstance(answer, tuple) and isinstance(answer[0], Failed):
            raise rebuild(answer[0].failure)

    def abandon(self) -> None:
        if not self._channel.closed:
            self._channel.abandon(self._message)


class LocalSource:
    """A generator in this pool."""

    def __init__(
        self,
        work: LocalWork,
        flow: Flow,
        wait_withdrawn: Callable[[LocalWork], Coroutine[Any, Any, None]],
        deadline_passed: Callable[[str], Coroutine[Any, Any, Any]],
        *,
        copy: bool,
    ) -> None:
        self._work = work
        self.flow = flow
        self._wait_withdrawn = wait_withdrawn
        self._copy = copy
        self._deadline_passed = deadline_passed

    def take(self) -> Any:
        return self.flow.take()

    async def end(self) -> tuple[bool, Any]:
        succeeded, value = self.flow.value
        if succeeded:
            return loads(dumps(value)) if self._copy else value  # type: ignore[return-value]
        if succeeded is None:
            return await self._deadline_passed(self._work.method)  # type: ignore[no-any-return]
        raise value

    async def close(self) -> None:
        await self._wait_withdrawn(self._work)
        if self.flow.filled and self.flow.value[0] is False:
            raise self.flow.value[1]

    def abandon(self) -> None:
        self._work.withdraw()


class ResultStream(Coroutine[Any, Any, Any], Generic[T_co]):
    """The values that a generator method yields, as an async iterator.

    ``async with ref.numbers(10) as stream`` opens it, and waits at the end of the block until the generator has ended:
    leaving early closes it there, and its ``finally`` runs. ``async for x in ref.numbers(10)`` does without the block;
    then nobody waits for a generator that is left early. The generator goes at most 64 values ahead of its reader.

    ``await ref.method()`` is for generators that yield awaitables, in xoscar's manner: it gives what the method
    returns. For any other generator it gives the stream.

    Iterating raises the generator's own exception, and :exc:`ActorDied` or :exc:`PoolDied` if these end first.

    Cancellation: in an ``async with`` block, a cancelled wait for the next value loses nothing. Without one, the
    generator is closed, and waited for.
    """

    def __init__(self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._target = target
        self._method = method
        self._args = args
        self._kwargs = kwargs
        self._source: Source | None = None
        self._loop: Loop
        self._opening = False
        self._entered = False
        self._ended = False
        self._coroutine: Coroutine[Any, Any, Any] | None = None

    # Reading

    def __aiter__(self) -> Self:
        return self

    @undisturbed
    async def __anext__(self) -> T_co:
        if self._ended:
            raise StopAsyncIteration
        source = self._source or await self._open()
        self._check_free(source)
        try:
            if await source.flow.peek() and not self._ended:
                return source.take()  # type: ignore[no-any-return]
        except BaseException:
            await self._leave()
            raise
        if self._ended:  # another task has closed it meanwhile
            raise StopAsyncIteration
        self._end()
        try:
            valued, value = await source.end()
        except StopAsyncIteration as exc:  # the generator's own, and not the end of this
            raise RuntimeError(f"{self._method}() raised StopAsyncIteration") from exc
        if valued and value is not None:
            raise TypeError(
                f"{self._method}() of {self._target!r} returned {type(value).__name__}, and is no stream"
            )
        raise StopAsyncIteration

    def _check_free(self, source: Source) -> None:
        if source.flow.reading:
            raise RuntimeError(f"another task is reading {self!r} already")

    async def _leave(self) -> None:
        """The reader does not go on: outside of a block nobody else closes the generator."""
        if not self._entered:
            await self.aclose()

    @undisturbed
    async def __aenter__(self) -> Self:
        self._entered = True
        if self._source is None and not self._ended:
            await self._open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    @undisturbed
    async def aclose(self) -> None:
        """Close the generator, and wait until it has ended, for at most ``Timeouts.cancel`` seconds.

        For another task that reads it meanwhile, the stream ends.

        Raises:
            what the generator raised while it was closed.
        """
        source = self._source
        if source is None or self._ended:
            self._end()
            return
        self._end()
        source.flow.clear()
        if not source.flow.filled:
            try:
                await source.close()
            finally:
                source.flow.set(None)  # whoever reads it goes on, also if the generator has not ended in time

    async def _open(self) -> Source:
        if self._opening:
            raise RuntimeError(f"another task is opening {self!r} already")
        runtime = self._target.runtime()
        self._loop = runtime.loop
        self._opening = True
        try:
            self._source = source = await self._target.outgoing().open_stream(
                self._target, self._method, self._args, self._kwargs
            )
        finally:
            self._opening = False
        if self._ended:  # another task has closed it meanwhile
            source.flow.clear()
            source.abandon()
        self._args, self._kwargs = (), {}
        return source

    def _end(self) -> None:
        """Nothing more is read of it."""
        self._ended = True

    # Awaiting

    async def _value(self) -> Any:
        if self._ended and self._source is None:
            raise RuntimeError(f"{self!r} was closed before it began")
        source = self._source or await self._open()
        self._check_free(source)
        try:
            found = await source.flow.peek()
        except BaseException:
            await self._leave()
            raise
        if found or self._ended:
            return self
        valued, value = await source.end()
        return value if valued else self

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._value().__await__()

    def send(self, value: Any) -> Any:
        """As a coroutine: go on."""
        if self._coroutine is None:
            self._coroutine = self._value()
        return self._coroutine.send(value)

    def throw(self, *exc_info: Any) -> Any:
        """As a coroutine: raise an exception where it waits."""
        if self._coroutine is None:
            self._coroutine = self._value()
        return self._coroutine.throw(*exc_info)

    def close(self) -> None:
        """As a coroutine: give up."""
        if self._coroutine is not None:
            self._coroutine.close()

    # Abandoning

    def __del__(self) -> None:
        source = self._source
        if source is None or self._ended or source.flow.filled:
            return
        self._end()
        with contextlib.suppress(Exception):  # the loop has ended, and everything with it
            self._loop.soon(source.abandon)

    def __repr__(self) -> str:
        state = "ended" if self._ended else "not begun" if self._source is None else "open"
        return f"<stream of {self._method}() of {self._target!r}, {state}>"
