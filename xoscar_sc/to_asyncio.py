"""asyncio code and trio code in one pool: a pool that was started with ``asyncio=True``.

Each side awaits the other as its own kind. Errors cross as they are, with their tracebacks. A cancellation crosses by
cancelling the other side, and is over when that has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio

from xoscar_sc.errors import XoscarError
from xoscar_sc.loop import BrokenResourceError, ClosedResourceError, EndOfStream, WouldBlock, running_library
from xoscar_sc.runtime import infected_runtime

if TYPE_CHECKING:
    import asyncio

__all__ = ["FromTrio", "LinkedChannel", "ToTrio", "open_channel_from", "run_task", "run_trio"]

T = TypeVar("T")


async def run_task(coro_fn: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
    """Await an asyncio coroutine from trio code, in an asyncio task of its own; its value.

    Raises:
        what the coroutine raises.
        AsyncioCancelled: its task was cancelled by asyncio code, itself maybe.
        XoscarError: this pool does not run asyncio, or this is asyncio code already.

    Cancellation: the asyncio task is cancelled, once, and waited for. If it returns all the same, that is the value.
    """
    runtime = infected_runtime("run_task()")
    if running_library() != "trio":
        raise XoscarError(
            "run_task() is for trio code; this is asyncio code, which awaits the coroutine itself"
        )

    async def call() -> T:
        return await coro_fn(*args, **kwargs)

    call.__qualname__ = getattr(coro_fn, "__qualname__", repr(coro_fn))
    return await runtime.run_task(call)


async def run_trio(async_fn: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
    """Await a trio function from asyncio code, in a trio task of its own; its value.

    Raises:
        what the function raises.
        XoscarError: this pool does not run asyncio, or this is trio code already, or the pool is ending.

    Cancellation: the trio task is cancelled, and waited for.
    """
    runtime = infected_runtime("run_trio()")
    if running_library() == "trio":
        raise XoscarError(
            "run_trio() is for asyncio code; this is trio code, which awaits the function itself"
        )

    async def call() -> T:
        return await async_fn(*args, **kwargs)

    return await runtime.run_trio(call)


class ToTrio:
    """What asyncio code sends to the other side of its channel by; its first value is the channel's first."""

    def __init__(self, channel: trio.MemorySendChannel[Any]) -> None:
        self._channel = channel

    def send_nowait(self, value: object) -> None:
        """Send a value.

        Raises:
            WouldBlock: as many values wait already as the channel takes.
            BrokenResourceError: the other side has left.
        """
        try:
            self._channel.send_nowait(value)
        except trio.WouldBlock:
            raise WouldBlock("the channel to trio is full") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise BrokenResourceError("trio's side of the channel has been left") from None

    async def send(self, value: object) -> None:
        """Send a value, when the channel takes it.

        Raises:
            BrokenResourceError: the other side has left.

        Cancellation: it was not sent.
        """
        import asyncio

        try:
            self.send_nowait(value)
        except WouldBlock:
            await infected_runtime("send()").run_trio(self._wait_and_send, value)
        else:
            await asyncio.sleep(0)

    async def _wait_and_send(self, value: object) -> None:
        try:
            await self._channel.send(value)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise BrokenResourceError("trio's side of the channel has been left") from None


class FromTrio:
    """What asyncio code gets from the other side of its channel; an async iterator too."""

    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self._queue = queue

    async def get(self) -> Any:
        """The next value.

        Cancellation: no value is lost.
        """
        return await self._queue.get()

    def get_nowait(self) -> Any:
        """The next value, which is here.

        Raises:
            asyncio.QueueEmpty: none is.
        """
        return self._queue.get_nowait()

    def empty(self) -> bool:
        """Whether none is here."""
        return self._queue.empty()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._queue.get()


class LinkedChannel:
    """trio's side of a channel to an asyncio task; see :func:`open_channel_from`."""

    def __init__(self, receive: trio.MemoryReceiveChannel[Any], queue: asyncio.Queue[Any]) -> None:
        self._receive = receive
        self._queue = queue
        self._ended = False
        self._closed = False

    def ended(self) -> None:
        """The asyncio task has ended."""
        self._ended = True

    def close(self) -> None:
        """The block has been left."""
        self._closed = True
        self._receive.close()

    async def send(self, value: object) -> None:
        """Send a value to the asyncio task, when the channel takes it.

        Raises:
            BrokenResourceError: the task has ended.
            ClosedResourceError: the block has been left.

        Cancellation: it was not sent.
        """
        if self._closed:
            raise ClosedResourceError("the block of this channel has been left")
        if self._ended:
            await trio.lowlevel.checkpoint()  # if it has failed, that is on its way as a cancellation
            raise BrokenResourceError("the asyncio task of this channel has ended")
        if self._queue.full():
            await infected_runtime("send()").run_task(self._queue.put, value)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._queue.put_nowait(value)
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def receive(self) -> Any:
        """The next value that the asyncio task has sent.

        Raises:
            EndOfChannel: the task has returned, and all has been received.
            ClosedResourceError: the block has been left.

        Cancellation: no value is lost.
        """
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            await trio.lowlevel.checkpoint()  # as above
            raise EndOfStream("the asyncio task of this channel has ended") from None
        except trio.ClosedResourceError:
            raise ClosedResourceError("the block of this channel has been left") from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None


@asynccontextmanager
async def open_channel_from(
    coro_fn: Callable[..., Awaitable[object]], /, *args: Any, capacity: int = 64, **kwargs: Any
) -> AsyncIterator[tuple[Any, LinkedChannel]]:
    """Run an asyncio task with a channel to it: ``async with open_channel_from(fn) as (first, chan)``.

    The task runs ``fn(to_trio, from_trio, *args, **kwargs)``: a :class:`ToTrio` and a :class:`FromTrio`. Entering waits
    for the first value that it sends. Leaving cancels the task, if it still runs, and waits for it. If it fails, the
    block is cancelled, and raises that.

    Args:
        coro_fn: the asyncio function.
        args: what it gets besides, as ``kwargs``.
        capacity: values that may wait, in either direction.
        kwargs: as ``args``.

    Raises:
        RuntimeError: the task returned before it had sent anything.
        what the task raised; with what the block raised, a group of both.
        XoscarError: this pool does not run asyncio, or this is asyncio code already.

    Cancellation: as for leaving.

    Source: tractor.
    """
    runtime = infected_runtime("open_channel_from()")
    if running_library() != "trio":
        raise XoscarError("open_channel_from() is for trio code; this is asyncio code")
    if capacity < 1:
        raise ValueError(f"capacity= is {capacity!r}; it is a number of 1 or more")
    import asyncio

    send, receive = trio.open_memory_channel[Any](capacity)
    queue: asyncio.Queue[Any] = asyncio.Queue(capacity)
    channel = LinkedChannel(receive, queue)
    failures: list[BaseException] = []

    async def host() -> None:
        try:
            await runtime.run_task(call)
        except Exception as exc:
            failures.append(exc)
            nursery.cancel_scope.cancel()
        finally:
            channel.ended()
            send.close()

    async def call() -> None:
        await coro_fn(ToTrio(send), FromTrio(queue), *args, **kwargs)

    call.__qualname__ = getattr(coro_fn, "__qualname__", repr(coro_fn))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host)
            yield await _first(channel, call.__qualname__), channel
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as exc:
        failures[:0] = exc.exceptions
    finally:
        channel.close()
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise BaseExceptionGroup("both sides of a channel to asyncio failed", failures)


async def _first(channel: LinkedChannel, name: str) -> Any:
    try:
        return await channel.receive()
    except EndOfStream:
        # If it has failed, that is on its way as a cancellation.
        await trio.lowlevel.checkpoint()
        raise RuntimeError(f"{name}() returned before it had sent anything to trio") from None
