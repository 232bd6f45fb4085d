"""A generator method is a stream: its values come as they are read, and leaving it ends it."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers
from tests.contract.streaming import Source, Stateless, some, tables, until_logged, until_no_calls

SAME_AND_OTHER = pytest.mark.parametrize("pools", [0, 1])
"""The actor lives in the process of its reader, or in another."""
GENERATORS = pytest.mark.parametrize("method", ["numbers", "sync_numbers"])
WINDOW = 64


class Mine(Exception):
    """Not to be mistaken for another."""


# Reading


@GENERATORS
@SAME_AND_OTHER
@both_drivers
async def test_the_values_come_in_order_and_then_the_end(pools: int, method: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        assert [value async for value in getattr(source, method)(1000)] == list(range(1000))
        async with getattr(source, method)(3) as stream:
            assert [value async for value in stream] == [0, 1, 2]
            assert [value async for value in stream] == []
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        assert (await source.state())[1] == ["closed"] * 2
        assert [value async for value in source.nothing()] == []
        assert [value async for value in source.nones()] == [None, None]


@SAME_AND_OTHER
@both_drivers
async def test_a_stream_begins_when_it_is_opened_and_not_before(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        stream = source.numbers(3)
        assert "not begun" in repr(stream)
        assert await source.state() == (0, [])
        del stream
        never = source.numbers()
        await never.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(never)
        async with never:
            assert [value async for value in never] == []
        with pytest.raises(RuntimeError, match="closed before it began"):
            await never
        assert await source.state() == (0, [])
        async with source.numbers(3) as stream:
            assert "open" in repr(stream)
            await until_logged(source, "closed")
        assert "ended" in repr(stream)


@GENERATORS
@SAME_AND_OTHER
@both_drivers
async def test_a_generator_is_a_window_ahead_of_its_reader_at_most(pools: int, method: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        async with getattr(source, method)() as stream:
            for read in range(200):
                assert await anext(stream) == read
                for _ in range(20 if read % 40 == 0 else 1):  # a chance to go too far
                    made, _ = await source.state()
                    assert read < made <= read + 1 + WINDOW
            while (await source.state())[0] < 200 + WINDOW // 2:
                await anyio.lowlevel.checkpoint()


@GENERATORS
@SAME_AND_OTHER
@both_drivers
async def test_a_reader_that_leaves_early_leaves_nothing_running(pools: int, method: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        async with getattr(source, method)() as stream:
            assert await some(stream, 10) == list(range(10))
        made, log = await source.state()
        assert made <= 10 + WINDOW
        assert log == ["closed"]
        assert await source.ping() == "pong"
        assert (await source.state())[0] == made
        await until_no_calls(source)


@both_drivers
async def test_values_are_as_large_as_they_like() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        source = await n.create_actor(Source)
        number = 0
        async for value in source.large(150, 300 * 1024):
            assert value == bytes([number]) * (300 * 1024)
            number += 1
        assert number == 150
        async with source.large(100_000, 300 * 1024) as stream:
            await some(stream, 5)
        assert (await source.state())[0] <= 150 + 5 + WINDOW


@SAME_AND_OTHER
@both_drivers
async def test_two_streams_of_one_actor_are_read_side_by_side(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        found: dict[str, list[int]] = {"a": [], "b": []}

        async def read(name: str) -> None:
            async for value in source.numbers(300):
                found[name].append(value)

        async with anyio.create_task_group() as group:
            group.start_soon(read, "a")
            group.start_soon(read, "b")
        assert found == {"a": list(range(300)), "b": list(range(300))}
        async with source.numbers() as one, source.numbers() as other:
            for expected in range(200):
                assert await anext(one) == await anext(other) == expected


@SAME_AND_OTHER
@both_drivers
async def test_others_get_the_lock_while_a_stream_is_open(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        count = 0
        async for _ in source.numbers(200):
            assert await source.ping() == "pong"
            count += 1
        assert count == 200
        async for _ in source.sync_numbers(100):
            assert [value async for value in source.numbers(3)] == [0, 1, 2]


@SAME_AND_OTHER
@both_drivers
async def test_between_its_yields_a_generator_keeps_the_lock_unless_it_needs_none(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        async with source.waits(1) as stream:
            assert await anext(stream) == 0
            await until_logged(source, "waits")
            assert [value async for value in source.beside(100)] == list(range(100))
            with anyio.move_on_after(0.05) as scope:
                await source.ping()
            assert scope.cancelled_caught
            await source.let()
            assert await anext(stream) == 1
        stateless = await n.create_actor(Stateless)
        assert [value async for value in stateless.numbers(200)] == list(range(200))
        async with stateless.waits() as one, stateless.waits() as other:
            assert await anext(one) == await anext(other) == 1
            await stateless.let()
            assert await anext(one) == await anext(other) == 2


@SAME_AND_OTHER
@both_drivers
async def test_one_task_reads_a_stream_at_a_time(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        found: list[Any] = []

        async def read(stream: Any) -> None:
            try:
                found.append(await anext(stream))
            except RuntimeError as exc:
                found.append(str(exc))

        source = await n.create_actor(Source)
        for entered in (True, False):
            stream = source.waits(1)
            if entered:
                await stream.__aenter__()
            found = [await anext(stream)]
            async with anyio.create_task_group() as group:
                group.start_soon(read, stream)
                group.start_soon(read, stream)
                while len(found) < 2:
                    await anyio.lowlevel.checkpoint()
                await source.let()
            assert found[0] == 0
            assert "another task is reading" in found[1]
            assert found[2] == 1
            await stream.aclose()
            await until_no_calls(source)
            source = await n.create_actor(Source)  # one that has not been let
        stream = source.numbers(3)
        found = []
        async with anyio.create_task_group() as group:
            group.start_soon(read, stream)
            group.start_soon(read, stream)
        assert 0 in found
        assert "another task" in str(found) or 1 in found
        await stream.aclose()
        await until_no_calls(source)


@SAME_AND_OTHER
@both_drivers
async def test_a_stream_that_another_task_closes_is_over(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        stream = source.waits(0)
        found: list[int] = []

        async def read() -> None:
            async for value in stream:
                found.append(value)
            found.append(-1)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await until_logged(source, "waits")
            await stream.aclose()
        assert found == [-1]
        await until_logged(source, "waits", "cancelled", "closed")
        await until_no_calls(source)


@SAME_AND_OTHER
@both_drivers
async def test_an_exception_comes_after_the_values_before_it(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        found = []
        with pytest.raises(LookupError, match="after some"):
            async for value in source.fails_at(5):
                found.append(value)
        assert found == list(range(5))
        async with source.fails_at(2) as stream:
            assert await some(stream, 2) == [0, 1]
            with pytest.raises(LookupError):
                await anext(stream)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        assert await source.ping() == "pong"


@both_drivers
async def test_what_cannot_be_sent_is_an_error_where_it_is_yielded() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        source = await n.create_actor(Source)
        assert [value async for value in source.locks(catch=True)] == [1, 3]
        found = []
        with pytest.raises(xsc.SerializationError):
            async for value in source.locks(catch=False):
                found.append(value)
        assert found == [1]
        assert await source.ping() == "pong"


@both_drivers
async def test_values_are_handed_over_in_one_process_and_copied_if_that_is_wanted() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        source = await n.create_actor(Source)
        mine: list[Any] = []
        assert await anext(source.shared(mine)) is mine
        assert mine == ["seen"]
        theirs = await anext(source.options(copy=True).shared(mine))
        assert (mine, theirs) == (["seen"], ["seen", "seen"])
        with pytest.raises(xsc.SerializationError):
            async for _ in source.options(copy=True).locks(catch=False):
                pass


@both_drivers
async def test_a_reference_knows_its_streams_wherever_it_comes_from() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        source = await n.create_actor(Source, uid="source", pool="pool-1")
        reader = await n.create_actor(Source, pool="pool-2")
        found = await xsc.find_actor("source")
        assert found is not None
        for ref in (
            pickle.loads(pickle.dumps(source)),
            found,
            await xsc.wait_for_actor("source"),
            await xsc.actor_ref(source.address, "source"),
            source.options(copy=True),
        ):
            assert [value async for value in ref.numbers(3)] == [0, 1, 2]
            assert [value async for value in ref.sync_numbers(3)] == [0, 1, 2]
            assert await reader.read(ref, "numbers", 3) == [0, 1, 2]


# Leaving


async def leave(stream: Any, way: str) -> None:
    """Read one value, and go."""
    match way:
        case "break":
            async for _ in stream:
                break
        case "aclose":
            await anext(stream)
            await stream.aclose()
        case "exception":
            with pytest.raises(Mine):
                async for _ in stream:
                    raise Mine
        case "cancellation":
            with anyio.CancelScope() as scope:
                async for _ in stream:
                    scope.cancel()
            assert scope.cancelled_caught


WAYS = ["break", "aclose", "exception", "cancellation"]


@pytest.mark.parametrize("way", WAYS)
@SAME_AND_OTHER
@both_drivers
async def test_leaving_a_block_waits_until_the_generator_has_ended(pools: int, way: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        async with source.numbers() as stream:
            await leave(stream, way)
        assert (await source.state())[1] == ["closed"]
        await until_no_calls(source)


@pytest.mark.parametrize("way", WAYS)
@SAME_AND_OTHER
@both_drivers
async def test_leaving_a_bare_loop_closes_the_generator(pools: int, way: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        await leave(source.numbers(), way)
        if way in ("aclose", "cancellation"):
            assert (await source.state())[1] == ["closed"]
        gc.collect()
        await until_logged(source, "closed")
        await until_no_calls(source)
        assert await source.ping() == "pong"


@SAME_AND_OTHER
@both_drivers
async def test_a_stream_that_is_dropped_is_closed_read_or_not(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        stream = await source.numbers().__aenter__()
        while not (await source.state())[0]:  # one that has not begun would never run
            await anyio.lowlevel.checkpoint()
        del stream
        gc.collect()
        await until_logged(source, "closed")
        stream = await source.waits(0).__aenter__()
        await until_logged(source, "closed", "waits")
        del stream
        gc.collect()
        await until_logged(source, "closed", "waits", "cancelled", "closed")
        await until_no_calls(source)


@SAME_AND_OTHER
@both_drivers
async def test_a_wait_that_is_cancelled_loses_nothing_within_a_block(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        async with source.waits(3) as stream:
            assert await some(stream, 3) == [0, 1, 2]
            for _ in range(5):
                with anyio.move_on_after(0.002) as scope:
                    await anext(stream)
                assert scope.cancelled_caught
            await source.let()
            assert await anext(stream) == 3
        assert (await source.state())[1] == ["waits", "closed"]


@SAME_AND_OTHER
@both_drivers
async def test_a_wait_that_is_cancelled_closes_the_generator_without_a_block(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        stream = source.waits(1)
        assert await anext(stream) == 0
        await until_logged(source, "waits")
        with anyio.move_on_after(0.002) as scope:
            await anext(stream)
        assert scope.cancelled_caught
        assert (await source.state())[1] == ["waits", "cancelled", "closed"]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert not any(map(any, tables()))


@SAME_AND_OTHER
@both_drivers
async def test_a_stream_that_waits_for_its_turn_and_is_left_never_runs(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        async with source.waits(1) as first:
            assert await anext(first) == 0
            await until_logged(source, "waits")
            async with source.numbers():
                pass
            await source.let()
            assert await anext(first) == 1
        assert await source.ping() == "pong"
        assert await source.state() == (0, ["waits", "closed"])
        await until_no_calls(source)
