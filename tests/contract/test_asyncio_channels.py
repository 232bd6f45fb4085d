"""Channels between trio code and an asyncio task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import trio
import trio.lowlevel

import xoscar_sc as xsc
from tests.contract.driving import causes
from xoscar_sc import to_asyncio

LOOPS = pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])


class Mine(Exception):
    """Not to be mistaken for another."""


async def echo(to_trio: Any, from_trio: Any, *, first: str = "start") -> None:
    to_trio.send_nowait(first)
    while True:
        to_trio.send_nowait(await from_trio.get())


async def round_trips(count: int) -> int:
    async with to_asyncio.open_channel_from(echo, first="hello") as (first, chan):
        assert first == "hello"
        for number in range(count):
            await chan.send(number)
            assert await chan.receive() == number
    return count


async def read_to_the_end() -> list[Any]:
    async def count(to_trio: Any, from_trio: Any, up_to: int) -> None:
        for number in range(up_to):
            await to_trio.send(number)

    async with to_asyncio.open_channel_from(count, 100, capacity=1) as (first, chan):
        values = [first, *[value async for value in chan]]
        for operation in (chan.receive, lambda: chan.send(1)):
            try:
                await operation()
            except (trio.EndOfChannel, trio.BrokenResourceError) as exc:
                values.append(str(exc))
    try:
        await chan.receive()
    except trio.ClosedResourceError as exc:
        values.append(str(exc))
    return values


async def stay_bounded() -> list[Any]:
    async def flood(to_trio: Any, from_trio: Any) -> None:
        to_trio.send_nowait(0)
        sent = 1
        try:
            while True:
                to_trio.send_nowait(sent)
                sent += 1
        except trio.WouldBlock:
            log.append(sent)
        async for value in from_trio:
            log.append(value)
            await asyncio.sleep(600)

    log: list[Any] = []
    async with to_asyncio.open_channel_from(flood, capacity=5) as (_, chan):
        while not log:
            await trio.lowlevel.checkpoint()
        for number in range(6):
            await chan.send(number)
            while len(log) < 2:
                await trio.lowlevel.checkpoint()
        with trio.move_on_after(0.05) as scope:
            await chan.send("one too many")
    return [*log, scope.cancelled_caught]


async def fail(how: str) -> None:
    async def task(to_trio: Any, from_trio: Any) -> None:
        if how == "before":
            raise Mine("before the first value")
        if how == "silent":
            return
        to_trio.send_nowait("first")
        if how == "cancelled":
            raise asyncio.CancelledError
        try:
            await from_trio.get()
        finally:
            if how == "both":
                raise Mine("asyncio's")
        raise Mine("after a value")

    async with to_asyncio.open_channel_from(task) as (_, chan):
        if how in ("both", "body"):
            raise ValueError("trio's")
        await chan.send(1)
        await trio.sleep_forever()


async def leave(how: str) -> list[str]:
    async def task(to_trio: Any, from_trio: Any) -> None:
        to_trio.send_nowait("first")
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.01)
            log.append("asyncio has ended")

    log: list[str] = []
    with trio.CancelScope() as scope:
        async with to_asyncio.open_channel_from(task):
            if how == "cancel":
                scope.cancel()
    log.append("left")
    return log


@LOOPS
async def test_a_thousand_values_there_and_back(uvloop: bool) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        assert await pool.run(round_trips, 1000) == 1000


async def test_the_end_of_the_task_is_the_end_of_the_channel() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True)
        assert await pool.run(read_to_the_end) == [
            *range(100),
            "the asyncio task of this channel has ended",
            "the asyncio task of this channel has ended",
            "the block of this channel has been left",
        ]


async def test_both_directions_are_bounded() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True)
        assert await pool.run(stay_bounded) == [6, 0, True]


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("before", Mine, "before the first value"),
        ("silent", RuntimeError, "returned before it had sent anything"),
        ("after", Mine, "after a value"),
        ("cancelled", xsc.AsyncioCancelled, "was cancelled from inside asyncio"),
        ("body", ValueError, "trio's"),
    ],
)
async def test_an_error_of_one_side_leaves_the_block_as_itself(how: str, kind: Any, says: str) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True)
        with pytest.raises(kind, match=says):
            await pool.run(fail, how)


async def test_errors_of_both_sides_are_a_group() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True)
        with pytest.raises(ExceptionGroup) as caught:
            await pool.run(fail, "both")
        assert {type(exc) for exc in causes(caught.value)} == {Mine, ValueError}


@LOOPS
@pytest.mark.parametrize("how", ["normally", "cancel"])
async def test_leaving_the_block_cancels_the_task_and_waits_for_it(uvloop: bool, how: str) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        assert await pool.run(leave, how) == ["asyncio has ended", "left"]
