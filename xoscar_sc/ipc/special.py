"""Channels with a rule of their own: a bound to what the peer may leave here, nothing pickled, everything passed on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from xoscar_sc.errors import ProtocolError
from xoscar_sc.ipc.channel import Channel, Segments
from xoscar_sc.ipc.memory import BODIED
from xoscar_sc.loop import Slot
from xoscar_sc.protocol import (
    AnyMessage,
    Call,
    Cancelled,
    Credit,
    Demand,
    End,
    Failed,
    Failure,
    Item,
    Notice,
    Reply,
    Started,
    Tell,
)

_ANSWERS = (Reply, Failed, Cancelled)
_PICKLE = 0x80
"""The first byte of a pickle, which is never alone; in msgpack it would be an empty map, and is alone."""


class GuestChannel(Channel):
    """A channel to somebody from outside, who cannot make this side hold more than so much, nor fall.

    What is beyond that ends the connection: an open call or a tell more than are admitted, and answers that are not
    read.
    """

    most_open = 1 << 16
    """Calls and tells that may be open at a time."""
    most_bytes = 1 << 32
    """Bytes of what is open, and bytes of answers that wait to be read."""
    _held = 0

    def __init__(self, *args: Any) -> None:
        self._sizes: dict[int, int] = {}
        """Of the peer's open calls."""
        self._tells: dict[str, deque[int]] = {}
        """Of its tells, by actor, for which it has not got its credit back."""
        self._told = 0
        super().__init__(*args)

    def _dispatch(self, message: AnyMessage, segments: Segments) -> None:
        if isinstance(message, (Call, Tell)):
            self._hold(message, segments)
        try:
            super()._dispatch(message, segments)
        except (ProtocolError, OSError):
            raise
        except Exception as exc:  # whatever comes from outside, the loop goes on
            raise ProtocolError(
                f"a {type(message).__name__} that nothing could be made of: {type(exc).__name__}: {exc}"
            ) from exc

    def _hold(self, message: Call | Tell, segments: Segments) -> None:
        size = len(message.body) + sum(map(len, segments))
        if isinstance(message, Tell):
            self._tells.setdefault(message.uid, deque()).append(size)
            self._told += 1
        elif message.id in self._sizes:
            raise ProtocolError(f"call {message.id} was made twice")
        else:
            self._sizes[message.id] = size
        self._held += size
        number = len(self._sizes) + self._told
        if number > self.most_open or self._held > self.most_bytes:
            raise ProtocolError(f"{number} calls of {self._held} bytes are open, more than are admitted")

    def post(self, message: AnyMessage, segments: Sequence[memoryview] = (), key: str | None = None) -> None:
        """As :meth:`Channel.post`."""
        if isinstance(message, _ANSWERS):
            self._held -= self._sizes.pop(message.id, 0)
        elif isinstance(message, Credit):
            self._credited(message)
        if self._is_read():
            super().post(message, segments, key)

    def reply(self, call: int, body: bytes, segments: Sequence[memoryview]) -> None:
        """As :meth:`Channel.reply`."""
        self._held -= self._sizes.pop(call, 0)
        if self._is_read():
            super().reply(call, body, segments)

    def _credited(self, credit: Credit) -> None:
        sizes = self._tells.get(credit.uid, ())
        for _ in range(min(credit.count, len(sizes))):
            assert isinstance(sizes, deque)
            self._held -= sizes.popleft()
            self._told -= 1
        if not sizes:
            self._tells.pop(credit.uid, None)

    def _is_read(self) -> bool:
        """Whether the peer takes what it has asked for; if not, that was all."""
        waiting = self.waiting
        if waiting > self.most_bytes:
            self._loop.soon(lambda: self._stop(ProtocolError(f"{waiting} bytes of answers are not read")))
            return False
        return True


class PlainChannel(Channel):
    """A channel that admits nothing pickled: whatever comes is refused before anybody could look into it."""

    plain = True

    def _open(self, message: Call, segments: Sequence[memoryview], slot: Slot) -> None:
        message.plain = True  # the other side may pickle, for others
        super()._open(message, segments, slot)

    def _dispatch(self, message: AnyMessage, segments: Segments) -> None:
        if isinstance(message, BODIED):
            body: Any = message.body or (segments[0] if segments else b"")
            if isinstance(message, Notice) or len(segments) > (not message.body):
                raise ProtocolError(f"{type(message).__name__} came where only plain messages are admitted")
            types = message.types if isinstance(message, Started) else b""
            if types or _is_pickle(body):
                raise ProtocolError(f"a pickle came in a {type(message).__name__}, and none is admitted here")
        elif isinstance(message, Failed) and _has_pickle(message.failure):
            raise ProtocolError("a pickle came with an exception, and none is admitted here")
        super()._dispatch(message, segments)


class PlainGuestChannel(GuestChannel, PlainChannel):
    """Both."""


def _is_pickle(data: Any) -> bool:
    return len(data) > 1 and data[0] == _PICKLE


def _has_pickle(failure: Failure) -> bool:
    found: list[Failure | None] = [failure]
    while found:  # it may be as deep as the peer likes
        each = found.pop()
        if each is not None:
            if _is_pickle(each.payload):
                return True
            found += (each.cause, each.context, *each.members)
    return False


_PASSED = (Reply, Failed, Cancelled, Item, Demand, Started, End, Credit)


class RelayChannel(Channel):
    """A channel whose answers are somebody else's: each message is passed on as it comes."""

    passed: Callable[[AnyMessage, Segments], None]
    """Called with each message and its segments; set before anything is sent."""

    def _dispatch(self, message: AnyMessage, segments: Segments) -> None:
        if self.peer is None or not isinstance(message, _PASSED):
            super()._dispatch(message, segments)
            return
        if segments and isinstance(message, BODIED) and not message.body:
            message.body, segments = cast("bytes", segments[0]), segments[1:]
        self.passed(message, segments)


def is_outside(channel: Channel) -> bool:
    """Whether the peer is a program from outside: at its door, or on its way to a pool."""
    peer = channel.peer
    return isinstance(channel, GuestChannel) or (peer is not None and peer.address.startswith("tcp://"))
