"""One side of a dialogue, as a channel sees it.

Where a dialogue was opened, a talk stands in the table of open calls, and is the call's slot: what fills it is the
answer, which is the end. Over there one belongs to whatever serves the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from xoscar_sc.ipc.side import Line, Side
from xoscar_sc.loop import Loop, Slot
from xoscar_sc.protocol import Call, Demand, End, Item, Segment, Started

if TYPE_CHECKING:
    from xoscar_sc.ipc.channel import Channel


class Talk:
    """See the top of this file.

    Args:
        loop: this side's.
        line: the way to the other side, given this talk.
        failure: makes an exception of the answer; None if it is a value.
    """

    def __init__(
        self, loop: Loop, line: Callable[[Talk], Line], failure: Callable[[Any], Exception | None]
    ) -> None:
        self.loop = loop
        self.side = Side(loop, line(self))
        self._failure = failure
        self._failed: Exception | None = None
        self._waiting: list[Slot] = []
        self.started: Slot = loop.slot()
        """Filled with the first value, as it came; with None, if the end comes before it."""
        self.when_failed: Callable[[], None] | None = None
        """Called if the other side fails."""
        self.asked = False
        """The other side has been asked to end."""
        self.filled = False
        self.value: Any = None
        """The answer, when it is there."""

    def heard(self, message: Item | Demand | Started | End, segments: Sequence[Segment]) -> None:
        """The other side has said something."""
        if isinstance(message, Item):
            self.side.put((message.body, segments))
        elif isinstance(message, Demand):
            self.side.demanded(message.count)
        elif isinstance(message, End):
            self.side.ended(reads=message.reads)
        else:
            self.started.set((message.body, segments, message.types))

    def set(self, value: object) -> None:
        """The answer has come."""
        if self.filled:
            return
        self.filled = True
        self.value = value
        self._failed = self._failure(value)
        self._failure = _over  # what is held in a circle would be held until somebody looks for circles
        failed = self._failed
        self.side.finish(lambda: failed)
        self.started.set(None)
        for slot in self._waiting:
            slot.set(None)
        if self._failed is not None and self.when_failed is not None:
            self.when_failed()

    def failure(self) -> Exception | None:
        """What the other side failed with: the same exception each time."""
        return self._failed

    async def wait(self) -> Any:
        """Wait for the answer; several tasks may."""
        while not self.filled:
            slot = self.loop.slot()
            self._waiting.append(slot)
            try:
                await slot.wait()
            finally:
                self._waiting.remove(slot)
        return self.value


def _over(_answer: object) -> None:
    raise AssertionError("a dialogue ends once")


class ChannelLine:
    """The way to the other side of a dialogue, over a channel.

    Args:
        channel: what it goes over.
        call: the call that has opened it; its id is looked at only when there is something to send.
        mine: the call is this side's.
        pack: encodes a message.
    """

    def __init__(
        self,
        channel: Channel,
        call: Call,
        *,
        mine: bool,
        pack: Callable[[Any, list[memoryview]], bytes],
    ) -> None:
        self._channel = channel
        self._call = call
        self._mine = mine
        self._pack = pack

    def _post(self, message: Item | Demand | End, segments: Sequence[memoryview] = ()) -> None:
        if not self._channel.closed:
            self._channel.post(message, segments, dialogue_key(self._call.id))

    def item(self, value: Any) -> None:
        segments: list[memoryview] = []
        body = self._pack(value, segments)
        self._post(Item(self._call.id, body, self._mine), segments)

    def demand(self, count: int) -> None:
        self._post(Demand(self._call.id, count, self._mine))

    def end(self, *, reads: bool) -> None:
        self._post(End(self._call.id, self._mine, reads))


def dialogue_key(call: int) -> str:
    """What keeps the values of a call, and its answer, in order; see :meth:`Channel.post`."""
    return f"stream {call}"
