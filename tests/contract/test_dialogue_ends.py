"""The law of dialogues: when a block has been left, the other side has ended; and why is known."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract import dialogues as d
from tests.contract.dialogues import PLACES, Mine, Talker, kinds, place
from tests.contract.driving import both_drivers, causes, count, next_event, program
from tests.contract.streaming import tables
from xoscar_sc.events import CancelUnconfirmed
from xoscar_sc.runtime.current import running_runtime

IN_POOL = pytest.mark.parametrize("where", ["function", "actor"])


# Errors


@PLACES
@both_drivers
async def test_an_error_of_the_callee_ends_the_block_and_is_raised_from_it(where: str) -> None:
    async with place(where) as p:
        ended = []
        with pytest.raises(Mine, match="callee") as caught:
            async with p.open(d.fails, p.board) as (_, _):
                try:
                    await p.board.post("fail")
                    await anyio.sleep_forever()
                finally:
                    ended.append("body")
        assert ended == ["body"]
        assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(Mine, match="callee") as caught:
            async with p.open(d.fails, start=False):
                pytest.fail("the block was entered")
        assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(Mine, match="callee"):
            async with p.open(d.fails) as (ctx, _):
                await ctx.result()
        async with p.open(d.waits) as (ctx, _):
            await ctx.cancel()
        with pytest.raises(xsc.ContextCancelled):
            await ctx.result()
        await p.check_clean()


@PLACES
@both_drivers
async def test_both_sides_may_fail(where: str) -> None:
    async with place(where) as p:
        with pytest.raises(ExceptionGroup) as caught:
            async with p.open(d.fails_when_cancelled):
                raise LookupError("opener")
        assert kinds(caught.value) == {"LookupError", "Mine"}
        with pytest.raises(ExceptionGroup) as caught:
            async with p.open(d.fails, p.board):
                try:
                    await p.board.post("fail")
                    await anyio.sleep_forever()
                finally:
                    raise LookupError("opener")
        assert kinds(caught.value) == {"LookupError", "Mine"}
        with pytest.raises(Mine):  # as a call that raises while it is being cancelled
            with anyio.CancelScope() as scope:
                async with p.open(d.fails_when_cancelled):
                    scope.cancel()
                    await anyio.sleep_forever()
        await p.check_clean()


@PLACES
@both_drivers
async def test_an_error_of_the_callee_is_raised_although_the_body_swallows_its_cancellation(
    where: str,
) -> None:
    async with place(where) as p:
        with pytest.raises(Mine):
            async with p.open(d.fails, p.board):
                await p.board.post("fail")
                try:
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class():
                    pass
        await p.check_clean()


# Cancelling


@PLACES
@both_drivers
async def test_a_block_that_is_left_early_has_ended_the_callee(where: str) -> None:
    async with place(where) as p:
        with pytest.raises(LookupError):
            async with p.open(d.waits, p.board, linger=0.05):
                raise LookupError
        assert "ended" in await p.board.words()
        with anyio.CancelScope() as scope:
            async with p.open(d.waits, p.board, linger=0.05):
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        await p.check_clean()


@PLACES
@both_drivers
async def test_an_opener_that_waits_for_started_is_cancelled(where: str) -> None:
    async with place(where) as p:
        async with anyio.create_task_group() as group:

            async def opens() -> None:
                async with p.open(d.waits, p.board, start=False):
                    pytest.fail("the block was entered")

            group.start_soon(opens)
            await p.board.wait("runs")
            group.cancel_scope.cancel()
        assert "ended" in await p.board.words()
        await p.check_clean()


@PLACES
@both_drivers
async def test_the_opener_cancels(where: str) -> None:
    async with place(where) as p:
        async with p.open(d.waits, p.board, linger=0.05) as (ctx, _):
            await ctx.cancel()
            await ctx.cancel()
            with pytest.raises(xsc.ContextCancelled) as caught:
                await ctx.result()
            assert caught.value.canceller == running_runtime().address  # type: ignore[union-attr]
            assert "ended" in await p.board.words()
        with pytest.raises(xsc.ContextCancelled):
            async with p.open(d.waits) as (ctx, _):
                await ctx.cancel()
                await ctx.result()
        with pytest.raises(Mine):  # which is not what was asked for
            async with p.open(d.fails_when_cancelled) as (ctx, _):
                await ctx.cancel()
                await anyio.sleep_forever()
        await p.check_clean()


@PLACES
@pytest.mark.parametrize("start", [True, False])
@both_drivers
async def test_the_callee_cancels_and_has_ended_when_the_opener_hears_of_it(where: str, start: bool) -> None:
    async with place(where) as p:
        with pytest.raises(xsc.ContextCancelled) as caught:
            async with p.open(d.cancels, p.board, start=start):
                await anyio.sleep_forever()
        assert "ended" in await p.board.words()
        assert caught.value.canceller.startswith(p.callee)
        assert caught.value.canceller != p.callee or where != "function"
        await p.check_clean()


@PLACES
@both_drivers
async def test_a_deadline_travels_and_is_that_of_the_opener(where: str) -> None:
    async with place(where) as p:
        for _ in range(5):
            with anyio.move_on_after(0.03) as scope:
                async with p.open(d.waits, p.board, linger=0.01):
                    await anyio.sleep_forever()
            assert scope.cancelled_caught
        with pytest.raises(TimeoutError, match="deadline"):
            with anyio.move_on_after(0.03) as scope:
                async with p.open(d.waits):
                    scope.deadline += 100
                    await anyio.sleep_forever()
        await p.check_clean()


@PLACES
@both_drivers
async def test_a_callee_that_does_not_end_is_left_in_the_end(where: str) -> None:
    async with place(where, timeouts=xsc.Timeouts(cancel=0.1)) as p:
        events = p.n.events()
        with pytest.raises(LookupError):
            async with p.open(d.refuses, p.board) as (ctx, _):
                raise LookupError
        event = await next_event(events, CancelUnconfirmed)
        assert event.address == p.ref.address
        with pytest.raises(xsc.ContextCancelled):
            await ctx.result()
        await p.board.post("may end")
        async with p.open(d.refuses, p.board) as (ctx, _):
            await ctx.cancel()
            assert await ctx.result() == "at last"
        await p.check_clean()


async def speak(p: d.Place, function: Any, cancel_at: int | None) -> None:
    """A short dialogue, that the opener cancels at some turn, if at all."""
    async with p.open(function) as (ctx, _):
        async with ctx.open_stream(window=3) as stream:
            for turn in range(10):
                await stream.send(turn)
                assert await stream.receive() == turn
                if turn == cancel_at:
                    await ctx.cancel()
        if cancel_at is None:
            assert await ctx.result() == 10


@PLACES
@both_drivers
async def test_an_opener_is_cancelled_at_any_moment(where: str) -> None:
    chance = random.Random(where)
    async with place(where) as p:
        ended = 0
        await speak(p, d.echoes, None)
        start = anyio.current_time()
        await speak(p, d.echoes, None)
        usual = anyio.current_time() - start
        for _ in range(count("XSC_DIALOGUES", 200)):
            async with anyio.create_task_group() as group:

                async def cancel(group: Any = group) -> None:
                    await anyio.sleep(chance.random() * usual * 1.5)
                    group.cancel_scope.cancel()

                group.start_soon(cancel)
                await speak(p, d.echoes, None)
                group.cancel_scope.cancel()
                ended += 1
        assert 0 < ended < count("XSC_DIALOGUES", 200)
        await p.check_clean()


@PLACES
@both_drivers
async def test_either_side_cancels_at_any_turn(where: str) -> None:
    chance = random.Random(where)
    async with place(where) as p:
        for _ in range(count("XSC_DIALOGUES", 200)):
            turn = chance.randrange(12)
            with contextlib.suppress(xsc.ContextCancelled, anyio.EndOfStream, anyio.BrokenResourceError):
                if chance.random() < 0.5:
                    await speak(p, d.echoes, turn)
                else:
                    await speak(p, d.cancels, None)
        await p.check_clean()


@IN_POOL
def test_a_native_cancellation_of_asyncio_that_comes_twice(where: str) -> None:
    async def main() -> None:
        async with place(where) as p:
            entered = asyncio.Event()

            async def opens() -> None:
                async with p.open(d.waits, p.board, linger=0.1):
                    entered.set()
                    await anyio.sleep_forever()

            for times in (1, 2, 3):
                entered.clear()
                task = asyncio.create_task(opens())
                await entered.wait()
                for _ in range(times):
                    task.cancel()
                    await asyncio.sleep(0.01)
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert "ended" in await p.board.words()
                await p.check_clean()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await opens()
            await p.check_clean()

    asyncio.run(asyncio.wait_for(main(), 60))


# Nested


@both_drivers
@pytest.mark.parametrize("leaf", ["waits", "cancels", "fails"])
async def test_three_deep_and_ended_from_the_top_or_from_the_bottom(leaf: str) -> None:
    async with place("function") as p:
        if leaf == "waits":
            with anyio.CancelScope() as scope:
                async with p.open(d.nests, p.board, 2, leaf):
                    scope.cancel()
                    await anyio.sleep_forever()
            assert scope.cancelled_caught
        else:
            await p.board.post("fail")
            with pytest.raises(BaseException) as caught:  # noqa: PT011 - a nursery wraps what comes through it
                async with p.open(d.nests, p.board, 2, leaf):
                    await anyio.sleep_forever()
            (cause,) = causes(caught.value)
            if leaf == "fails":
                assert isinstance(cause, Mine)
            else:
                assert isinstance(cause, xsc.ContextCancelled)
                assert "nests" in cause.canceller
        assert {f"depth {each} ended" for each in range(3)} <= set(await p.board.words())
        await p.check_clean()


# Deaths


@IN_POOL
@both_drivers
async def test_the_callees_pool_dies(where: str) -> None:
    found: list[BaseException] = []
    with pytest.raises((BaseExceptionGroup, xsc.PoolDied)):
        async with place(where) as p:
            assert p.pool is not None
            try:
                async with p.open(d.echoes) as (ctx, _), ctx.open_stream() as stream:
                    os.kill(p.pool.pid, signal.SIGKILL)
                    async for _ in stream:
                        pytest.fail("nothing was sent")
                    pytest.fail("a death is no end of the stream")
            except BaseException as exc:
                found += causes(exc)
                raise
    assert {type(each).__name__ for each in found} <= {"PoolDied", "Cancelled", "CancelledError"}


@IN_POOL
@both_drivers
async def test_a_pool_that_is_killed_on_purpose_is_known_to_be_dead_at_once(where: str) -> None:
    async with place(where) as p:
        assert p.pool is not None
        with anyio.fail_after(5):
            with pytest.raises(xsc.PoolDied):
                async with p.open(d.waits):
                    p.pool.kill()
                    await anyio.sleep_forever()
            with pytest.raises((xsc.PoolDied, xsc.ConnectionLost)):
                async with p.open(d.gives):
                    pytest.fail("the block was entered")


@pytest.mark.parametrize("how", ["destroy", "kill"])
@pytest.mark.parametrize("where", ["actor", "same process"])
@both_drivers
async def test_the_callee_is_an_actor_that_ends(where: str, how: str) -> None:
    async with place(where) as p:
        with pytest.raises(xsc.ActorDied):
            async with p.open(d.waits, p.board, linger=0.05):
                async with anyio.create_task_group() as group:
                    group.start_soon(getattr(p.ref, how))
                    await anyio.sleep_forever()
        assert "ended" in await p.board.words()


@both_drivers
async def test_the_callees_pool_is_stopped() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(d.Board, uid="board", pool="pool-1")
        ref = await n.create_actor(Talker, uid="talker", pool="pool-2")
        with pytest.raises(xsc.ActorDied):
            async with ref.run.open_context("waits", board):
                async with anyio.create_task_group() as group:
                    group.start_soon(n.pools["pool-2"].stop)
                    await anyio.sleep_forever()
        assert "ended" in await board.words()


@pytest.mark.parametrize("how", ["destroy", "kill", "kill pool"])
@pytest.mark.parametrize("method", ["open_and_wait", "open_in_nursery"])
@both_drivers
async def test_the_opener_dies_and_the_callee_is_cancelled(how: str, method: str) -> None:
    if (how, method) == ("destroy", "open_and_wait"):
        return  # that waits for the message in hand
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(d.Board, uid="board", pool="pool-1")
        callee = await n.create_actor(Talker, uid="callee", pool="pool-1")
        opener = await n.create_actor(Talker, uid="opener", pool="pool-2")
        async with anyio.create_task_group() as group:

            async def opens() -> None:
                with contextlib.suppress(xsc.ActorDied, xsc.PoolDied):
                    await getattr(opener, method)(callee, board)

            group.start_soon(opens)
            await board.wait("open")
            if how == "kill pool":
                n.pools["pool-2"].kill()
            else:
                await getattr(opener, how)()
        await board.wait("ended")
        while sum(map(sum, await callee.tables())) > 1:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        assert await callee.ping() == "pong"


@both_drivers
async def test_a_callee_that_minds_no_cancellation_hears_of_the_openers_death() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(d.Board, uid="board", pool="pool-1")
        callee = await n.create_actor(Talker, uid="callee", pool="pool-1")
        opener = await n.create_actor(Talker, uid="opener", pool="pool-2")
        async with anyio.create_task_group() as group:

            async def opens() -> None:
                with pytest.raises(xsc.PoolDied):
                    await opener.open_hearing(callee, board)

            group.start_soon(opens)
            await board.wait("waits")
            n.pools["pool-2"].kill()
        assert await board.wait("heard") == "ConnectionLost"


@PLACES
@both_drivers
async def test_a_stream_that_is_left_by_an_error_has_not_ended_unless_the_opener_goes_on(where: str) -> None:
    async with place(where, timeouts=xsc.Timeouts(cancel=0.1)) as p:
        with pytest.raises(LookupError):
            async with p.open(d.hears_the_end, p.board) as (ctx, _), ctx.open_stream():
                await p.board.wait("waits")
                raise LookupError
        assert "heard" not in await p.board.words() or await p.board.wait("heard") != "EndOfStream"
    async with place(where) as p:
        async with p.open(d.hears_the_end, p.board) as (ctx, _):
            with pytest.raises(LookupError):
                async with ctx.open_stream():
                    raise LookupError
        assert await p.board.wait("heard") == "EndOfStream"


@both_drivers
async def test_a_nursery_is_left_while_one_of_its_actors_has_a_dialogue_open() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(d.Board, uid="board", pool="pool-1")
        callee = await n.create_actor(Talker, uid="callee", pool="pool-1")
        opener = await n.create_actor(Talker, uid="opener", pool="pool-2")
        await opener.open_in_nursery(callee, board)
        await board.wait("open")
        assert not any(map(any, tables()))


@IN_POOL
@both_drivers
async def test_the_callees_pool_stands_still_while_the_opener_is_cancelled(where: str) -> None:
    async with place(where, timeouts=xsc.Timeouts(cancel=0.2)) as p:
        assert p.pool is not None
        events = p.n.events()
        with anyio.CancelScope() as scope:
            async with p.open(d.echoes) as (ctx, _), ctx.open_stream() as stream:
                os.kill(p.pool.pid, signal.SIGSTOP)
                await stream.send(1)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert not any(map(any, tables()))
        os.kill(p.pool.pid, signal.SIGCONT)
        await next_event(events, CancelUnconfirmed)
        await p.check_clean()


@both_drivers
async def test_a_peer_that_says_nonsense_is_cut_off_at_worst() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        one = await n.create_actor(Talker, uid="one", pool="pool-1")
        other = await n.create_actor(Talker, uid="other", pool="pool-2")
        assert await one.say_nonsense(other) == ["pong", 1, "ConnectionLost", "pong", "result"]
        for each in (one, other):
            while sum(map(sum, await each.tables())) > 1:  # noqa: ASYNC110
                await anyio.sleep(0.001)


@pytest.mark.parametrize("driver", ["trio", "asyncio"])
def test_ctrl_c_in_the_body(tmp_path: Path, driver: str) -> None:
    source = f"""
        import os, sys, anyio
        import xoscar_sc as xsc

        @xsc.context
        async def waits(ctx):
            await ctx.started()
            try:
                await anyio.sleep_forever()
            finally:
                print("the callee has ended", flush=True)

        async def main():
            async with xsc.open_pool_nursery(pools=1) as n:
                async with n.pools["pool-1"].open_context(waits):
                    try:
                        print("open", flush=True)
                        await anyio.sleep_forever()
                    finally:
                        print("the body has ended", flush=True)

        if __name__ == "__main__":
            try:
                anyio.run(main, backend={driver!r})
            except BaseException as exc:
                while isinstance(exc, BaseExceptionGroup):
                    exc, = exc.exceptions
                print(type(exc).__name__, flush=True)
    """
    with program(tmp_path, source) as running:
        running.expect("open")
        running.signal(signal.SIGINT)
        assert sorted(running.lines(2)) == ["the body has ended", "the callee has ended"]
        running.expect("KeyboardInterrupt")
        assert running.wait() == 0
