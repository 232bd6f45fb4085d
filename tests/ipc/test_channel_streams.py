"""Streams over one connection: values, demands and ends between a reader and what it reads from."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest

from tests.contract.driving import both_drivers
from tests.ipc.talking import End, call, hello, pair, two_ends
from tests.loop.waiting import settle, until
from xoscar_sc.errors import ConnectionLost
from xoscar_sc.ipc import Flow
from xoscar_sc.loop import open_loop
from xoscar_sc.protocol import Call, Cancel, Cancelled, Demand, Item, Reply


def wanted(window: int = 4) -> Call:
    message = call()
    message.window = window
    return message


async def read(flow: Flow, count: int) -> list[bytes]:
    """The next values."""
    found = []
    for _ in range(count):
        assert await flow.peek()
        body, segments = flow.take()
        found.append(b"".join([bytes(body), *map(bytes, segments)]))
    return found


def of_type(end: End, kind: type) -> list[Any]:
    """The messages of a kind that have come."""
    return [message for message, _ in end.messages if isinstance(message, kind)]


@both_drivers
async def test_values_come_before_their_end_however_large_they_are() -> None:
    async with two_ends(size=4096) as (_, left, right):
        for sizes in ([1, 2, 3], [300_000, 1, 200_000, 5], [100_000] * 4):
            message = wanted()
            flow = left.channel.stream(message, [])
            for size in sizes:
                right.channel.post(Item(message.id, b"x" * size), key=f"stream {message.id}")
            right.channel.post(Reply(message.id, b"end"), key=f"stream {message.id}")
            assert [len(each) for each in await read(flow, len(sizes))] == sizes
            assert not await flow.peek()
            assert flow.value[0].body == b"end"
        assert left.channel._calls == {}


@both_drivers
async def test_what_was_read_is_told_by_halves_of_the_window() -> None:
    async with two_ends() as (_, left, right):
        message = wanted(window=4)
        flow = left.channel.stream(message, [])
        for number in range(10):
            right.channel.post(Item(message.id, b"%d" % number))
            assert await read(flow, 1) == [b"%d" % number]
        await until(lambda: len(of_type(right, Demand)) == 5)
        assert [each.count for each in of_type(right, Demand)] == [2] * 5


@both_drivers
async def test_a_peer_that_sends_too_far_ahead_breaks_the_protocol() -> None:
    async with two_ends() as (_, left, right):
        message = wanted(window=4)
        left.channel.stream(message, [])
        for _ in range(5):
            right.channel.post(Item(message.id, b"x"))
        await until(lambda: left.lost)
        assert "more than 4 values" in str(left.lost[0])
        assert left.channel.closed


@both_drivers
async def test_values_for_a_call_that_reads_none_are_ignored() -> None:
    async with two_ends() as (_, left, right):
        right.answers = True
        right.channel.post(Item(1, b"nobody reads"))
        right.channel.post(Item(99, b"nobody asked"))
        assert await left.request(call(body=b"a")) == b"a"


@both_drivers
async def test_a_stream_that_was_abandoned_is_forgotten_at_once() -> None:
    async with two_ends() as (_, left, right):
        message = wanted()
        left.channel.stream(message, [])
        left.channel.abandon(message)
        left.channel.abandon(message)
        assert left.channel._calls == {}
        await until(lambda: of_type(right, Cancel))
        right.channel.post(Item(message.id, b"late"))
        right.channel.post(Cancelled(message.id))
        await settle()
        assert len(of_type(right, Cancel)) == 1
        assert not left.channel.closed


@both_drivers
async def test_a_stream_that_is_withdrawn_is_waited_for_while_another_reads() -> None:
    async with two_ends() as (_, left, right):
        message = wanted()
        flow = left.channel.stream(message, [])
        found: list[Any] = []

        async def withdraw() -> None:
            await left.channel.withdraw(message, flow, left._unconfirmed)
            found.append("withdrawn")

        async def peek() -> None:
            found.append(await flow.peek())

        async with anyio.create_task_group() as group:
            group.start_soon(peek)
            await settle()
            group.start_soon(withdraw)
            await until(lambda: of_type(right, Cancel))
            await settle()
            assert found == []
            right.channel.post(Cancelled(message.id))
        assert sorted(map(str, found)) == ["False", "withdrawn"]
        assert left.unconfirmed == []
        assert left.channel._calls == {}


@both_drivers
async def test_a_stream_whose_end_does_not_come_is_left_after_the_grace() -> None:
    async with two_ends(grace=0.05) as (_, left, _right):
        message = wanted()
        flow = left.channel.stream(message, [])
        await left.channel.withdraw(message, flow, left._unconfirmed)
        assert [each.id for each, _ in left.unconfirmed] == [message.id]
        assert left.channel._calls == {}


@both_drivers
async def test_a_stream_ends_with_its_connection_after_what_had_come() -> None:
    async with two_ends() as (_, left, right):
        message = wanted()
        flow = left.channel.stream(message, [])
        right.channel.post(Item(message.id, b"last"))
        right.channel.flush()
        right.channel.close()
        assert await read(flow, 1) == [b"last"]
        assert not await flow.peek()
        assert isinstance(flow.value, ConnectionLost)
        with pytest.raises(ConnectionLost):
            left.channel.stream(wanted(), [])


@both_drivers
async def test_the_reader_of_a_lost_stream_does_not_wait_for_another_channel_of_the_same_number() -> None:
    async with open_loop() as loop:
        one, other = socket.socketpair()
        number = one.fileno()
        end = End(loop, one, hello("end"))
        end.fails = False
        flow = end.channel.stream(wanted(), [])
        other.close()
        await until(lambda: end.lost)
        with pair() as (again, quiet):
            assert again.fileno() == number
            new = End(loop, again, hello("new"))
            found: list[bool] = []

            async def peek() -> None:
                found.append(await flow.peek())

            async with anyio.create_task_group() as group:
                group.start_soon(peek)
                await settle()
                end.channel.fail(lambda: ConnectionLost("lost"))
                await settle()
                assert found == [False]
            new.channel.close()
            assert quiet.fileno() >= 0
