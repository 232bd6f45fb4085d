"""The two-way stream of a dialogue, as its users hold it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime.fanout import Fanout, Overflow, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from xoscar_sc.ipc import Talk


class Stream:
    """Messages in both directions, an async iterator over those that come.

    ``async with ctx.open_stream() as stream``: at the end of the block it is closed. If the block is left by an error,
    the other side does not meet an end of the stream, but what becomes of the dialogue. A message is sent when the
    other side takes it: a slow reader slows its writer, and nothing else. Several tasks may send and receive.

    Raises, from all that sends and receives:
        ClosedResourceError: it was closed here.
        EndOfStream: the other side sends no more.
        BrokenResourceError: the other side has closed its stream, or has ended, and reads no more.
        PoolDied, ActorDied, ConnectionLost: the other side has died.
        what the other side raised.
    """

    def __init__(self, talk: Talk, unpack: Callable[[Any], Any]) -> None:
        self._talk = talk
        self._unpack = unpack
        self._fanout: Fanout | None = None

    @undisturbed
    async def send(self, value: Any) -> None:
        """Send a message, as soon as the other side takes one more.

        Raises:
            SerializationError: it cannot be sent; the dialogue goes on.
            MsgTypeError: it is not what the dialogue was declared to send.

        Cancellation: it was not sent.
        """
        await self._talk.side.send(value)

    @undisturbed
    def send_nowait(self, value: Any) -> None:
        """Send a message, now.

        Raises:
            WouldBlock: the other side takes none at the moment.
        """
        self._talk.side.send_nowait(value)

    @undisturbed
    async def receive(self) -> Any:
        """The next message, as soon as there is one.

        Raises:
            RuntimeError: the stream has subscribers, who read it.

        Cancellation: no message is lost.
        """
        self._check_unshared()
        return self._unpack(await self._talk.side.receive())

    @undisturbed
    def receive_nowait(self) -> Any:
        """The next message, which is here.

        Raises:
            WouldBlock: it is not.
        """
        self._check_unshared()
        return self._unpack(self._talk.side.receive_nowait())

    def _check_unshared(self) -> None:
        if self._fanout is not None and self._fanout.subscriptions:
            raise RuntimeError("this stream is read by its subscribers")

    def subscribe(self, *, max_buffer: int = 64, overflow: Overflow = "block") -> Subscription:
        """A reader of all messages from now on, beside others: ``async with stream.subscribe() as copy``.

        Args:
            max_buffer: messages that may wait for this reader.
            overflow: what becomes of one more: ``"block"`` holds up the stream, for all its readers; ``"drop_oldest"``
                drops the one that has waited longest; ``"raise"`` drops the new one, and raises :exc:`Lagged` at this
                reader, with the number of those that were dropped, when it has read what is there.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        if self._fanout is None:
            self._fanout = Fanout(self._talk.loop, self._talk.side.receive, self._unpack)
        return Subscription(self._fanout, max_buffer, overflow)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def send_eof(self) -> None:
        """Send no more, and go on reading; the other side meets the end of the stream, and may go on sending."""
        self._talk.side.send_eof()
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Send no more, and read no more: the other side meets the end of the stream, and cannot send any more."""
        self._talk.side.close()
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._talk.side.close(broken=exc is not None)
