"""One connection between two pools: messages over a stream socket.

A channel owns the open calls that were made over it. Each ends in exactly one way: by its answer, or, when the
channel is lost, by the exception that :meth:`Channel.fail` is given. What the peer asks for is handed to the owner's
``receive``, which must not block.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

import anyio

from xoscar_sc.errors import ConnectionLost, ProtocolError
from xoscar_sc.ipc.flow import Flow
from xoscar_sc.ipc.memory import BODIED, Memories
from xoscar_sc.ipc.outbox import HIGH_WATER, Outbox
from xoscar_sc.ipc.packing import INLINE, allocate, send
from xoscar_sc.ipc.talk import Talk
from xoscar_sc.ipc.tls import TlsSocket
from xoscar_sc.ipc.window import Debts, Windows
from xoscar_sc.loop import Loop, Slot
from xoscar_sc.protocol import (
    MAX_FRAME,
    MAX_MESSAGE,
    VERSION,
    AnyMessage,
    Call,
    Cancel,
    Cancelled,
    Credit,
    Decoder,
    Demand,
    Dropped,
    End,
    Failed,
    Hello,
    Item,
    Memory,
    Placed,
    Released,
    Reply,
    Segment,
    Started,
    State,
    Tell,
    decode,
    encode,
    legal,
)

_GREETING = 4096
"""Bytes of a frame before the peer has said who it is."""
_PLENTY = 32 * 1024
"""A read of so many bytes is likely to be followed by another."""
_STEP = 16
"""Reads on end before others get the loop."""

Answer: TypeAlias = Reply | Failed | Cancelled
Segments: TypeAlias = Sequence[Segment]


class Channel:
    """See the top of this file.

    Args:
        loop: serves it.
        sock: connected; the channel owns it from now on.
        greeting: what we say first.
        receive: called with each message that is no answer, and its segments.
        lost: called once, when the peer has gone or has broken the protocol; the owner then calls :meth:`fail`, at
            once or when it knows why.
        grace: seconds that a cancelled call is waited for.
    """

    plain = False
    """Nothing is pickled on it."""
    max_message = MAX_MESSAGE
    """Bytes of a message of the peer's, with its segments."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket | TlsSocket,
        greeting: Hello,
        receive: Callable[[Channel, AnyMessage, Segments], None],
        lost: Callable[[Channel, Exception | None], None],
        grace: float,
    ) -> None:
        sock.setblocking(False)
        self.loop = self._loop = loop
        self._slot = loop.slot
        self._sock = sock
        self._fd = sock.fileno()
        self._greeting = greeting
        self._receive = receive
        self._lost = lost
        self._grace = grace
        self._decoder = Decoder(max_frame=_GREETING, max_message=0, allocate=allocate)
        self._outbox = Outbox(loop, sock, self._write_failed)
        self.wait_sent = self._outbox.wait_sent
        self.flush = self._outbox.flush
        self.wait_room = self._outbox.wait_room
        self._memories = Memories(loop, sock, self._outbox)
        self._calls: dict[int, Slot] = {}
        """Those that are open; a stream's slot is a :class:`Flow`."""
        self.windows = Windows(loop)
        """How many messages may still be sent to each of the peer's actors."""
        self.debts = Debts(self.post)
        self.executed = self.debts.executed
        self.forget = self.debts.forget
        self._ids = 0
        self._greeted = loop.slot()
        self._ended: Callable[[], Exception] | None = None
        self._state = State.NEW
        self.peer: Hello | None = None
        """Who the peer said it is; None until it has."""
        self.closed = False
        """Nothing can be read or written any more."""
        self.serving: dict[int, Any] = {}
        """What the peer's open calls are to the owner, by their ids; the owner's table."""
        self._ahead = sock if isinstance(sock, TlsSocket) else None
        loop.watch(self._fd, self._readable)
        if self._ahead:
            loop.soon(self._readable)
        self._outbox.put(encode(greeting), (), None, now=True)

    async def wait_greeting(self) -> Hello:
        """Wait until the peer has said who it is.

        Raises:
            ConnectionLost: it went away first.
            ProtocolError: it is no peer of ours.
        """
        answer = await self._greeted.wait()
        if isinstance(answer, Exception):
            raise answer
        assert self.peer is not None
        return self.peer

    # Sending

    def post(self, message: AnyMessage, segments: Sequence[memoryview] = (), key: str | None = None) -> None:
        """Send a message that has no answer. Those of one ``key`` arrive in the order sent.

        The sender goes on at once, and may change what it has sent: a segment that can be changed is copied.
        """
        data = encode(message)
        if segments or len(data) > INLINE:
            send(message, segments, self._memories, self._outbox, key)
        else:
            self._outbox.put(data, (), key, now=False)

    def reply(self, call: int, body: bytes, segments: Sequence[memoryview]) -> None:
        """Answer a call of the peer's; at once, if none of its others is open any more."""
        if segments or len(body) > INLINE:
            self.post(Reply(call, body), segments)
        else:
            self._outbox.put(encode(Reply(call, body)), (), None, now=not self.serving)

    @property
    def crowded(self) -> bool:
        """Whether more bytes are on their way than is good."""
        return self._outbox.waiting >= HIGH_WATER

    @property
    def waiting(self) -> int:
        """Bytes that wait here for the peer to read, as far as they can be many."""
        return self._outbox.waiting

    async def request(
        self,
        message: Call,
        segments: Sequence[memoryview],
        unconfirmed: Callable[[Call, str], None],
    ) -> tuple[Answer, Segments]:
        """Send a call, and wait for its answer.

        Raises:
            what :meth:`fail` was given: the channel was lost.

        Cancellation: the peer is asked to cancel the call, and waited for, for at most the channel's ``grace``;
        then ``unconfirmed`` is called with the call and the peer's address, and the answer will be ignored. An
        exception that the call raises while it is being cancelled is raised here instead of the cancellation, as a
        local call would.
        """
        slot = self._slot()
        self._open(message, segments, slot)
        try:
            await self._loop.wait_reading(slot, self._fd)
        except BaseException as exc:  # cancelled, or interrupted: either way the call must not stay open
            await self.withdraw(message, slot, unconfirmed)
            if not (isinstance(exc, self._loop.cancelled) and slot.filled and _failed(slot.value)):
                raise
        answer = slot.value
        if isinstance(answer, Exception):
            raise answer
        return cast("tuple[Answer, Segments]", answer)

    def _open(self, message: Call, segments: Sequence[memoryview], slot: Slot) -> None:
        """Send a call; its answer fills ``slot``."""
        if self._ended is not None:
            raise self._ended()
        calls = self._calls
        self._ids = message.id = self._ids + 1
        calls[message.id] = slot
        now = len(calls) == 1
        try:
            if segments or len(message.body) > INLINE:
                send(message, segments, self._memories, self._outbox, message.uid, now=now, owned=True)
            else:
                self._outbox.put(encode(message), (), message.uid, now=now)
        except ProtocolError:
            del calls[message.id]
            raise

    def stream(self, message: Call, segments: Sequence[memoryview]) -> Flow:
        """Send a call whose ``window`` says that it gives a stream; its values, and its answer.

        Whoever does not read it to its end has to :meth:`withdraw` it, or to :meth:`abandon` it.

        Raises:
            what :meth:`fail` was given: the channel was lost.
        """

        def demand(count: int) -> None:
            if not self.closed:
                self.post(Demand(message.id, count))

        def wait(slot: Slot) -> Awaitable[Any]:
            return self._loop.wait_reading(slot, self._fd)

        flow = Flow(self._loop, demand, wait, message.window)
        self._open(message, segments, flow)
        return flow

    def talk(self, message: Call, segments: Sequence[memoryview], talk: Talk) -> None:
        """Send a call that opens a dialogue. Whoever leaves it before its end has to :meth:`withdraw` it.

        Raises:
            what :meth:`fail` was given: the channel was lost.
        """
        self._open(message, segments, talk)

    def cancel(self, message: Call) -> None:
        """Ask the peer to cancel a call, whose answer is still waited for."""
        if message.id in self._calls and not self.closed:
            self._outbox.put(encode(Cancel(message.id)), (), message.uid, now=True)

    def abandon(self, message: Call) -> None:
        """Ask the peer to cancel a call, whose answer nobody waits for."""
        if self._calls.pop(message.id, None) is not None:
            self._outbox.put(encode(Cancel(message.id)), (), message.uid, now=True)

    async def withdraw(self, message: Call, slot: Slot, unconfirmed: Callable[[Call, str], None]) -> None:
        """Ask the peer to cancel a call, and wait for its answer as :meth:`request` does when it is cancelled."""
        if not slot.filled:
            self._outbox.put(encode(Cancel(message.id)), (), message.uid, now=True)
            try:
                await self._loop.run_shielded(lambda: self._wait_cancelled(slot))
            finally:
                if not slot.filled:
                    self._calls.pop(message.id, None)
                    unconfirmed(message, "" if self.peer is None else self.peer.address)

    async def _wait_cancelled(self, slot: Slot) -> None:
        with anyio.move_on_after(self._grace):
            await self._loop.wait_reading(slot, self._fd)

    # Receiving

    def _readable(self) -> None:
        for _ in range(_STEP):
            if self.closed or (self._read() < _PLENTY and not (self._ahead and self._ahead.pending)):
                return
        if self._ahead and self._ahead.pending:
            self._loop.soon(self._readable)

    def _read(self) -> int:
        """Take what the socket has, as far as the buffer goes; how many bytes that was."""
        buffer = self._decoder.buffer()
        try:
            memories = self._memories
            received = memories.receive(buffer) if memories.looking else self._sock.recv_into(buffer)
            if received:
                inbound = self._decoder.received(received)
                spoke = bool(inbound)
                while inbound:
                    greeting = self.peer is None
                    for data, segments in inbound:
                        self._dispatch(decode(data), segments or ())
                    # Before a greeting, one message comes at a time: what follows it has other limits.
                    inbound = self._decoder.received(0) if greeting and not self.closed else []
                if memories.looking:
                    memories.settle(spoke, self._decoder.whole)
                return received
            self._decoder.eof()
        except BlockingIOError:
            pass
        except ProtocolError as exc:
            self._stop(exc)
        except OSError as exc:
            self._stop(ConnectionLost(f"the connection broke: {exc}"))
        else:
            self._stop(None)
        return 0

    def _dispatch(self, message: AnyMessage, segments: Segments) -> None:
        if segments and isinstance(message, BODIED) and not message.body:
            message.body, segments = cast("bytes", segments[0]), segments[1:]
        if self.peer is None:
            self._state = legal(self._state, type(message))
        if type(message) is Call or type(message) is Tell:
            self._receive(self, message, segments)
        elif isinstance(message, (Reply, Failed, Cancelled)):
            slot = self._calls.pop(message.id, None)
            if slot is not None:
                slot.set((message, segments))
        elif isinstance(message, (Item, Demand, Started, End)):
            self._hear(message, segments)
        elif isinstance(message, Credit):
            self.windows.give(message.uid, message.count)
        elif isinstance(message, Hello):
            if self.peer is not None:
                legal(self._state, Hello)
            self._greet(message)
        elif isinstance(message, (Memory, Placed, Released, Dropped)):
            unpacked = None if self.closed else self._memories.heard(message, segments)
            if unpacked is not None:
                self._dispatch(*unpacked)
        else:
            self._receive(self, message, segments)

    def _hear(self, message: Item | Demand | Started | End, segments: Segments) -> None:
        """What comes for a call between its beginning and its answer."""
        if not isinstance(message, Started) and message.mine:
            self._receive(self, message, segments)
            return
        slot = self._calls.get(message.id)
        if isinstance(slot, Talk):
            slot.heard(message, segments)
        elif isinstance(slot, Flow) and isinstance(message, Item):
            slot.put((message.body, segments))

    def _greet(self, hello: Hello) -> None:
        if hello.version != VERSION:
            raise ProtocolError(f"the peer speaks version {hello.version} of the protocol, and we {VERSION}")
        if hello.tree != self._greeting.tree:
            raise ProtocolError(f"the peer belongs to another tree, {hello.tree!r}")
        self.peer = hello
        self._decoder.limits(max_frame=MAX_FRAME, max_message=self.max_message)
        self._greeted.set(hello)

    # Ending

    def _write_failed(self, exc: OSError) -> None:
        # What the peer sent before it went may still be there: read it, and meet the end of the file.
        self.drain()
        if not self.closed:
            self._stop(ConnectionLost(f"the connection broke: {exc}"))

    def _stop(self, error: Exception | None) -> None:
        """The connection is of no use any more; what the open calls end with, the owner says."""
        if not self.closed:
            self._close_socket()
            self._lost(self, error)

    def drain(self) -> None:
        """Read what has arrived already: the peer is known to be gone, and what it said last still counts."""
        while not self.closed and self._read():
            pass

    def fail(self, reason: Callable[[], Exception]) -> None:
        """End every open call, and every later one, with an exception that ``reason`` makes for it."""
        was_open = not self.closed
        self._close_socket()
        if self._ended is None:
            self._ended = reason
        calls, self._calls = self._calls, {}
        for slot in calls.values():
            slot.set(reason())
        self._greeted.set(reason())
        if was_open:
            self._lost(self, None)

    def close(self) -> None:
        """Close the connection from here; open calls end with :exc:`ConnectionLost`."""
        self.fail(lambda: ConnectionLost("the connection was closed from here"))

    def _close_socket(self) -> None:
        if not self.closed:
            self.closed = True
            self._outbox.close()
            self._memories.close()
            self.windows.close()
            self._loop.unwatch(self._fd)
            self._fd = -1  # the number may soon be another's
            self._sock.close()


def _failed(value: object) -> bool:
    """Whether a slot's value is an exception, the callee's own or that of a lost channel."""
    return isinstance(value, Exception) or (isinstance(value, tuple) and isinstance(value[0], Failed))
