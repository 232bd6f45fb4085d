"""A message from another process: its arguments and its answer are bytes on a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xoscar_sc.errors import FrameTooLarge
from xoscar_sc.ipc import Channel, Segments, dialogue_key, is_outside
from xoscar_sc.protocol import Call, Cancelled, Demand, End, Failed, Failure, Item, Reply, Tell
from xoscar_sc.runtime.conversations import Serving
from xoscar_sc.runtime.generators import Feed
from xoscar_sc.runtime.work import QUEUED, Arguments, Work
from xoscar_sc.serialize import describe, dumps, dumps_plain, loads_batch, loads_call, record

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell


class RemoteWork(Work):
    """A message from another process."""

    __slots__ = ("body", "channel", "id", "plain", "segments")

    def __init__(self, cell: Cell, message: Call | Tell, segments: Segments, channel: Channel) -> None:
        # What Work.__init__ does, which would be a call more for each message.
        runtime = cell.runtime
        self.cell = cell
        self.task = None
        self.ways = None
        self.method = message.method
        self.batch = message.batch
        self.token = runtime.serial()
        self.scope = None
        self.stage = QUEUED
        self.returning = None
        self.feed = None
        self.unwanted = False
        self.waits = False
        self.conversation = None
        self.declared = None
        self.body = message.body
        self.segments = segments
        self.channel = channel
        if type(message) is Call:
            self.plain = message.plain
            self.chain = message.chain
            self.deadline = None if message.timeout is None else runtime.loop.now() + message.timeout
            self.id: int | None = message.id
            channel.serving[message.id] = self
            if message.window:
                self.feed = Feed(message.window, self._send_item, channel)
            if message.dialogue:
                self.conversation = Serving(self, caller(channel, message))
                self.conversation.reach(channel, message)
        else:
            self.plain = False
            self.chain = ()
            self.deadline = None
            self.id = None

    @property
    def awaited(self) -> bool:
        return self.id is not None

    def arguments(self) -> Arguments:
        # Whoever keeps the message, a context say, must not keep its memory.
        body, segments = self.body, self.segments
        self.body, self.segments = b"", ()
        return loads_call(body, segments)

    def drop_arguments(self) -> None:
        self.body, self.segments = b"", ()

    def batch_arguments(self) -> list[Arguments]:
        body, segments = self.body, self.segments
        self.drop_arguments()
        return loads_batch(body, segments)

    def hear(self, message: Item | Demand | End, segments: Segments) -> None:
        """Its caller says more than the call."""
        if self.conversation is not None:
            self.conversation.talk.heard(message, segments)
        elif self.feed is not None and isinstance(message, Demand):
            self.feed.demand(message.count)

    def _send_item(self, value: object) -> None:
        segments: list[memoryview] = []
        assert self.id is not None
        body = dumps_plain(value) if self.plain else dumps(value, segments)
        self.channel.post(Item(self.id, body), segments, self._key())

    def _key(self) -> str | None:
        """What keeps the values of a stream, and its end, in order."""
        if self.id is None or (self.feed is None and self.conversation is None):
            return None
        return dialogue_key(self.id)

    def answer_value(self, value: object) -> None:
        call = self.id
        if call is not None:
            segments: list[memoryview] = []
            body = dumps_plain(value) if self.plain else dumps(value, segments)
            channel = self.channel
            channel.serving.pop(call, None)
            key = self._key()
            if key is None:
                channel.reply(call, body, segments)
            else:
                channel.post(Reply(call, body), segments, key)

    def answer_error(self, exc: BaseException) -> None:
        if self.id is None and is_outside(self.channel):
            # The actor is the tree's own, and so not for a program from outside to make fail.
            self.cell.runtime.dropped(
                self.cell.uid, self.method, f"told from outside, it raised {describe(exc)}"
            )
        elif self.id is None:
            self.cell.tell_failed(self.method, exc)
        else:
            self.channel.serving.pop(self.id, None)
            post_failure(self.channel, self.id, exc, self.cell.where(), self._key(), plain=self.plain)

    def executed(self) -> None:
        if self.id is None:
            # At the end nothing is gathered: nobody would give it back.
            bound = 1 if self.cell.ending else self.cell.mailbox.bound
            self.channel.executed(self.cell.uid, bound)

    def answer_cancelled(self) -> None:
        if self.id is not None:
            self.channel.serving.pop(self.id, None)
            self.channel.post(Cancelled(self.id), key=self._key())


def caller(channel: Channel, message: Call) -> str:
    """Who has made a call: the address of its pool, and the actor if it is one."""
    address = "" if channel.peer is None else channel.peer.address
    return f"{address} {message.chain[-1][0]}" if message.chain else address


def post_failure(
    channel: Channel,
    call: int,
    exc: BaseException,
    where: str,
    key: str | None = None,
    *,
    plain: bool = False,
) -> None:
    """Answer a call with an exception, in short if it is too large to be sent."""
    failure = record(exc, where=where, plain=plain)
    try:
        channel.post(Failed(call, failure), key=key)
    except FrameTooLarge:
        text = f"{failure.text[:2000]} ... (shortened: the exception is too large to be sent)"
        short = Failure(failure.type_name, text, traceback=failure.traceback[-20000:])
        channel.post(Failed(call, short), key=key)
