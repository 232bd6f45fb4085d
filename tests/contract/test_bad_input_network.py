"""Whatever is said at a door, before and after somebody has come in: at worst that one connection ends, with one event.

``XSC_SEED`` says what the fuzzer does, and ``XSC_FUZZ`` how often.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, count, next_event, until
from tests.contract.homes import seeded
from tests.contract.outside import (
    LOOPBACK,
    SECRET,
    Desk,
    Stranger,
    apart,
    descriptors,
    guest,
    stranger,
    tell,
)
from xoscar_sc.ipc import GuestChannel, Secret
from xoscar_sc.protocol import (
    NONCE,
    VERSION,
    Call,
    Cancel,
    Cancelled,
    Challenge,
    Credit,
    Demand,
    Dropped,
    End,
    Failed,
    Failure,
    Hello,
    Item,
    Knock,
    Memory,
    Notice,
    Placed,
    Proof,
    Refusal,
    Released,
    Reply,
    Started,
    Welcome,
    encode,
    frame,
    heard,
    said,
)

pack = msgspec.msgpack.encode
Refused = xsc.events.ConnectionRefused
PLACES = pytest.mark.parametrize("pools", [0, 1])


class Home:
    """A tree with a door, and somebody inside who is served all the while."""

    def __init__(self, nursery: xsc.PoolNursery, desk: Any, other: Stranger) -> None:
        assert nursery.address is not None
        self.nursery = nursery
        self.address = nursery.address
        self.desk = desk
        self.other = other
        self.events = nursery.events()
        self.served = 0

    async def serves(self) -> None:
        """The tree's own code and a guest who behaves are answered."""
        self.served += 1
        assert await self.desk.echo(self.served) == self.served
        answer = await self.other.ask("desk", "echo", self.served)
        assert isinstance(answer, Reply), answer
        assert answer.body == pack(self.served)

    async def refused(self) -> str:
        """Why somebody was refused, which has been told."""
        return (await next_event(self.events, Refused)).reason

    async def forget_leaving(self) -> None:
        """Somebody has gone, without a word, and is forgotten.

        Where something is left unread, the kernel makes a reset of that, which is told, or met too late for it.
        """
        await until(lambda: len(gate_of(self)._guests) == 1)
        told = [each.reason for each in self.events._events if isinstance(each, Refused)]
        assert len(told) <= 1, told
        self.events._events.clear()

    def quiet(self) -> None:
        """Nothing else has been told."""
        told = [each for each in self.events._events if isinstance(each, Refused)]
        assert not told


@asynccontextmanager
async def home(pools: int = 0, *, greeting: float = 30.0, **settings: Any) -> AsyncIterator[Home]:
    timeouts = xsc.Timeouts(greeting=greeting)
    async with xsc.open_pool_nursery(
        pools, address=LOOPBACK, auth=SECRET, timeouts=timeouts, **settings
    ) as n:
        desk = await n.create_actor(Desk, uid="desk", pool="pool-1" if pools else None)
        assert n.address is not None
        async with guest(n.address) as other:
            found = Home(n, desk, other)
            await found.serves()
            before = descriptors()
            yield found
            await found.serves()
            with anyio.fail_after(30):
                while descriptors() > before:  # noqa: ASYNC110 - the kernel's business
                    await anyio.sleep(0.005)
            found.quiet()


# Before somebody has come in


def knocking(nonce: bytes | None = None, **changes: Any) -> Knock:
    first = Knock(VERSION, nonce or secrets.token_bytes(NONCE), "stranger", "tree/1", "session")
    return msgspec.structs.replace(first, **changes)


async def at_once(g: Stranger) -> None:
    """Nothing has been said."""


async def after_a_knock(g: Stranger) -> None:
    await g.send(said(knocking()))
    assert isinstance(await greeting_of(g), Challenge)


STATES = {"at once": at_once, "after a knock": after_a_knock}


async def greeting_of(g: Stranger) -> Any:
    """The next frame of a handshake; None at the end."""
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "little"):
        wanted = 2 if len(data) < 2 else 2 + int.from_bytes(data[:2], "little")
        try:
            more = g.sock.recv(wanted - len(data))
        except BlockingIOError:
            await anyio.wait_readable(g.sock)
            continue
        except OSError:
            return None
        if not more:
            return None
        data += more
    return heard(data[2:])


async def gone(g: Stranger) -> None:
    """Wait until the other side has hung up, whatever it says before."""
    while True:
        try:
            if not g.sock.recv(65536):
                return
        except BlockingIOError:
            await anyio.wait_readable(g.sock)
        except OSError:
            return


NONSENSE: dict[str, bytes] = {
    "plain text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(10_000),
    "ones": b"\xff" * 10_000,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "a header that says 2^40": struct.pack("<Q", 2**40) * 10,
    "a frame of messages": frame(encode(Hello(VERSION, "tree", "tcp://127.0.0.1:1", "x", 1))),
    "a pickle": b"\x80\x05cos\nsystem\n(S'touch /tmp/never'\ntR.",
    "a short frame": said(knocking())[:-1] + b"",
    "a welcome": said(Welcome(b"", "t", "d", "a", False, 1.0)),
    "a refusal": said(Refusal("we do not want to")),
    "a challenge": said(Challenge(VERSION, bytes(32), "none", "p", "i")),
    "another version": said(knocking(version=VERSION + 1)),
    "a version of long ago": said(knocking(version=-1)),
    "a wrong proof": said(Proof(bytes(32))),
    "no proof": said(Proof(b"")),
    "a long proof": said(Proof(bytes(33))),
}


@pytest.mark.parametrize("state", STATES)
@both_drivers
async def test_nonsense_before_somebody_has_come_in_ends_its_connection(state: str) -> None:
    async with home(greeting=30.0) as h:
        for kind, data in {**NONSENSE, "random": secrets.token_bytes(5000)}.items():
            async with stranger(h.address) as g:
                await STATES[state](g)
                await g.send(data)
                with contextlib.suppress(OSError):
                    g.sock.shutdown(socket.SHUT_WR)
                await gone(g)
            assert await h.refused(), kind
            await h.serves()
    assert not Path("/tmp/never").exists()


@pytest.mark.parametrize("state", STATES)
@both_drivers
async def test_who_says_nothing_or_too_little_or_too_slowly_is_let_go(state: str) -> None:
    async with home(greeting=0.4) as h:
        frame_ = said(knocking() if state == "at once" else Proof(bytes(32)))
        for part in (0, 1, 2, len(frame_) - 1):
            async with stranger(h.address) as g:
                await STATES[state](g)
                await g.send(frame_[:part])
                await gone(g)
            assert "not said in time" in await h.refused()
        async with stranger(h.address) as g:
            await STATES[state](g)
            with anyio.move_on_after(30):
                for byte in frame_[:-1]:
                    await g.send(bytes([byte]))
                    if g.ended:
                        break
                    await anyio.sleep(0.05)
            await gone(g)
        assert "not said in time" in await h.refused()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("how", ["closed", "half closed", "reset"])
@both_drivers
async def test_who_goes_away_at_the_door_leaves_nothing(state: str, how: str) -> None:
    async with home() as h:
        for part in (0, 1, 10):
            async with stranger(h.address) as g:
                await STATES[state](g)
                await g.send(said(knocking())[:part])
                if how == "half closed":
                    g.sock.shutdown(socket.SHUT_WR)
                    await gone(g)
                elif how == "reset":
                    g.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert await h.refused()


@both_drivers
async def test_what_was_overheard_lets_nobody_in() -> None:
    async with home() as h:
        nonce = secrets.token_bytes(NONCE)
        from xoscar_sc.protocol import ClientHandshake

        client = ClientHandshake(SECRET.__key__(), knocking(nonce))
        async with stranger(h.address) as g:
            await g.send(client.knock())
            first = await greeting_of(g)
            proof = client.challenged(said(first)[2:])
            await g.send(proof)
            assert isinstance(await greeting_of(g), Welcome)
            await g.hear(Hello)
        async with stranger(h.address) as g:
            await g.send(client.knock())
            second = await greeting_of(g)
            assert second.nonce != first.nonce
            await g.send(proof)
            assert isinstance(await greeting_of(g), Refusal)
            await gone(g)
        assert "does not know the secret" in await h.refused()
        for key in (Secret(b"another secret altogether"), None):
            async with stranger(h.address) as g:
                with pytest.raises(xsc.AuthenticationError):
                    await g.prove(key)
            assert await h.refused()


@both_drivers
async def test_a_crowd_that_says_nothing_keeps_nobody_out() -> None:
    """Sockets, tasks and bytes that a thousand strangers take are few, and who behaves comes in past them."""
    async with home(1, greeting=60.0) as h:
        before = descriptors()
        crowd = []
        try:
            for number in range(1000):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(tuple_of(h.address))
                crowd.append(sock)
                if number % 100 == 99:
                    await h.serves()
                    async with guest(h.address) as g:
                        assert isinstance(await g.ask("desk", "echo", 1), Reply)
            with anyio.fail_after(60):
                while descriptors() - before - len(crowd) > 128:  # noqa: ASYNC110 - the kernel's business
                    await anyio.sleep(0.01)
        finally:
            for sock in crowd:
                sock.close()
        for _ in crowd:
            assert await h.refused()


def tuple_of(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


@both_drivers
async def test_a_door_that_is_closed_lets_strangers_go_at_once() -> None:
    async with home(greeting=60.0) as h:
        async with stranger(h.address) as g, stranger(h.address) as knocked:
            await after_a_knock(knocked)
            await until(lambda: len(gate_of(h)._strangers) == 2)
            h.nursery.door.shut()
            await gone(g)
            await gone(knocked)
            for _ in range(2):
                assert "closed" in await h.refused()
        with pytest.raises(OSError, match="refused"):
            async with stranger(h.address):
                pytest.fail("nobody listens")


def gate_of(h: Home) -> Any:
    return h.nursery.door._gate


# After somebody has come in


def deep(levels: int) -> Failure:
    found = Failure("X", "")
    for _ in range(levels):
        found = Failure("X", "", cause=found)
    return found


GARBAGE: dict[str, bytes] = {
    "plain text": b"GET / HTTP/1.1\r\n\r\n",
    "an unknown kind of frame": struct.pack("<IB", 1, 9) + b"x",
    "a frame of four gibibytes": struct.pack("<IB", 2**32 - 1, 0),
    "a message of 2^40 bytes": struct.pack("<IBIIQ", 16, 1, 1, 1, 2**40),
    "too many segments": struct.pack("<IBII", 8, 1, 1, 2**31),
    "a piece of nothing": struct.pack("<IBI", 5, 2, 7) + b"x",
    "no message": struct.pack("<IB", 3, 0) + b"\xc1\xc1\xc1",
    "an empty message": struct.pack("<IB", 0, 0),
    "an unknown message": struct.pack("<IB", 2, 0) + b"\x91\x7f",
    "a second hello": frame(encode(Hello(VERSION, "tree", "tcp://127.0.0.1:1", "x", 1))),
    "a notice": frame(encode(Notice(1, b"x"))),
    "memory": frame(encode(Memory(1, 1 << 20))),
    "a question for descriptors": frame(encode(Memory(0, 0))),
    "placed nowhere": frame(encode(Placed(((5, 100),), encode(Call(1, "desk", 0, "add", b""))))),
    "placed nonsense": frame(encode(Placed((), b"\xc1"))),
    "placed in itself": frame(encode(Placed((), encode(Placed((), b""))))),
    "released": frame(encode(Released((1, 2)))),
    "dropped": frame(encode(Dropped(1))),
    "call 1 twice": frame(encode(Call(1, "desk", 0, "wait", b"\x90"))) * 2,
    "call 1 of nobody twice": frame(encode(Call(1, "nobody", 0, "wait", b"\x90"))) * 2,
    "a function twice": frame(encode(Call(1, "", 0, "run", b"\x90"))) * 2,
    "half a frame": struct.pack("<IB", 100, 0) + b"x",
    "half a transfer": apart(Call(1, "desk", 0, "add", b""), bytes(100_000))[:-1],
}


@PLACES
@both_drivers
async def test_garbage_of_somebody_who_has_come_in_ends_its_connection(pools: int) -> None:
    async with home(pools) as h:
        for kind, data in {**GARBAGE, "random": b"\xff" + secrets.token_bytes(5000)}.items():
            async with guest(h.address) as g:
                await g.send(data)
                with contextlib.suppress(OSError):
                    g.sock.shutdown(socket.SHUT_WR)
                await gone(g)
            reason = await h.refused()
            assert "cut off" in reason, kind
            await h.serves()


HARMLESS: dict[str, list[Any]] = {
    "a reply to nothing": [Reply(5, b"\xc0")],
    "a failure of nothing": [Failed(5, Failure("X", ""))],
    "a deep failure": [Failed(5, deep(200))],
    "cancelled": [Cancelled(5)],
    "cancel of nothing": [Cancel(5), Cancel(0), Cancel(2**63 - 1)],
    "values for nothing": [Item(5, b"\xc0", mine=True), Item(5, b"\xc0"), End(5, True), End(5, False)],
    "demand for nothing": [Demand(5, 2**63 - 1), Demand(5, 1, mine=False)],
    "a beginning of nothing": [Started(5, b"\xc0")],
    "credit": [Credit("desk", 2**63 - 1), Credit("nobody", 5)] * 5000,
    "a call without arguments": [Call(900, "desk", 0, "echo", b"")],
    "arguments that are none": [Call(901, "desk", 0, "echo", b"\xc1"), Call(902, "desk", 0, "echo", b"\x05")],
    "keywords that are none": [Call(903, "desk", 0, "echo", pack({"args": [], "kwargs": {"": 1}}))],
    "a batch that is none": [Call(904, "desk", 0, "echo", b"\x05", batch=True)],
    "deep arguments": [Call(905, "desk", 0, "echo", b"\x91" * 5000 + b"\x90")],
    "another of that name": [Call(906, "desk", 2**63 - 1, "echo", b"\x90")],
    "no time": [
        Call(907 + at, "desk", 0, "echo", b"\x90", timeout=each) for at, each in enumerate((-1e300, 0.0))
    ],
    "times that are none": [
        Call(910 + at, "desk", 0, "echo", b"\x90", timeout=each)
        for at, each in enumerate((float("nan"), float("inf"), float("-inf"), 1e300))
    ],
    "others that wait": [Call(920, "desk", 0, "echo", b"\x90", chain=(("desk", "echo", 1),) * 3)],
    "a huge window": [Call(921, "desk", 0, "numbers", pack([100]), window=2**63 - 1)],
    "a window where there is none": [Call(922, "desk", 0, "echo", b"\x90", window=2**63 - 1)],
    "a dialogue that is none": [Call(923, "desk", 0, "echo", b"\x90", dialogue=True)],
    "a generator without a window": [Call(924, "desk", 0, "numbers", pack([3]))],
    "a dialogue without one": [Call(925, "desk", 0, "double", pack([3]))],
    "names of great length": [Call(926, "x" * 1024, 0, "y" * 1024, b"\x90")],
    "names of nothing": [Call(927, "desk", 0, "", b"\x90"), tell("", "", b""), tell("nobody", "x", b"")],
    "tells of nothing": [tell("desk", "", b""), tell("desk", "_cell"), tell("desk", "echo", b"\xc1")],
}


async def end_of(g: Stranger, call: int) -> Any:
    """How a call ends."""
    ends = (Reply, Failed, Cancelled)
    return await g.hear(msgspec.Struct, lambda each: isinstance(each, ends) and each.id == call)


@PLACES
@both_drivers
async def test_what_makes_no_sense_and_does_no_harm_is_answered_or_passed_over(pools: int) -> None:
    async with home(pools) as h:
        async with guest(h.address) as g:
            for kind, messages in HARMLESS.items():
                await g.say(*messages)
                for message in messages:
                    if isinstance(message, Call):
                        assert await end_of(g, message.id), kind
                g.calls = 10_000 + g.calls
                assert isinstance(await g.ask("desk", "echo", 1), Reply), kind


@both_drivers
async def test_a_failure_as_deep_as_can_be_does_not_end_the_tree() -> None:
    async with home(pickle=False) as h:
        for levels in (100, 300, 400, 480, 600, 900, 950, 5000):
            async with guest(h.address) as g:
                await g.send(frame(nested(levels)))
                g.calls = 100
                with contextlib.suppress(AssertionError):
                    await g.ask("desk", "echo", 1)
                ended = g.ended
            if ended:
                assert await h.refused()
            await h.serves()


def nested(levels: int) -> bytes:
    """A failure of a failure, and so on, written by hand: no encoder goes so deep."""
    head = b"\x99\xa1X\xa0\xc4\x00\x90\xa0"
    tail = b"\xc0\xc2\x90"
    body = head * levels + head + b"\xc0" + tail
    return b"\x93" + pack(4) + pack(5) + body + tail * levels


@PLACES
@both_drivers
async def test_more_open_calls_than_are_admitted_end_their_connection(
    pools: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuestChannel, "most_open", 5000)
    async with home(pools) as h:
        async with guest(h.address) as g:
            one = [frame(encode(Call(at, "desk", 0, "wait", b"\x90"))) for at in range(1, 7000)]
            for at in range(0, len(one), 1000):
                await g.send(b"".join(one[at : at + 1000]))
            await gone(g)
        assert "calls of" in await h.refused()


@PLACES
@pytest.mark.parametrize("what", ["calls", "calls, apart", "tells"])
@both_drivers
async def test_what_is_open_for_somebody_is_bounded_in_bytes(
    pools: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuestChannel, "most_bytes", 1 << 20)
    async with home(pools) as h:
        body = pack([bytes(50_000)])
        async with guest(h.address) as g:
            await g.say(Call(1000, "desk", 0, "hold", b"\x90"))
            for at in range(1, 200):
                if what == "calls":
                    await g.say(Call(at, "desk", 0, "echo", body))
                elif what == "tells":
                    await g.say(tell("desk", "note", body))
                else:
                    await g.say_with(Call(at, "desk", 0, "echo", b""), body)
            await gone(g)
        assert "more than are admitted" in await h.refused()


@PLACES
@both_drivers
async def test_who_does_not_read_its_answers_is_cut_off(pools: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuestChannel, "most_bytes", 1 << 20)
    async with home(pools) as h:
        async with guest(h.address) as g:
            for at in range(100):
                calls = [
                    frame(encode(Call(at * 1000 + number, "desk", 0, "big", pack([200]))))
                    for number in range(1000)
                ]
                await g.send(b"".join(calls))
                if g.ended:
                    break
                await anyio.lowlevel.checkpoint()
            reason = await h.refused()
            # What is quicker: sending, or answering.
            assert "are not read" in reason or "more than are admitted" in reason
            await h.serves()


@PLACES
@both_drivers
async def test_a_stream_without_end_that_is_not_read_takes_little(
    pools: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuestChannel, "most_bytes", 3 << 20)
    async with home(pools) as h:
        streams = await h.nursery.create_actor(Desk, uid="streams", pool="pool-1" if pools else None)
        async with guest(h.address) as g:
            await g.say(Call(1, "streams", 0, "blobs", b"\x90", window=2**63 - 1))
            if pools:  # the way from the pool is always read, and so the door has to put an end to it
                assert "are not read" in await h.refused()
            else:  # the generator is held up
                await until(lambda: any(each.channel.crowded for each in gate_of(h)._guests))
            await h.serves()
        await h.forget_leaving()
        assert await streams.add(1) == 1  # its generator has ended


@PLACES
@both_drivers
async def test_what_is_larger_than_all_bounds_together_is_answered_if_it_is_read(
    pools: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuestChannel, "most_bytes", 1 << 20)
    async with home(pools) as h:
        async with guest(h.address) as g:
            for _ in range(5):
                answer = await g.ask("desk", "big", 5 << 20)
                assert isinstance(answer, Reply)
                assert len(answer.body) == 5 << 20


@PLACES
@pytest.mark.parametrize("how", ["closed", "reset", "half closed", "in the middle"])
@both_drivers
async def test_who_goes_away_leaves_nothing_running(pools: int, how: str) -> None:
    async with home(pools) as h:
        for _ in range(20):
            async with guest(h.address) as g:
                await g.say(
                    Call(1, "desk", 0, "wait", b"\x90"),
                    Call(2, "desk", 0, "numbers", pack([10**6]), window=1),
                    Call(3, "desk", 0, "double", pack([1]), dialogue=True),
                    Call(4, "", 0, "find", pack(["nobody", True])),
                    Call(5, "", 0, "watch", pack(["desk", 0])),
                    tell("desk", "note", pack([1])),
                )
                await g.hear(Item)
                if how == "half closed":
                    g.sock.shutdown(socket.SHUT_WR)
                    await gone(g)
                elif how == "reset":
                    g.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif how == "in the middle":
                    await g.send(b"\x10")
            await h.forget_leaving()
        await until(lambda: len(gate_of(h)._guests) == 1 and len(gate_of(h)._sessions) == 1)


@both_drivers
async def test_many_who_come_and_go_are_forgotten() -> None:
    async with home(1) as h:
        for number in range(300):
            async with guest(h.address) as g:
                assert isinstance(await g.ask("desk", "echo", number), Reply)
        await until(lambda: len(gate_of(h)._guests) == 1)
        assert not gate_of(h)._strangers
        assert len(gate_of(h)._sessions) == 1


# Conversations that were changed


def conversation(tree: str, chance: random.Random) -> bytes:
    """What a client says that does all there is; some messages changed, in whole frames, so that they are heard."""
    said_ = [
        Hello(VERSION, tree, "tcp://127.0.0.1:1", "stranger", 1),
        Call(1, "desk", 0, "echo", pack([1])),
        Call(2, "desk", 0, "echo", pack({"args": [1], "kwargs": {"a": 2}})),
        tell("desk", "note", pack(["x"])),
        Call(3, "desk", 0, "numbers", pack([10]), window=3),
        Demand(3, 3),
        Call(4, "desk", 0, "double", pack([1]), dialogue=True),
        Demand(4, 4),
        End(4, True, True),
        Call(5, "", 0, "find", pack(["desk", False])),
        Call(6, "", 0, "watch", pack(["desk", 0])),
        Call(7, "nobody", 0, "x", b"\x90", timeout=1.0),
        Call(8, "desk", 0, "echo", pack([[[1], [2]], {}]), batch=True),
        Cancel(6),
        Credit("desk", 1),
        Reply(9, b"\xc0"),
        Failed(9, deep(3)),
    ]
    encoded = [encode(each) for each in said_]
    for _ in range(chance.randrange(4)):
        at = chance.randrange(1, len(encoded))
        encoded[at] = changed(chance, encoded[at])
    large = apart(Call(10, "desk", 0, "echo", b""), pack([bytes(70_000)]))
    return b"".join(map(frame, encoded)) + large


SPECIAL = [0, 1, 2, 0x7F, 0x80, 0x90, 0x91, 0xA0, 0xC0, 0xC1, 0xC4, 0xCF, 0xDD, 0xDF, 0xFF]


def changed(chance: random.Random, data: bytes) -> bytes:
    """A conversation, with some of its bytes set, cut, repeated or swapped."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(max(len(out[:2000]), 1))
        to = min(len(out), at + chance.randint(1, 40))
        match chance.choice(["set", "flip", "cut", "insert", "repeat", "end", "swap"]):
            case "set" if out:
                out[at] = chance.choice(SPECIAL)
            case "flip" if out:
                out[at] ^= 1 << chance.randrange(8)
            case "cut":
                del out[at:to]
            case "insert":
                out[at:at] = chance.randbytes(chance.randint(1, 20))
            case "repeat":
                out[at:at] = out[at:to]
            case "end":
                del out[at:]
            case "swap":
                out[at:to] = reversed(out[at:to])
    return bytes(out)


async def speak(h: Home, chance: random.Random) -> None:
    """One conversation that was changed, from its first byte or after coming in."""
    async with stranger(h.address) as g:
        if chance.random() < 0.3:
            data = changed(chance, said(knocking(chance.randbytes(32))) + said(Proof(chance.randbytes(32))))
        else:
            await g.prove()
            data = conversation(g.tree, chance)
            if chance.random() < 0.5:
                data = changed(chance, data)
        at = 0
        while at < len(data):
            size = chance.choice([1, 7, 100, 5000, len(data)])
            await g.send(data[at : at + size])
            at += size
        if chance.random() < 0.8:
            with contextlib.suppress(OSError):
                g.sock.shutdown(socket.SHUT_WR)
            await gone(g)


@PLACES
@pytest.mark.parametrize("plain", [False, True], ids=["pickle", "plain"])
@both_drivers
async def test_whatever_is_said_others_are_served(pools: int, plain: bool, tmp_path: Path) -> None:
    with seeded() as seed:
        chance = random.Random(seed)
        async with home(pools, pickle=not plain) as h:
            for _ in range(count("XSC_FUZZ", 100)):
                h.events._events.clear()
                await speak(h, chance)
                await h.serves()
                await until(lambda: len(gate_of(h)._guests) == 1 and not gate_of(h)._strangers)
                events = [each for each in h.events._events if isinstance(each, Refused)]
                # What only the actor's pool can judge, the pool tells.
                assert len(events) == len({each.address for each in events})
                assert all(each.reason for each in events)
            await until(lambda: len(gate_of(h)._sessions) == 1)
            h.events._events.clear()
