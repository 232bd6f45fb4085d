"""What the tests of connections share: two ends in one process, and what a peer says in bytes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio.lowlevel

from xoscar_sc.errors import ConnectionLost
from xoscar_sc.ipc import Channel, Segments
from xoscar_sc.loop import Loop, open_loop
from xoscar_sc.protocol import VERSION, AnyMessage, Call, Decoder, Hello, Reply, Tell, encode, frame

GRACE = 30.0
"""Seconds that a cancelled call is waited for where a test does not say; none waits so long."""


def hello(pool: str = "peer", *, version: int = VERSION, tree: str = "tree") -> Hello:
    return Hello(version, tree, f"unix:///run/{pool}.sock", pool, 1)


def call(uid: str = "actor", body: bytes = b"", method: str = "method") -> Call:
    return Call(0, uid, 0, method, body)


def tell(uid: str = "actor", body: bytes = b"", method: str = "method") -> Tell:
    return Tell(uid, 0, method, body)


@contextmanager
def pair(size: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends that do not block, and hold ``size`` bytes on their way."""
    one, other = socket.socketpair()
    for sock in (one, other):
        sock.setblocking(False)
        if size is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    with one, other:
        yield one, other


class Reader:
    """The peer of an outbox: takes what has come, when it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.decoder = Decoder()
        self.found: list[tuple[bytes, list[bytes]]] = []

    def take(self, limit: int | None = None) -> int:
        """Take what is there, ``limit`` bytes at most."""
        total = 0
        while limit is None or total < limit:
            room = self.decoder.buffer()
            if limit is not None:
                room = room[: limit - total]
            try:
                received = self.sock.recv_into(room)
            except BlockingIOError:
                break
            if not received:
                break
            total += received
            for message, segments in self.decoder.received(received):
                self.found.append((bytes(message), [bytes(each) for each in segments or ()]))
        return total

    async def take_until(self, count: int) -> None:
        while len(self.found) < count:
            if not self.take():
                await anyio.lowlevel.checkpoint()


class End:
    """One channel, and what it was told."""

    def __init__(self, loop: Loop, sock: socket.socket, greeting: Hello, grace: float = GRACE) -> None:
        self.messages: list[tuple[AnyMessage, list[bytes]]] = []
        self.lost: list[Exception | None] = []
        self.unconfirmed: list[tuple[Call, str]] = []
        self.fails = True
        """It knows at once why it has been lost."""
        self.answers = False
        """It answers each call with its body."""
        self.channel = Channel(loop, sock, greeting, self._receive, self._lost, grace)

    def _receive(self, channel: Channel, message: AnyMessage, segments: Segments) -> None:
        self.messages.append((message, [bytes(each) for each in segments]))
        if self.answers and isinstance(message, Call):
            channel.post(Reply(message.id, bytes(message.body)))

    def _lost(self, channel: Channel, error: Exception | None) -> None:
        self.lost.append(error)
        if self.fails:
            channel.fail(self.reason)

    def reason(self) -> Exception:
        return ConnectionLost(f"lost, because of {self.lost[:1]}")

    async def request(self, message: Call, *segments: bytes) -> object:
        views = [memoryview(each) for each in segments]
        answer, more = await self.channel.request(message, views, self._unconfirmed)
        if isinstance(answer, Reply):
            return (bytes(answer.body), *map(bytes, more)) if more else bytes(answer.body)
        return answer

    def _unconfirmed(self, message: Call, address: str) -> None:
        self.unconfirmed.append((message, address))

    @property
    def bodies(self) -> list[bytes]:
        """Of the messages that have come."""
        return [bytes(message.body) for message, _ in self.messages if isinstance(message, (Call, Tell))]


@asynccontextmanager
async def two_ends(
    size: int | None = None, grace: float = GRACE, *, greet: bool = True
) -> AsyncIterator[tuple[Loop, End, End]]:
    """A connection, with a channel at each end."""
    async with open_loop() as loop:
        with pair(size) as (one, other):
            left = End(loop, one, hello("left"), grace)
            right = End(loop, other, hello("right"), grace)
            if greet:
                await left.channel.wait_greeting()
                await right.channel.wait_greeting()
            try:
                yield loop, left, right
            finally:
                left.channel.close()
                right.channel.close()


@asynccontextmanager
async def one_end(
    size: int | None = None, grace: float = GRACE, *, greet: bool = True
) -> AsyncIterator[tuple[Loop, End, socket.socket]]:
    """A channel, and the other end as a plain socket, from which the channel has heard a greeting."""
    async with open_loop() as loop:
        with pair(size) as (one, other):
            end = End(loop, one, hello("end"), grace)
            other.recv(1000)  # its greeting: who leaves bytes unread resets the connection when he goes
            if greet:
                other.send(said(hello()))
                await end.channel.wait_greeting()
            try:
                yield loop, end, other
            finally:
                end.channel.close()


def said(*messages: AnyMessage) -> bytes:
    """Messages as the bytes that a peer sends."""
    return b"".join(frame(encode(message)) for message in messages)


async def outcome(found: list[object], end: End, message: Call, *segments: bytes) -> None:
    """What a call ends with, whatever it is."""
    try:
        found.append(await end.request(message, *segments))
    except Exception as exc:
        found.append(exc)
