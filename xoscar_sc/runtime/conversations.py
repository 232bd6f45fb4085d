"""How the two sides of a dialogue speak: over a channel, or within a pool, and which of them has opened it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio

from xoscar_sc.errors import ConnectionLost, ContextCancelled
from xoscar_sc.ipc import Channel, ChannelLine, Talk, dialogue_key
from xoscar_sc.protocol import Call, Cancelled, Failed, Started
from xoscar_sc.serialize import (
    PLAIN,
    UNTYPED,
    Codec,
    Types,
    dump_types,
    dumps,
    dumps_plain,
    load_types,
    loads,
    rebuild,
)

if TYPE_CHECKING:
    from xoscar_sc.runtime.work import Work
    from xoscar_sc.runtime.work_local import LocalWork


class Opening:
    """The side that has opened the dialogue.

    Args:
        me: who this side is.
        peer: who the other side is.
    """

    talk: Talk

    def __init__(self, me: str, peer: str) -> None:
        self.me = me
        self.peer = peer
        self.timed_out = False
        """The other side was cancelled by the deadline that it was opened with."""

    def begin(self, started: Any) -> Any:
        """Take note of what the other side has started with; its value.

        Raises:
            MsgTypeError: the two sides define their messages differently.
            SerializationError: it cannot be decoded.
        """
        raise NotImplementedError

    def declare(self, types: Types, name: str) -> None:
        """See :class:`Conversation`: this is the other side's."""
        raise NotImplementedError

    def start(self, value: object) -> None:
        """See :class:`Conversation`: this is the other side's."""
        raise NotImplementedError

    def unpack(self, item: Any) -> Any:
        """See :class:`Conversation`."""
        raise NotImplementedError

    def value(self) -> Any:
        """See :class:`Conversation`."""
        raise NotImplementedError

    async def cancel(self) -> None:
        """See :class:`Conversation`."""
        self.talk.asked = True
        if not self.talk.filled:
            self._withdraw()
        await anyio.lowlevel.checkpoint()

    def _withdraw(self) -> None:
        """Cancel the other side."""
        raise NotImplementedError

    async def close(self) -> None:
        """Cancel the other side, and wait until it has ended, for as long as a cancel may take."""
        self.talk.asked = True
        if not self.talk.filled:
            # It is cancelled first: what it meets then is no end of the stream to go on from.
            self._withdraw()
            self.talk.side.close()
        await self._wait_withdrawn()
        self.give_up()

    async def _wait_withdrawn(self) -> None:
        raise NotImplementedError

    def give_up(self) -> None:
        """End the talk, though the other side may not have."""
        raise NotImplementedError

    def wanted(self, failure: Exception | None) -> bool:
        """Whether the dialogue failed with nothing but what was asked for from here."""
        return self.talk.asked and isinstance(failure, ContextCancelled) and failure.canceller == self.me

    def _cancelled(self) -> Exception:
        if self.talk.asked:
            return context_cancelled(self.me)
        self.timed_out = True
        return TimeoutError(f"{self.peer} was cancelled by the deadline that it was opened with")


class RemoteOpening(Opening):
    """See :class:`Opening`; the other side is in another pool."""

    def __init__(
        self, channel: Channel, message: Call, me: str, peer: str, unconfirmed: Callable[[Call, str], None]
    ) -> None:
        super().__init__(me, peer)
        self._channel = channel
        self._message = message
        self._unconfirmed = unconfirmed
        self._codec = PLAIN if channel.plain else UNTYPED
        self.talk = Talk(channel.loop, self._line, self._failure)

    def _line(self, _talk: Talk) -> ChannelLine:
        return ChannelLine(self._channel, self._message, mine=True, pack=self._pack)

    def _pack(self, value: Any, segments: list[memoryview]) -> bytes:
        return self._codec.pack(value, segments)

    def begin(self, started: Any) -> Any:
        body, segments, types = started
        if types:
            self._codec = Codec(load_types(types).other_side())
        return loads(body, segments)

    def unpack(self, item: Any) -> Any:
        return self._codec.unpack(*item)

    def value(self) -> Any:
        message, segments = self.talk.value
        return loads(message.body, segments)

    def _failure(self, answer: Any) -> Exception | None:
        if isinstance(answer, Exception):
            return answer
        message, _ = answer
        if isinstance(message, Failed):
            failure = rebuild(message.failure)
            return failure if isinstance(failure, Exception) else RuntimeError(repr(failure))
        return self._cancelled() if isinstance(message, Cancelled) else None

    def _withdraw(self) -> None:
        self._channel.cancel(self._message)

    async def _wait_withdrawn(self) -> None:
        await self._channel.withdraw(self._message, self.talk, self._unconfirmed)

    def give_up(self) -> None:
        self.talk.set(context_cancelled(self.me))


class LocalOpening(Opening):
    """See :class:`Opening`; the other side is in this pool."""

    def __init__(
        self,
        work: LocalWork,
        me: str,
        peer: str,
        wait_withdrawn: Callable[[LocalWork], Coroutine[Any, Any, None]],
        *,
        copy: bool,
    ) -> None:
        super().__init__(me, peer)
        self._work = work
        self._withdraw_here = wait_withdrawn
        self._copy = copy
        self.codec = UNTYPED
        self.talk = Talk(work.cell.runtime.loop, self._line, self._failure)
        self.other = Serving(work, me)
        self.other.join(self)

    def _line(self, _talk: Talk) -> LocalLine:
        return LocalLine(lambda: self.other.talk, self.hand_over)

    def hand_over(self, value: Any) -> Any:
        """A message from here, as the other side gets it."""
        return self.copied(self.codec.check(value))

    def copied(self, value: Any) -> Any:
        """A message as it is, or a copy of it if that is wanted."""
        return loads(dumps(value)) if self._copy else value

    def begin(self, started: Any) -> Any:
        self.codec = Codec(self.other.types.other_side())
        return started[0]

    def unpack(self, item: Any) -> Any:
        return item

    def value(self) -> Any:
        return self.copied(self.talk.value[1])

    def _failure(self, answer: Any) -> Exception | None:
        succeeded, value = answer
        if succeeded is None:
            return self._cancelled()
        return None if succeeded else value

    def _withdraw(self) -> None:
        self._work.withdraw()

    async def _wait_withdrawn(self) -> None:
        await self._withdraw_here(self._work)

    def give_up(self) -> None:
        self.talk.set((False, context_cancelled(self.me)))


class Serving:
    """The side that was opened, as :class:`Conversation` has it.

    Args:
        work: the call that has opened it.
        peer: who has.
    """

    def __init__(self, work: Work, peer: str) -> None:
        self._work = work
        self.peer = peer
        self._name = ""
        self.types = Types()
        self._codec = UNTYPED
        self._opening: LocalOpening | None = None
        self._channel: Channel | None = None
        self.talk: Talk
        self.reason: Exception | None = None
        """What it is answered with when it has ended, since it was ended from here."""

    def reach(self, channel: Channel, message: Call) -> None:
        """The other side is at the other end of a channel."""
        self._channel = channel
        self._message = message
        if message.plain:
            self._codec = PLAIN
        self.talk = Talk(
            channel.loop,
            lambda _: ChannelLine(channel, message, mine=False, pack=self._pack),
            _no_failure,
        )

    def _pack(self, value: Any, segments: list[memoryview]) -> bytes:
        return self._codec.pack(value, segments)

    def join(self, opening: LocalOpening) -> None:
        """The other side is in this pool."""
        self._opening = opening
        self.talk = Talk(
            opening.talk.loop,
            lambda _: LocalLine(lambda: opening.talk, lambda value: opening.copied(self._codec.check(value))),
            _no_failure,
        )

    def declare(self, types: Types, name: str) -> None:
        """Say what is sent and received from here, and who speaks."""
        self._name = name
        self.types = types
        self._codec = Codec(types, plain=self._codec is PLAIN)

    def start(self, value: object) -> None:
        """See :class:`Conversation`."""
        if self._opening is not None:
            self._opening.talk.started.set((self._opening.copied(value),))
            return
        assert self._channel is not None
        segments: list[memoryview] = []
        if self._message.plain:  # the types are classes, which only a pickle could name
            started = Started(self._message.id, dumps_plain(value))
        else:
            body = dumps(value, segments)
            started = Started(self._message.id, body, dump_types(self.types))
        self._channel.post(started, segments, dialogue_key(self._message.id))

    def unpack(self, item: Any) -> Any:
        """See :class:`Conversation`."""
        return item if self._opening is not None else self._codec.unpack(*item)

    def value(self) -> Any:
        """See :class:`Conversation`: this is the other side's."""
        raise NotImplementedError

    async def cancel(self) -> None:
        """See :class:`Conversation`."""
        address = self._work.cell.runtime.address
        self.end(context_cancelled(f"{address} {self._name}"))
        await anyio.lowlevel.checkpoint()

    def end(self, reason: Exception) -> None:
        """Cancel this side; when it has ended, the other one gets ``reason``."""
        if self.reason is None:
            self.reason = reason
        self._work.break_dialogue(self.reason)

    def withdrawn(self) -> None:
        """The other side does not want it any more, or has gone: then nothing comes, even to who minds no cancel."""
        self.talk.side.withdrawn(lambda: context_cancelled(self.peer))
        if self._channel is not None and self._channel.closed:
            self.talk.side.finish(lambda: ConnectionLost(f"the connection to {self.peer} was lost"))

    def finished(self) -> None:
        """This side has ended: its stream is of no use any more."""
        self.talk.side.finish(lambda: None)
        self.talk.side.close()


class LocalLine:
    """The way to the other side of a dialogue, in the same pool."""

    def __init__(self, other: Callable[[], Talk], hand_over: Callable[[Any], Any]) -> None:
        self._other = other
        self._hand_over = hand_over

    def item(self, value: Any) -> None:
        self._other().side.put(self._hand_over(value))

    def demand(self, count: int) -> None:
        self._other().side.demanded(count)

    def end(self, *, reads: bool) -> None:
        self._other().side.ended(reads=reads)


def context_cancelled(by: str) -> ContextCancelled:
    """What a side gets whose dialogue was cancelled."""
    return ContextCancelled(f"the dialogue was cancelled by {by}", canceller=by)


def _no_failure(_answer: object) -> None:
    return None
