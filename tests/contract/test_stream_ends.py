"""A stream that ends before its generator does: by its actor, its pool, its reader, a deadline."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board
from tests.contract.driving import both_drivers, count, next_event
from tests.contract.streaming import Relay, Source, Stateless, some, tables, until_logged, until_no_calls

SAME_AND_OTHER = pytest.mark.parametrize("pools", [0, 1])
CANCELS = count("XSC_CONTRACT_CANCELS", 200)


class Noting(xsc.Actor):
    """Its generator leaves word of its end."""

    def __init__(self, board: Any) -> None:
        self.board = board

    async def numbers(self) -> Any:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            with anyio.CancelScope(shield=True):
                await self.board.post("closed", number)

    async def waits(self, word: str) -> Any:
        try:
            await self.board.post(f"{word} waits")
            await self.board.wait(f"{word} may go on")
            yield 1
        finally:
            with anyio.CancelScope(shield=True):
                await self.board.post(f"{word} closed")


# The actor


@pytest.mark.parametrize("how", ["destroy", "kill"])
@SAME_AND_OTHER
@both_drivers
async def test_a_reader_hears_of_the_actors_end(pools: int, how: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        board = await n.create_actor(Board)
        noting = await n.create_actor(Noting, board)
        async with noting.numbers() as stream:
            await some(stream, 3)
            await getattr(noting, how)()
            with pytest.raises(xsc.ActorDied) as caught:
                async for _ in stream:
                    pass
        assert caught.value.maybe_executed
        if how == "destroy":
            assert await board.wait("closed") > 3
        bare = noting.numbers()
        with pytest.raises(xsc.ActorNotExist):
            await anext(bare)


@SAME_AND_OTHER
@both_drivers
async def test_a_reader_that_waits_hears_of_the_actors_end(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        board = await n.create_actor(Board)
        for how in ("destroy", "kill"):
            noting = await n.create_actor(Noting, board)
            async with noting.waits(how) as stream:
                async with anyio.create_task_group() as group:
                    await board.wait(f"{how} waits")
                    group.start_soon(getattr(noting, how))
                    if how == "destroy":  # what is in hand goes on, up to the next yield
                        while await noting.is_alive():
                            await anyio.lowlevel.checkpoint()
                        await board.post(f"{how} may go on")
                    with pytest.raises(xsc.ActorDied) as caught:
                        await anext(stream)
            assert caught.value.maybe_executed
            await board.wait(f"{how} closed")


@pytest.mark.parametrize("how", ["stop", "destroy", "kill"])
@SAME_AND_OTHER
@both_drivers
async def test_a_generator_may_end_its_own_actor(pools: int, how: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source, uid="source")
        found = []
        with pytest.raises(xsc.ActorDied):
            async for value in source.ends_itself(how):
                found.append(value)
        assert found == [1]
        while await source.is_alive():
            await anyio.lowlevel.checkpoint()


@SAME_AND_OTHER
@both_drivers
async def test_the_end_of_the_nursery_ends_its_streams_and_never_normally(pools: int) -> None:
    found: list[Any] = []
    begun = anyio.Event()
    async with xsc.open_pool_nursery() as outer:
        board = await outer.create_actor(Board)
        async with anyio.create_task_group() as group:

            async def read(ref: Any) -> None:
                try:
                    async for _ in ref.numbers():
                        begun.set()
                        await anyio.sleep(0.001)
                except xsc.XoscarError as exc:
                    found.append(exc)
                else:
                    found.append("a normal end")

            async with xsc.open_pool_nursery(pools=pools) as n:
                noting = await n.create_actor(Noting, board)
                group.start_soon(read, noting)
                await begun.wait()
        assert await board.wait("closed") > 0
    assert [type(each) for each in found] in ([xsc.ActorDied], [xsc.PoolDied])


# The pool


@both_drivers
async def test_a_reader_hears_of_the_death_of_the_pool_at_once() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        source = await n.create_actor(Source, pool="pool-1")
        stream = source.waits(1)
        assert await anext(stream) == 0
        await until_logged(source, "waits")
        reader = await n.create_actor(Source, pool="pool-2")
        async with anyio.create_task_group() as group:

            async def read_elsewhere() -> None:
                with pytest.raises(xsc.PoolDied):
                    await reader.read(source, "beside", 10**9)

            group.start_soon(read_elsewhere)
            n.pools["pool-1"].kill()
            with pytest.raises(xsc.PoolDied) as caught:
                await anext(stream)
        assert caught.value.signal == signal.SIGKILL
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert not any(map(any, tables()))


@both_drivers
async def test_leaving_a_stream_whose_pool_has_died_raises_nothing_more() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        source = await n.create_actor(Source)
        async with source.numbers() as stream:
            await some(stream, 3)
            n.pools["pool-1"].kill()
            await n.pools["pool-1"].wait()
        stream = source.numbers()
        with pytest.raises(xsc.PoolDied):
            await anext(stream)


@both_drivers
async def test_a_generator_is_closed_when_its_readers_process_dies() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board)
        noting = await n.create_actor(Noting, board, pool="pool-1")
        waiting = await n.create_actor(Source, pool="pool-1")
        reader = await n.create_actor(Source, pool="pool-2")
        other = await n.create_actor(Source, pool="pool-2")
        async with anyio.create_task_group() as group:

            async def read(ref: Any, *args: Any) -> None:
                with pytest.raises(xsc.PoolDied):
                    await ref.read_some(*args)

            group.start_soon(read, reader, noting, "numbers", 5)
            group.start_soon(read, other, waiting, "closes_when_let", 5)
            await until_logged(reader, 0, 1, 2, 3, 4)
            await until_logged(other, 1, 1, 1, 1, 1)
            n.pools["pool-2"].kill()
        assert await board.wait("closed") > 5
        await until_logged(waiting, "closing")
        await waiting.let()
        await until_logged(waiting, "closing", "closed")
        await until_no_calls(waiting)


@both_drivers
async def test_an_end_that_has_begun_is_not_cut_short_by_the_death_of_the_reader() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        source = await n.create_actor(Source, pool="pool-1")
        reader = await n.create_actor(Source, pool="pool-2")
        async with anyio.create_task_group() as group:

            async def read() -> None:
                with pytest.raises(xsc.PoolDied):
                    await reader.read_some(source, "closes_when_let", 3)

            group.start_soon(read)
            await until_logged(reader, 1, 1, 1)
            await reader.let()
            await until_logged(source, "closing")
            n.pools["pool-2"].kill()
            await n.pools["pool-2"].wait()
        await source.let()
        await until_logged(source, "closing", "closed")


@both_drivers
async def test_a_producer_that_does_not_answer_is_left_after_the_grace() -> None:
    async with xsc.open_pool_nursery(pools=1, timeouts=xsc.Timeouts(cancel=0.2, shutdown=0.3)) as n:
        events = n.events()
        pid = n.pools["pool-1"].pid
        source = await n.create_actor(Source, uid="source")
        for entered in (True, False):
            stream = source.waits(1)
            if entered:
                await stream.__aenter__()
            assert await anext(stream) == 0
            os.kill(pid, signal.SIGSTOP)
            try:
                with anyio.fail_after(10):
                    with anyio.move_on_after(0.05) as scope:
                        await anext(stream)
                    assert scope.cancelled_caught
                    await stream.aclose()
            finally:
                os.kill(pid, signal.SIGCONT)
            event = await next_event(events, xsc.events.CancelUnconfirmed)
            assert (event.uid, event.method, event.seconds) == ("source", "waits", 0.2)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            assert await source.ping() == "pong"
            await until_no_calls(source)


# The reader


@SAME_AND_OTHER
@both_drivers
async def test_a_reader_may_be_cancelled_anywhere_and_nothing_is_left(pools: int) -> None:
    draw = random.Random(11)
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        begun = ended = 0

        async def read(stream: Any, entered: bool) -> None:
            nonlocal ended
            expected = 0
            if entered:
                async with stream:
                    async for value in stream:
                        assert value == expected
                        expected += 1
            else:
                async for value in stream:
                    assert value == expected
                    expected += 1
            ended += 1

        for number in range(CANCELS):
            method = draw.choice(["numbers", "sync_numbers", "beside"])
            stream = getattr(source, method)(draw.choice([0, 3, 100, 10_000]))
            begun += 1
            async with anyio.create_task_group() as group:
                group.start_soon(read, stream, number % 2 == 0)
                if draw.random() < 0.5:
                    for _ in range(draw.randrange(60)):
                        await anyio.lowlevel.checkpoint()
                else:
                    await anyio.sleep(draw.random() * 0.01)
                group.cancel_scope.cancel()
        assert ended < begun
        assert await source.ping() == "pong"
        await until_no_calls(source)
        assert [value async for value in source.numbers(100)] == list(range(100))


@SAME_AND_OTHER
@both_drivers
async def test_the_end_of_a_generator_that_was_left_has_a_bound(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools, timeouts=xsc.Timeouts(cancel=0.1)) as n:
        source = await n.create_actor(Source)
        async with source.does_not_wait_to_close() as stream:
            await some(stream, 2)
        await until_logged(source, "cut off")
        for _ in range(20):  # whoever runs there next has its own time
            assert await source.ping() == "pong"
        await until_no_calls(source)


@SAME_AND_OTHER
@both_drivers
async def test_what_a_generator_raises_while_it_is_left_is_raised_where_it_is_waited_for(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        with pytest.raises(LookupError, match="at the end"):
            async with source.fails_while_it_is_closed() as stream:
                await some(stream, 2)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            async with source.yields_while_it_is_closed() as stream:
                await some(stream, 2)
        stream = source.fails_while_it_is_closed()
        await some(stream, 2)
        with pytest.raises(LookupError, match="at the end"):
            await stream.aclose()
        await stream.aclose()
        async for _ in source.fails_while_it_is_closed():
            break  # nobody waits, and nobody hears
        del stream
        assert await source.ping() == "pong"
        await until_no_calls(source)


@SAME_AND_OTHER
@both_drivers
async def test_the_deadline_of_the_reader_is_the_generators(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        source = await n.create_actor(Source)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.05):
                async for _ in source.waits(3):
                    pass
        await until_logged(source, "waits", "cancelled", "closed")
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.05):
                async with source.waits(1) as stream:
                    async for _ in stream:
                        pass
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.05):
                async for _ in source.numbers():
                    await anyio.sleep(0.001)
        async with source.numbers() as stream:
            with anyio.move_on_after(0.05):
                while True:
                    value = await anext(stream)
            assert await anext(stream) == value + 1
        await until_no_calls(source)
        assert await source.ping() == "pong"


# Several actors


@both_drivers
async def test_a_stream_through_three_actors_is_left_by_all() -> None:
    async with xsc.open_pool_nursery(pools=3) as n:
        hops = [await n.create_actor(Relay, pool=f"pool-{number}") for number in (1, 2, 3)]
        first, second, third = hops
        for method in ("relay", "relay_closing"):
            async with getattr(first, method)(second, method, third, "numbers") as stream:
                assert await some(stream, 10) == list(range(10))
        assert (await third.state())[1] == ["closed"] * 2
        assert (await first.state())[1] == (await second.state())[1] == ["closed"]
        assert (await third.state())[0] <= 2 * (10 + 4 * 65)
        assert len([value async for value in first.relay(second, "relay", third, "numbers", 1000)]) == 1000
        for hop in hops:
            assert await hop.ping() == "pong"
            await until_no_calls(hop)


@pytest.mark.parametrize("pools", [["pool-1", "pool-1"], ["pool-1", "pool-2"]])
@both_drivers
async def test_a_generator_that_waits_for_its_own_reader_is_told_so(pools: list[str]) -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        reader = await n.create_actor(Source, uid="reader", pool=pools[0])
        source = await n.create_actor(Source, uid="source", pool=pools[1])
        with pytest.raises(xsc.DeadlockError) as caught:
            await reader.read(source, "call_for_each", reader, "ping")
        assert [uid for uid, _ in caught.value.cycle] == ["reader", "source", "reader"]
        with pytest.raises(xsc.DeadlockError):
            await reader.read(reader, "numbers", 3)
        assert await reader.ping() == await source.ping() == "pong"
        other = await n.create_actor(Stateless)
        assert [value async for value in source.call_for_each(reader, "ping")] == ["pong"] * 3
        assert await reader.read(other, "numbers", 5) == list(range(5))
