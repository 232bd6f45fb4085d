"""Streams where they meet something else: the lock, the end of the tree, cancel scopes, copies, other streams."""

from __future__ import annotations

import gc
import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board
from tests.contract.driving import both_drivers, causes, count
from tests.contract.streaming import Relay, Source, some, until_logged, until_no_calls

SAME_AND_OTHER = pytest.mark.parametrize("pools", [0, 1])
CANCELS = count("XSC_CONTRACT_CANCELS", 200)


class Corner(Source):
    async def hold(self) -> None:
        """Have the lock until the actor is let."""
        self.log.append("held")
        await self.event.wait()

    async def until_deadline(self) -> AsyncIterator[str]:
        with anyio.move_on_after(0.02):
            while True:
                yield "before"
        yield "after"

    async def with_a_task(self) -> AsyncIterator[int]:
        async with anyio.create_task_group() as group:
            group.start_soon(self._fail)
            while True:
                yield 1

    async def _fail(self) -> None:
        await anyio.sleep(0.02)
        raise LookupError("in the task")

    async def kept(self) -> AsyncIterator[Any]:
        yield self._nothing()
        raise xsc.Return(self.log)

    async def _nothing(self) -> None:
        await anyio.lowlevel.checkpoint()


# The lock


@SAME_AND_OTHER
@both_drivers
async def test_a_generator_that_waits_for_the_lock_is_closed_and_not_cancelled(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        corner = await n.create_actor(Corner)
        async with anyio.create_task_group() as group:
            async with corner.numbers() as stream:
                # It comes to its end of credit, lends the lock, gets credit, and has to wait for the lock.
                while (await corner.state())[0] < 64:
                    await anyio.lowlevel.checkpoint()
                group.start_soon(corner.hold)
                await until_logged(corner, "held")
                assert await some(stream, 40) == list(range(40))
                assert (await corner.state())[0] == 64
                group.start_soon(let_later, corner)
        assert (await corner.state())[1] == ["held", "closed"]
        assert await corner.ping() == "pong"


async def let_later(corner: Any) -> None:
    """Let go what the generator waits for, when it has probably been closed."""
    await anyio.sleep(0.05)
    await corner.let()


async def read_all(stream: Any, *, entered: bool) -> None:
    """Read numbers to their end."""
    expected = 0
    if entered:
        await stream.__aenter__()
    try:
        async for value in stream:
            assert value == expected
            expected += 1
    finally:
        if entered:
            await stream.__aexit__(None, None, None)


async def use(scope: anyio.CancelScope, what: int, size: int, source: Any, relay: Any) -> None:
    """Use two actors in one of several ways."""
    with scope:
        match what:
            case 0:
                await read_all(source.numbers(size), entered=True)
            case 1:
                await read_all(source.sync_numbers(size), entered=False)
            case 2:
                await read_all(relay.relay(source, "numbers", size), entered=True)
            case 3:
                async for _ in source.beside(size):
                    assert await source.ping() == "pong"


@SAME_AND_OTHER
@both_drivers
async def test_streams_calls_and_cancellations_mixed_leave_the_actor_in_order(pools: int) -> None:
    draw = random.Random(5)
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        relay = await n.create_actor(Relay)
        for _ in range(CANCELS // 10):
            scopes = [anyio.CancelScope() for _ in range(10)]
            async with anyio.create_task_group() as group:
                for scope in scopes:
                    group.start_soon(use, scope, draw.randrange(4), draw.randrange(300), source, relay)
                for _ in range(7):
                    for _ in range(draw.randrange(50)):
                        await anyio.lowlevel.checkpoint()
                    draw.choice(scopes).cancel()
        assert await source.ping() == await relay.ping() == "pong"
        await until_no_calls(source)
        assert [value async for value in relay.relay(source, "numbers", 100)] == list(range(100))


# The end of the tree


@SAME_AND_OTHER
@both_drivers
async def test_a_stream_that_waits_for_its_turn_does_not_hold_up_the_end(pools: int) -> None:
    found: list[Any] = []

    async def read(ref: Any, method: str) -> None:
        try:
            async for _ in getattr(ref, method)():
                await anyio.sleep(0.01)
        except xsc.XoscarError as exc:
            found.append(exc)
        else:
            found.append("a normal end")

    async with xsc.open_pool_nursery(), anyio.create_task_group() as group:
        async with xsc.open_pool_nursery(pools=pools, shutdown=30) as n:
            corner = await n.create_actor(Corner)
            group.start_soon(read, corner, "waits")
            while "waits" not in (await corner.state())[1]:
                await anyio.lowlevel.checkpoint()
            group.start_soon(read, corner, "numbers")
            group.start_soon(let_later, corner)
    assert [type(exc) for exc in found] == [xsc.ActorDied] * 2


@pytest.mark.parametrize("driver", ["trio", "asyncio"])
def test_a_stream_may_outlive_everything(driver: str) -> None:
    kept: list[Any] = []

    async def main() -> None:
        for pools in (0, 1):
            async with xsc.open_pool_nursery(pools=pools) as n:
                source = await n.create_actor(Source)
                for stream in (source.numbers(), source.sync_numbers()):
                    assert await anext(stream) == 0
                    kept.append(stream)
                kept.append(source.numbers())

    anyio.run(main, backend=driver)
    kept.clear()
    gc.collect()


@SAME_AND_OTHER
@both_drivers
async def test_what_is_read_of_a_dead_stream_is_what_had_come_and_then_the_error(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        found = []
        with pytest.raises(xsc.ActorDied):
            async for value in source.numbers():
                found.append(value)
                if value == 5:
                    await source.destroy()
        assert found == list(range(len(found)))
        assert 5 < len(found) <= 6 + 64


# Cancel scopes


@SAME_AND_OTHER
@both_drivers
async def test_a_scope_of_the_generator_may_end_at_a_yield(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        corner = await n.create_actor(Corner)
        async with corner.until_deadline() as stream:
            await some(stream, 3)
            await anyio.sleep(0.03)
            *before, after = [value async for value in stream]
        assert (set(before), after) == ({"before"}, "after")
        with pytest.raises(ExceptionGroup) as caught:
            async with corner.with_a_task() as stream:
                async for _ in stream:
                    await anyio.sleep(0.001)
        assert [str(exc) for exc in causes(caught.value)] == ["in the task"]
        for method in (corner.until_deadline, corner.with_a_task):
            async with method() as stream:
                await some(stream, 3)
        assert await corner.ping() == "pong"
        await until_no_calls(corner)


# Copies


@both_drivers
async def test_what_a_generator_returns_is_copied_if_that_is_wanted() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        corner = await n.create_actor(Corner)
        _, log = await corner.state()
        assert await corner.kept() is log
        copied = await corner.options(copy=True).kept()
        assert copied == log
        assert copied is not log


# Tells


@both_drivers
async def test_a_generator_that_was_told_has_no_reader_and_says_so() -> None:
    with pytest.raises(TypeError, match=r"numbers\(\) yields int"):
        async with xsc.open_pool_nursery(pools=1) as n:
            board = await n.create_actor(Board)
            corner = await n.create_actor(Corner)
            await corner.numbers.tell()
            await board.wait("nothing")
