from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from tests.contract.driving import both_drivers
from tests.ipc.talking import Reader, pair
from tests.loop.waiting import settle, until
from xoscar_sc.errors import FrameTooLarge
from xoscar_sc.ipc.outbox import HIGH_WATER, JOIN, Outbox
from xoscar_sc.loop import Loop, open_loop
from xoscar_sc.protocol import MAX_FRAME, MAX_TRANSFERS, PIECE_SIZE, frame

MIB = 1 << 20
NARROW = 4096


class Case:
    """An outbox, and what reads at the other end."""

    def __init__(self, loop: Loop, sock: socket.socket, other: socket.socket) -> None:
        self.loop = loop
        self.sock = sock
        self.broken: list[OSError] = []
        self.outbox = Outbox(loop, sock, self.broken.append)
        self.reader = Reader(other)

    def small(self, message: bytes, key: str | None = None, *, now: bool = True) -> None:
        self.outbox.put(message, (), key, now=now)

    def large(self, message: bytes, size: int, key: str | None = None) -> None:
        self.outbox.put(message, [memoryview(bytes([len(message)]) * size)], key, now=True)

    @property
    def names(self) -> list[bytes]:
        return [message for message, _ in self.reader.found]


@asynccontextmanager
async def case(size: int | None = None) -> AsyncIterator[Case]:
    async with open_loop() as loop:
        with pair(size) as (one, other):
            loop.watch(one.fileno(), lambda: None)
            made = Case(loop, one, other)
            try:
                yield made
            finally:
                loop.unwatch(one.fileno())
                made.outbox.close()


# Joining


@both_drivers
async def test_a_lone_message_is_written_at_once() -> None:
    async with case() as c:
        c.small(b"now")
        assert c.reader.sock.recv(100) == frame(b"now")


@both_drivers
async def test_what_can_wait_is_written_at_the_end_of_the_pass_in_one_piece() -> None:
    async with case() as c:
        for number in range(3):
            c.small(b"%d" % number, now=False)
        with pytest.raises(BlockingIOError):
            c.reader.sock.recv(100)
        assert c.outbox.waiting == 18
        await settle()
        assert c.reader.sock.recv(100) == frame(b"0") + frame(b"1") + frame(b"2")
        assert c.outbox.waiting == 0


@both_drivers
async def test_an_urgent_message_takes_along_those_before_it() -> None:
    async with case() as c:
        c.small(b"first", now=False)
        c.small(b"second", now=True)
        assert c.reader.sock.recv(100) == frame(b"first") + frame(b"second")


@both_drivers
async def test_what_has_gathered_is_written_when_it_is_worth_it_or_is_flushed() -> None:
    async with case() as c:
        c.small(bytes(JOIN), now=False)
        assert len(c.reader.sock.recv(2 * JOIN)) == JOIN + 5
        c.small(b"x", now=False)
        c.outbox.flush()
        assert c.reader.sock.recv(1000) == frame(b"x")
        c.outbox.flush()


# Whole and in order


@pytest.mark.parametrize("size", [1, NARROW, 1 << 18])
@both_drivers
async def test_messages_arrive_whole_and_in_order_however_full_the_socket_is(size: int) -> None:
    draw = random.Random(size)
    messages = [draw.randbytes(draw.choice([0, 1, 100, 5000])) for _ in range(1000)]
    async with case(size) as c:
        for message in messages:
            c.small(message, now=draw.random() < 0.5)
        await settle()  # the reader starts late
        assert c.outbox.waiting
        await c.reader.take_until(1000)
        assert c.names == messages
        assert c.outbox.waiting == 0


@both_drivers
async def test_a_reader_that_takes_a_few_bytes_at_a_time_gets_everything() -> None:
    async with case(1) as c:
        c.large(b"large", 50_000)
        for number in range(200):
            c.small(b"%d" % number)
        while len(c.reader.found) < 201:
            c.reader.take(limit=777)
            await anyio.lowlevel.checkpoint()
        assert [name for name in c.names if name != b"large"] == [b"%d" % number for number in range(200)]
        assert (b"large", [b"\5" * 50_000]) in c.reader.found


@both_drivers
async def test_a_message_with_several_segments_arrives_with_all_of_them() -> None:
    segments = [bytes([n]) * size for n, size in enumerate([0, 1, PIECE_SIZE, PIECE_SIZE + 1, 0, 3 * MIB, 0])]
    async with case(NARROW) as c:
        c.outbox.put(b"message", [memoryview(each) for each in segments], None, now=True)
        c.outbox.put(b"nothing", [memoryview(b"")], None, now=True)
        await c.reader.take_until(2)
        assert dict(c.reader.found) == {b"message": segments, b"nothing": [b""]}
        assert c.outbox.waiting == 0


# Large ones


@both_drivers
async def test_a_small_message_overtakes_a_large_one_for_another() -> None:
    async with case() as c:
        c.large(b"large", 64 * MIB, "one")
        c.small(b"small", "other")
        await c.reader.take_until(1)
        assert c.names == [b"small"]
        assert c.outbox.waiting > 60 * MIB
        await c.reader.take_until(2)
        assert c.names == [b"small", b"large"]


@both_drivers
async def test_a_small_message_does_not_overtake_a_large_one_for_the_same() -> None:
    async with case() as c:
        c.small(b"before", "one")
        c.large(b"large", 64 * MIB, "one")
        c.small(b"small", "one")
        c.small(b"smaller", "one", now=False)
        await c.reader.take_until(4)
        assert c.names == [b"before", b"large", b"small", b"smaller"]
        c.small(b"after", "one")
        await c.reader.take_until(5)


@both_drivers
async def test_large_and_small_ones_of_one_key_keep_their_order() -> None:
    draw = random.Random(1)
    async with case(NARROW) as c:
        sent: dict[str, list[bytes]] = {"one": [], "other": [], "third": []}
        for number in range(300):
            key = draw.choice(list(sent))
            name = b"%s %d" % (key.encode(), number)
            sent[key].append(name)
            if draw.random() < 0.3:
                c.large(name, draw.choice([1, 10_000, 600_000]), key)
            else:
                c.small(name, key, now=draw.random() < 0.5)
            if draw.random() < 0.2:
                c.reader.take(limit=200_000)
                await anyio.lowlevel.checkpoint()
        await c.reader.take_until(300)
        for key, names in sent.items():
            assert [name for name in c.names if name.startswith(key.encode())] == names
        assert c.outbox.waiting == 0


@both_drivers
async def test_large_ones_take_turns() -> None:
    async with case() as c:
        c.large(b"largest", 16 * MIB, "one")
        c.large(b"large", 2 * MIB, "other")
        await c.reader.take_until(2)
        assert c.names == [b"large", b"largest"]


@both_drivers
async def test_more_large_ones_than_the_peer_admits_at_once_arrive_all_the_same() -> None:
    async with case() as c:
        count = MAX_TRANSFERS + 500
        for number in range(count):
            c.large(b"%d" % number, 1 + number % 3, f"actor {number % 1300}")
        await c.reader.take_until(count)
        assert sorted(c.names, key=int) == [b"%d" % number for number in range(count)]
        assert c.outbox.waiting == 0
        # And what was put aside is forgotten.
        c.large(b"again", 1, "actor 1")
        c.small(b"behind", "actor 1")
        await c.reader.take_until(count + 2)
        assert c.names[-2:] == [b"again", b"behind"]


@both_drivers
async def test_a_thousand_large_ones_for_one_actor_arrive_in_order() -> None:
    async with case() as c:
        for number in range(1000):
            c.large(b"%d" % number, 2000, "one")
        await c.reader.take_until(1000)
        assert c.names == [b"%d" % number for number in range(1000)]


@both_drivers
async def test_what_cannot_be_sent_is_refused_at_once_and_spoils_nothing() -> None:
    async with case(NARROW) as c:
        empty = [memoryview(b"")] * 65_537
        with pytest.raises(FrameTooLarge):
            c.small(bytes(MAX_FRAME + 1), "one")
        with pytest.raises(FrameTooLarge):
            c.outbox.put(b"message", empty, "one", now=True)
        c.large(b"large", MIB, "one")
        with pytest.raises(FrameTooLarge):
            c.small(bytes(MAX_FRAME + 1), "one")
        with pytest.raises(FrameTooLarge):
            c.outbox.put(b"message", empty, "one", now=True)
        c.small(b"last", "one")
        await c.reader.take_until(2)
        assert c.names == [b"large", b"last"]
        assert c.outbox.waiting == 0


# Room


@both_drivers
async def test_room_is_there_until_there_is_none_and_again_when_the_reader_reads() -> None:
    async with case() as c:
        await c.outbox.wait_room()
        c.large(b"large", 4 * MIB)
        log: list[str] = []

        async def wait(name: str) -> None:
            await c.outbox.wait_room()
            assert c.outbox.waiting < HIGH_WATER
            log.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(wait, "first")
            group.start_soon(wait, "second")
            await settle()
            assert log == []
            while c.outbox.waiting >= HIGH_WATER:
                assert log == []
                c.reader.take(limit=PIECE_SIZE)
                await settle()
            await until(lambda: len(log) == 2)


@both_drivers
async def test_many_small_ones_leave_no_room_either() -> None:
    async with case(NARROW) as c:
        log: list[str] = []

        async def wait() -> None:
            await c.outbox.wait_room()
            log.append("room")

        async with anyio.create_task_group() as group:
            count = 0
            while c.outbox.waiting < HIGH_WATER:
                c.small(bytes(1000))
                count += 1
            group.start_soon(wait)
            await settle()
            assert log == []
            await c.reader.take_until(count)
            await until(lambda: log)


@both_drivers
async def test_followers_count_with_their_segments() -> None:
    async with case(NARROW) as c:
        c.large(b"first", 1, "one")
        c.small(bytes(5000), "other")
        for number in range(4):
            c.large(b"%d" % number, MIB, "one")
        assert c.outbox.waiting >= 4 * MIB
        await c.reader.take_until(6)
        assert c.outbox.waiting == 0


@both_drivers
async def test_a_wait_for_room_that_was_given_up_is_forgotten() -> None:
    async with case(NARROW) as c:
        c.large(b"large", 2 * MIB)
        for _ in range(3):
            with anyio.CancelScope() as scope:
                c.loop.soon(scope.cancel)
                await c.outbox.wait_room()
            assert scope.cancelled_caught
        assert not c.outbox._waiters
        await c.reader.take_until(1)
        await c.outbox.wait_room()


@both_drivers
async def test_closing_lets_those_go_who_wait_for_room() -> None:
    async with case(NARROW) as c:
        c.large(b"large", 2 * MIB)
        async with anyio.create_task_group() as group:
            group.start_soon(c.outbox.wait_room)
            await settle()
            c.outbox.close()
        assert c.outbox.waiting == 0
        c.small(b"nobody gets this")
        c.outbox.flush()
        await settle()
        assert c.broken == []


# A peer that has gone


@both_drivers
async def test_a_peer_that_has_gone_is_told_once() -> None:
    async with case() as c:
        c.reader.sock.close()
        for _ in range(3):
            c.small(b"x")
            c.large(b"large", MIB)
        assert c.broken == []  # it is told later, and not from inside of what puts
        await until(lambda: c.broken)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert [type(exc) for exc in c.broken] == [BrokenPipeError]
        assert c.outbox.waiting == 0


@both_drivers
async def test_a_peer_that_goes_while_much_is_on_its_way_lets_those_go_who_wait() -> None:
    async with case(NARROW) as c:
        c.large(b"large", 4 * MIB)
        async with anyio.create_task_group() as group:
            group.start_soon(c.outbox.wait_room)
            await settle()
            c.reader.take(limit=10_000)
            c.reader.sock.close()
        await until(lambda: c.broken)
        assert len(c.broken) == 1
