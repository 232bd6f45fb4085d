"""Dialogues: two tasks in two pools, each of which ends with the other.

One side opens a context, the other runs a function that takes part in it. :class:`Context` is what both hold; what is
behind it is a :class:`Talk`, and a :class:`Conversation` that says how its side speaks.
"""

from __future__ import annotations

import enum
from typing import Any, Protocol

from xoscar_sc.ipc import WINDOW, Talk
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime.stream import Stream
from xoscar_sc.serialize import Types


class Begun(enum.Enum):
    """How far a dialogue has come."""

    NOT = enum.auto()
    STARTED = enum.auto()
    STREAMING = enum.auto()


class Conversation(Protocol):
    """How one side of a dialogue speaks with the other."""

    talk: Talk
    peer: str
    """Who the other side is."""

    def declare(self, types: Types, name: str) -> None:
        """Say what is sent and received from here, and who speaks; on the side that was opened."""

    def start(self, value: object) -> None:
        """Let the other side enter its block; on the side that was opened.

        Raises:
            SerializationError: the value cannot be sent.
        """

    def unpack(self, item: Any) -> Any:
        """Make a message of what has come of it."""

    def value(self) -> Any:
        """What the other side has returned; on the side that has opened."""

    async def cancel(self) -> None:
        """End the dialogue from here."""


class Context:
    """One side of a dialogue.

    On the opening side it comes from ``open_context``; on the other it is the first argument of a function that is
    marked with :func:`context`.
    """

    def __init__(self, conversation: Conversation, *, opened: bool) -> None:
        self._conversation = conversation
        self._talk = conversation.talk
        self._opened = opened
        """The other side has opened it."""
        self._begun = Begun.NOT if opened else Begun.STARTED

    @property
    def peer(self) -> str:
        """Who the other side is: an address, and a uid or the name of a function."""
        return self._conversation.peer

    # The side that was opened

    async def started(self, value: Any = None) -> None:
        """Let the other side enter its block, with this value. Call it once, and before anything else.

        Raises:
            RuntimeError: it was called already, or this side has opened the dialogue.
            SerializationError: the value cannot be sent.
        """
        await self._talk.loop.breathe()
        if not self._opened:
            raise RuntimeError("started() is for the side that was opened")
        if self._begun is not Begun.NOT:
            raise RuntimeError("started() has been called already")
        self._conversation.start(value)
        self._begun = Begun.STARTED

    # The side that has opened

    async def result(self) -> Any:
        """Wait until the other side has returned; what it returned.

        Raises:
            RuntimeError: this side was opened by the other.
            ContextCancelled: the dialogue was cancelled, from here too.
            what the other side raised.
            PoolDied, ActorDied, ConnectionLost: it ended otherwise.
        """
        if self._opened:
            raise RuntimeError("result() is for the side that has opened the dialogue")
        await self._talk.loop.breathe()
        await self._talk.wait()
        failure = self._talk.failure()
        if failure is not None:
            raise failure
        return self._conversation.value()

    # Both sides

    def open_stream(self, *, window: int = WINDOW) -> Stream:
        """The two-way stream of the dialogue: ``async with ctx.open_stream() as stream``.

        Args:
            window: messages that may be on their way to this side.

        Raises:
            RuntimeError: the dialogue has not started, or has a stream already.
            TypeError, ValueError: the window is no number, or less than 1.
        """
        if isinstance(window, bool) or not isinstance(window, int):
            raise TypeError(f"window= is {window!r}; it is a number of messages")
        if window < 1:
            raise ValueError(f"window= is {window}; it is 1 or more")
        if self._begun is Begun.NOT:
            raise RuntimeError("a stream cannot be opened before started() has been called")
        if self._begun is Begun.STREAMING:
            raise RuntimeError("this dialogue has a stream already")
        self._begun = Begun.STREAMING
        self._talk.side.open(window)
        return Stream(self._talk, self._conversation.unpack)

    @undisturbed
    async def cancel(self) -> None:
        """End the dialogue from here: the other side is cancelled, and hears who asked."""
        await self._conversation.cancel()

    def __conversation__(self) -> Conversation:
        return self._conversation

    def __repr__(self) -> str:
        return f"<Context with {self.peer}, {self._begun.name.lower()}>"
