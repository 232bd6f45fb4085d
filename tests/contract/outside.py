"""What the tests of doors share: a program with a door, and strangers who say what no program of ours would."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

import xoscar_sc as xsc
from tests.contract.driving import Program, program
from xoscar_sc.ipc import Secret, knock, tcp
from xoscar_sc.protocol import (
    NONCE,
    VERSION,
    AnyMessage,
    Call,
    ClientHandshake,
    Decoder,
    Hello,
    Knock,
    Tell,
    Welcome,
    bulk,
    decode,
    encode,
    frame,
    parse_address,
)

SECRET = Secret(b"known to both sides of a test")
LOOPBACK = "tcp://127.0.0.1:0"


class Point(msgspec.Struct):
    x: int
    y: int


class Odd:
    """A type that only a pickle can express."""


class OddError(Exception):
    """As :class:`Odd`."""


class Desk(xsc.Actor):
    """Does a little of everything."""

    def __init__(self, start: int = 0) -> None:
        self.value = start
        self.seen: list[Any] = []

    def add(self, number: int = 1) -> int:
        self.value += number
        return self.value

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return kwargs or (args[0] if len(args) == 1 else list(args))

    def note(self, value: Any) -> None:
        self.seen.append(value)

    def notes(self) -> list[Any]:
        return self.seen

    def odd(self) -> Any:
        return Odd()

    def point(self) -> Point:
        return Point(1, 2)

    def fail(self, kind: str) -> None:
        raise {"value": ValueError("no good"), "own": OddError("odd"), "package": xsc.MailboxFull("full")}[
            kind
        ]

    async def numbers(self, count: int) -> AsyncIterator[Any]:
        for number in range(count):
            yield number

    async def blobs(self) -> AsyncIterator[bytes]:
        while True:
            yield bytes(20_000)

    async def odds(self) -> AsyncIterator[Any]:
        yield 1
        yield Odd()

    @xsc.no_lock
    async def wait(self) -> None:
        await anyio.sleep_forever()

    async def hold(self) -> None:
        await anyio.sleep_forever()

    def big(self, size: int) -> bytes:
        return bytes(size)

    @xsc.context
    async def double(self, ctx: Any, first: Any) -> str:
        await ctx.started(first)
        async with ctx.open_stream() as stream:
            async for each in stream:
                await stream.send(each * 2)
        return "done"


class Made(Desk):
    """Is made for programs from outside."""


class NotMade(Desk):
    """Is not."""


def triple(number: int) -> int:
    return 3 * number


def hidden(number: int) -> int:
    raise AssertionError("this is for nobody outside")


@xsc.context
async def counting(ctx: Any, upto: int) -> int:
    await ctx.started(upto)
    async with ctx.open_stream() as stream:
        for number in range(upto):
            await stream.send(number)
    return upto


SETTINGS: dict[str, dict[str, Any]] = {
    "all": {},
    "some": {"expose": ["desk", Made, triple, counting]},
    "plain": {"pickle": False, "expose": ["desk", "other", Made, triple, counting]},
    "own secret": {"auth": None},
}
"""The doors of the program that :func:`serve` is."""


async def serve(kind: str, pools: int) -> None:
    """A program with a door: says where it is, and then whom it has refused."""
    settings = {"auth": SECRET, **SETTINGS[kind]}
    async with xsc.open_pool_nursery(pools, address=LOOPBACK, **settings) as n:
        place = "pool-1" if pools else None
        await n.create_actor(Desk, uid="desk", pool=place)
        await n.create_actor(Desk, 100, uid="other", pool="pool-2" if pools > 1 else place)
        events = n.events()
        print(n.address, flush=True)
        async for event in events:
            if isinstance(event, xsc.events.ConnectionRefused):
                print("refused", event.reason, flush=True)


SERVER = """
    import sys
    import trio
    from tests.contract.outside import serve

    if __name__ == "__main__":
        try:
            trio.run(serve, sys.argv[1], int(sys.argv[2]))
        except KeyboardInterrupt:
            pass
"""


@contextmanager
def server(
    tmp_path: Path, kind: str = "all", pools: int = 2, **options: Any
) -> Iterator[tuple[Program, str]]:
    """The program of :func:`serve`, and its address."""
    with program(tmp_path, SERVER, kind, str(pools), **options) as running:
        yield running, running.line()
        running.signal(signal.SIGINT)
        running.rest()
        assert running.wait() == 0, running.stderr


class Stranger:
    """Somebody at a door, who says whatever a test wants."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.decoder = Decoder()
        self.heard: list[Any] = []
        """The messages that have come, with their segments' bytes as body if they came apart."""
        self.ended = False
        self.welcome: Welcome | None = None
        self.calls = 0

    @property
    def tree(self) -> str:
        assert self.welcome is not None
        return self.welcome.tree

    def hello(self, tree: str | None = None) -> Hello:
        return Hello(VERSION, self.tree if tree is None else tree, "tcp://127.0.0.1:1", "stranger", 1)

    async def prove(self, secret: Secret | None = SECRET, session: str = "") -> None:
        """Come in."""
        key = None if secret is None else secret.__key__()
        said = Knock(
            VERSION, secrets.token_bytes(NONCE), "stranger", "tree/1", session or secrets.token_hex(8)
        )
        self.welcome = await knock(self.sock, ClientHandshake(key, said))

    async def say(self, *messages: AnyMessage) -> None:
        """Say some messages."""
        await self.send(b"".join(frame(encode(each)) for each in messages))

    async def say_with(self, message: AnyMessage, *segments: bytes) -> None:
        """Say a message with segments."""
        await self.send(apart(message, *segments))

    async def send(self, data: bytes) -> None:
        """Send bytes, as far as the other side takes them."""
        left = memoryview(data)
        while left:
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self.sock)
            except OSError:
                self.ended = True
                return

    async def _more(self) -> None:
        while True:
            try:
                received = self.sock.recv_into(self.decoder.buffer())
                break
            except BlockingIOError:
                await anyio.wait_readable(self.sock)
            except OSError:
                received = 0
                break
        if not received:
            self.ended = True
        for data, segments in self.decoder.received(received):
            message = decode(data)
            if segments:
                message.body = bytes(segments[0])  # type: ignore[union-attr]
            self.heard.append(message)

    async def hear(self, kind: type[Any], which: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next message of a kind; those before it are forgotten."""
        while True:
            while self.heard:
                message = self.heard.pop(0)
                if isinstance(message, kind) and which(message):
                    return message
            assert not self.ended, f"it has hung up, and not said {kind.__name__}"
            await self._more()

    async def hear_end(self) -> None:
        """Wait until the other side has hung up."""
        while not self.ended:
            await self._more()

    def call(self, uid: str, method: str, body: bytes = b"\x90", **more: Any) -> Call:
        self.calls += 1
        return Call(self.calls, uid, 0, method, body, **more)

    async def ask(self, uid: str, method: str, *args: Any, **more: Any) -> Any:
        """Call, and wait for what answers it."""
        message = self.call(uid, method, msgspec.msgpack.encode(args), **more)
        await self.say(message)
        return await self.hear(msgspec.Struct, lambda each: getattr(each, "id", None) == message.id)

    def close(self) -> None:
        self.sock.close()


def apart(message: AnyMessage, *segments: bytes) -> bytes:
    """The bytes of a message with segments."""
    pieces = bulk(7, encode(message), [memoryview(each) for each in segments])
    return b"".join(head + bytes(part or b"") for head, part in pieces)


def tell(uid: str, method: str, body: bytes = b"\x90") -> Tell:
    return Tell(uid, 0, method, body)


@asynccontextmanager
async def stranger(address: str) -> AsyncIterator[Stranger]:
    """Somebody who has connected, and not said anything."""
    sock = await tcp.connect(parse_address(address), 15.0)  # type: ignore[arg-type]
    found = Stranger(sock)
    try:
        yield found
    finally:
        found.close()


@asynccontextmanager
async def guest(address: str, secret: Secret | None = SECRET) -> AsyncIterator[Stranger]:
    """Somebody who has come in, and said hello."""
    async with stranger(address) as found:
        await found.prove(secret)
        await found.say(found.hello())
        yield found


def touch(path: Path) -> bytes:
    """A pickle that makes a file."""
    import pickle

    class Touch:
        def __reduce__(self) -> Any:
            return os.mknod, (str(path),)

    data = pickle.dumps(Touch(), 5)
    assert data[0] == 0x80
    return data


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
