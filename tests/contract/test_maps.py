"""Calls for many items: in which order, how many at a time, and how it ends."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board
from tests.contract.driving import both_drivers
from tests.contract.workers import SAME_AND_OTHER, Mine, Worker, logs, numbers, workers


class Items:
    """An async iterable that knows how it has been used."""

    def __init__(self, count: int = 1_000_000, at: int = -1) -> None:
        self.count = count
        self.at = at
        self.given = 0
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                await anyio.lowlevel.checkpoint()
                if number == self.at:
                    raise Mine("the items")
                self.given += 1
                yield number
        finally:
            self.closed += 1


class BadlyClosed(Items):
    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise Mine("closing")


async def values(stream: Any) -> list[Any]:
    return [value async for value in stream]


async def logged(group: Any, word: str, number: int) -> None:
    """Wait until so many calls have logged this."""
    while len([entry for entry in await logs(group) if entry[0] == word]) < number:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("route", ["round_robin", "least_busy", "hash"])
@SAME_AND_OTHER
@both_drivers
async def test_the_values_come_in_order_or_as_they_are_completed(pools: int, route: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n, route=route)
        wanted = [100 + number for number in range(50)]
        assert await values(group.add.map(range(50))) == wanted
        assert await values(group.map("add", range(50), limit=1)) == wanted
        assert await values(group.map(group.add, iter(range(50)), limit=200)) == wanted
        assert sorted(await values(group.add.map(range(50), ordered=False))) == wanted
        assert await values(group.add.map(range(5), [10, 20, 30])) == [110, 121, 132]
        assert await values(group.add.map(Items(50))) == wanted
        assert await values(group.add.map(group.numbers(50))) == wanted
        for ordered in (True, False):
            for nothing in ([], Items(0), group.numbers(0)):
                assert await values(group.add.map(nothing, ordered=ordered)) == []
        async with group.add.map(range(50)) as stream:
            assert await values(stream) == wanted
            assert await values(stream) == []


@SAME_AND_OTHER
@both_drivers
async def test_a_broadcast_maps_to_lists(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n, size=2, route="broadcast")
        assert await values(group.add.map(range(3))) == [[100, 100], [101, 101], [102, 102]]


@SAME_AND_OTHER
@both_drivers
async def test_what_is_completed_first_comes_first(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        board = await n.create_actor(Board)
        group = await workers(n, board=board)
        words = ["a", "b", "c", "d"]
        async with group.wait_for.map(words, ordered=False) as stream:
            with anyio.move_on_after(0):
                await anext(stream)
            for word in words:
                await board.wait(f"{word} runs")
            for word in reversed(words):
                await board.post(word)
                assert await anext(stream) == word
            assert await values(stream) == []


@pytest.mark.parametrize("ordered", [True, False])
@SAME_AND_OTHER
@both_drivers
async def test_no_more_is_taken_than_the_limit_allows(pools: int, ordered: bool) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        taken: list[int] = []
        items = Items()
        for source, given in ((numbers(taken), lambda: len(taken)), (items, lambda: items.given)):
            async with group.add.map(source, limit=5, ordered=ordered) as stream:
                for read in range(1, 20):
                    await anext(stream)
                    for _ in range(20):  # a chance for what is too much
                        await group[0].ping()
                    assert given() <= read + 5
        assert items.closed == 1


@SAME_AND_OTHER
@both_drivers
async def test_an_error_comes_when_it_is_its_turn(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        for stream, error in (
            (group.fail_at.map(range(100), [5] * 100), "5"),
            (group.add.map(Items(100, at=5)), "the items"),
        ):
            found = []
            with pytest.raises(Mine, match=error):
                async for value in stream:
                    found.append(value % 100)
            assert found == [0, 1, 2, 3, 4]
            assert await values(stream) == []
        with pytest.raises(Mine):
            await values(group.fail_at.map(range(100), [5] * 100, ordered=False))
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            await values(group.stop_iteration.map(range(3)))
        with pytest.raises(TypeError):
            await values(group.add.map([1], [2], [3]))
        items = Items()
        with pytest.raises(TypeError):
            await values(group.ping.map(items))
        assert items.closed == 1
        assert items.given <= 8


@SAME_AND_OTHER
@both_drivers
async def test_a_block_that_is_left_has_cancelled_its_calls(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        items = Items()
        async with group.sleep.map(items, limit=6) as stream:
            for _ in range(2):  # a cancelled wait loses nothing
                with anyio.move_on_after(0.001):
                    await anext(stream)
            await logged(group, "runs", 6)
        assert len([entry for entry in await logs(group) if entry[0] == "cancelled"]) == 6
        assert (items.given, items.closed) == (6, 1)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@pytest.mark.parametrize("how", ["cancelled", "dropped", "raised"])
@SAME_AND_OTHER
@both_drivers
async def test_calls_that_nobody_reads_are_cancelled(pools: int, how: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        items = Items()
        stream = group.sleep.map(items, limit=6)
        if how == "cancelled":
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(values, stream)
                    await logged(group, "runs", 6)
                    scope.cancel()
            assert len([entry for entry in await logs(group) if entry[0] == "cancelled"]) == 6
        elif how == "raised":
            with pytest.raises(Mine):
                async with stream:
                    with anyio.move_on_after(0.001):
                        await anext(stream)
                    raise Mine
        else:
            stream = group.add.map(items, limit=6)
            assert await anext(stream) == 100
        del stream
        gc.collect()
        while not items.closed:
            await anyio.lowlevel.checkpoint()
        assert await group.ping() == "pong"


@SAME_AND_OTHER
@both_drivers
async def test_one_task_may_close_what_another_reads(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        for ordered in (True, False):
            items = Items()
            stream = group.sleep.map(items, limit=3, ordered=ordered)
            found: list[Any] = []

            async def read(stream: Any = stream, found: list[Any] = found) -> None:
                async with stream:
                    found.append(await values(stream))

            before = len([entry for entry in await logs(group) if entry[0] == "runs"])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await logged(group, "runs", before + 3)
                with pytest.raises(RuntimeError, match="another task"):
                    await anext(stream)
                await stream.aclose()
            assert found == [[]]
            assert items.closed == 1


@SAME_AND_OTHER
@both_drivers
async def test_what_the_items_raise_while_they_are_closed_is_raised(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        with pytest.raises(Mine, match="closing"):
            async with group.add.map(BadlyClosed()) as stream:
                await anext(stream)
        await stream.aclose()
        stream = group.add.map(BadlyClosed())
        await anext(stream)
        del stream
        gc.collect()
        for _ in range(20):
            await group.ping()
        with pytest.raises(TypeError):
            await values(group.ping.map(BadlyClosed()))
        assert await group.ping() == "pong"


@SAME_AND_OTHER
@both_drivers
async def test_a_member_that_ends_meanwhile_ends_the_map(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        with pytest.raises(xsc.ActorError):
            async with group.add.map(numbers([])) as stream:
                async for value in stream:
                    if value == 110:
                        await group[1].kill()
        assert await group[0].ping() == "pong"
        wanted = [100 + number for number in range(20)]
        assert await values(xsc.ActorGroup([group[0], *group.members[2:]]).add.map(range(20))) == wanted


@both_drivers
async def test_ten_thousand_items() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        group = await n.create_group(Worker, size=4, route="least_busy")
        taken: list[int] = []
        expected = 0
        async with group.add.map(numbers(taken, 10_000), limit=8) as stream:
            async for value in stream:
                assert value == expected
                expected += 1
                assert len(taken) <= expected + 8
        assert expected == 10_000


@SAME_AND_OTHER
@both_drivers
async def test_a_map_of_streams_gives_them(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        found = []
        async for stream in group.numbers.map([1, 2, 3], limit=1):
            found.append(await values(stream))
        assert found == [[0], [0, 1], [0, 1, 2]]
