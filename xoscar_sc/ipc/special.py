"""Channels with a rule of their own: nothing pickled on one, everything passed on by another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from xoscar_sc.errors import ProtocolError
from xoscar_sc.ipc.channel import Channel, Segments
from xoscar_sc.ipc.memory import BODIED
from xoscar_sc.protocol import (
    AnyMessage,
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
)

_PICKLE = 0x80
"""The first byte of a pickle, which is never alone; in msgpack it would be an empty map, and is alone."""


class PlainChannel(Channel):
    """A channel that admits nothing pickled: whatever comes is refused before anybody could look into it."""

    plain = True

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


def _is_pickle(body: Any) -> bool:
    return len(body) > 1 and body[0] == _PICKLE


def _has_pickle(failure: Failure) -> bool:
    beneath = (failure.cause, failure.context, *failure.members)
    return _is_pickle(failure.payload) or any(_has_pickle(each) for each in beneath if each is not None)


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
