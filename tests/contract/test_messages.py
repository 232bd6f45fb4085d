"""Every send ends in exactly one way; a tell that raises is never silent."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board, Busy, Echo
from tests.contract.driving import both_drivers, next_event, notes


class Parent(xsc.Actor):
    """Has children of its own."""

    async def tell_child_to_fail(self) -> None:
        async with xsc.open_pool_nursery(pools=1) as n:
            child = await n.create_actor(Echo, uid="child")
            await child.fail.tell(LookupError("told"))
            await anyio.sleep_forever()


class Outcomes:
    """How calls that were made side by side have ended."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.errors: dict[str, BaseException] = {}

    async def call(self, name: str, method: Any, *args: Any) -> None:
        try:
            self.values[name] = await method(*args)
        except Exception as exc:
            assert name not in self.values
            self.errors[name] = exc


@both_drivers
async def test_a_send_ends_with_the_methods_value() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        assert await echo.echo(1) == 1
        assert await echo.echo.send(value=2) == 2
        assert await echo.echo_later(3) == 3
        assert await echo.echo() is None
        assert await echo.pid() == n.pools["pool-1"].pid != os.getpid()


@both_drivers
async def test_a_send_ends_with_the_methods_own_exception() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        for method in (echo.fail, echo.fail_later):
            with pytest.raises(KeyError, match="mine"):
                await method(KeyError("mine"))
        assert await echo.echo(1) == 1


@both_drivers
async def test_a_call_to_an_actor_that_is_not_there_ends_at_once() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo, uid="echo")
        await echo.destroy()
        with pytest.raises(xsc.ActorNotExist):
            await echo.echo(1)
        with pytest.raises(xsc.ActorNotExist):
            await echo.echo.batch(echo.echo.delay(1))
        with pytest.raises(xsc.ActorNotExist):
            await echo.destroy()
        with pytest.raises(xsc.ActorNotExist):
            await echo.kill()
        assert not await echo.is_alive()
        again = await n.create_actor(Echo, uid="echo")
        assert await again.echo(1) == 1
        with pytest.raises(xsc.ActorNotExist, match="any more"):
            await echo.echo(1)


@both_drivers
async def test_a_tell_to_an_actor_that_is_not_there_is_an_event() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        events = n.events()
        echo = await n.create_actor(Echo, uid="echo")
        await echo.destroy()
        await echo.note.tell(1)
        dropped = await next_event(events, xsc.events.MessageDropped)
        assert (dropped.uid, dropped.method) == ("echo", "note")


@both_drivers
async def test_a_kill_ends_the_running_call_and_those_that_wait() -> None:
    outcomes = Outcomes()
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2", uid="busy")
        async with anyio.create_task_group() as group:
            group.start_soon(outcomes.call, "running", busy.sleep)
            await board.wait("sleep runs")
            group.start_soon(outcomes.call, "queued", busy.note, "queued")
            # What is sent behind it on the same connection is answered after it has been queued.
            assert await busy.is_alive()
            await busy.kill()
        assert not await busy.is_alive()
    assert outcomes.values == {}
    running, queued = outcomes.errors["running"], outcomes.errors["queued"]
    assert isinstance(running, xsc.ActorDied)
    assert isinstance(queued, xsc.ActorDied)
    assert (running.uid, running.cause, running.maybe_executed) == ("busy", None, True)
    assert (queued.uid, queued.cause, queued.maybe_executed) == ("busy", None, False)


@both_drivers
async def test_destroy_finishes_the_message_in_hand_and_refuses_those_that_wait() -> None:
    outcomes = Outcomes()
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        async with anyio.create_task_group() as group:
            group.start_soon(outcomes.call, "running", busy.work)
            await board.wait("work runs")
            group.start_soon(outcomes.call, "queued", busy.note, "queued")
            assert await busy.is_alive()
            group.start_soon(outcomes.call, "destroy", busy.destroy)
            while await busy.is_alive():
                pass
            await board.post("work may end")
    assert outcomes.values == {"running": "work", "destroy": None}
    queued = outcomes.errors["queued"]
    assert isinstance(queued, xsc.ActorDied)
    assert not queued.maybe_executed


@both_drivers
async def test_a_failure_of_the_actor_refuses_what_waits_and_names_its_cause() -> None:
    outcomes = Outcomes()
    with pytest.raises(LookupError, match="fail"):
        async with xsc.open_pool_nursery(pools=2) as n:
            board = await n.create_actor(Board, pool="pool-1")
            busy = await n.create_actor(Busy, board, pool="pool-2")
            await busy.fail_when_told.tell()
            await board.wait("fail runs")
            async with anyio.create_task_group() as group:
                with anyio.CancelScope(shield=True):
                    group.start_soon(outcomes.call, "queued", busy.note, "queued")
                    await busy.is_alive()
                    await board.post("fail may end")
    assert outcomes.values == {}
    if "queued" in outcomes.errors:  # else the nursery's cancel came first
        queued = outcomes.errors["queued"]
        assert isinstance(queued, xsc.ActorDied)
        assert not queued.maybe_executed
        assert queued.cause is not None
        assert "LookupError" in queued.cause


@both_drivers
async def test_a_pool_that_is_killed_ends_every_call_to_it() -> None:
    outcomes = Outcomes()
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=2) as n:
            board = await n.create_actor(Board, pool="pool-1")
            busy = await n.create_actor(Busy, board, pool="pool-2")
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as group:
                    group.start_soon(outcomes.call, "running", busy.sleep)
                    await board.wait("sleep runs")
                    group.start_soon(outcomes.call, "queued", busy.note, "queued")
                    group.start_soon(outcomes.call, "function", n.pools["pool-2"].run, signal.pause)
                    os.kill(n.pools["pool-2"].pid, signal.SIGKILL)
    assert outcomes.values == {}
    assert outcomes.errors.keys() == {"running", "queued", "function"}
    for exc in [*outcomes.errors.values(), caught.value]:
        assert isinstance(exc, xsc.PoolDied)
        assert (exc.pool, exc.signal, exc.exit_code) == ("pool-2", signal.SIGKILL, None)


@both_drivers
async def test_a_call_to_a_pool_that_has_died_ends_at_once() -> None:
    with pytest.raises(xsc.PoolDied):
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            pool = n.pools["pool-1"]
            os.kill(pool.pid, signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await pool.wait()
                with pytest.raises(xsc.PoolDied) as caught:
                    await echo.echo(1)
                assert caught.value.signal == signal.SIGKILL
                with pytest.raises(xsc.PoolDied):
                    await pool.run(os.getpid)
                assert not await echo.is_alive()


@both_drivers
async def test_a_cancelled_call_ends_with_the_cancellation_and_nothing_else() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        ended = None
        async with anyio.create_task_group() as group:

            async def call() -> None:
                nonlocal ended
                try:
                    await busy.sleep()
                except BaseException as exc:
                    ended = exc
                    raise

            group.start_soon(call)
            await board.wait("sleep runs")
            group.cancel_scope.cancel()
        assert isinstance(ended, anyio.get_cancelled_exc_class())
        # The caller left when the method had ended.
        assert "sleep was cancelled" in await board.words()
        assert await busy.has_run() == []


@both_drivers
async def test_a_call_that_is_cancelled_while_it_waits_never_runs() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        async with anyio.create_task_group() as group:
            group.start_soon(busy.work)
            await board.wait("work runs")
            async with anyio.create_task_group() as queued:
                queued.start_soon(busy.note, "queued")
                assert await busy.is_alive()
                queued.cancel_scope.cancel()
            await board.post("work may end")
        assert await busy.has_run() == ["work"]


# Tells


@both_drivers
async def test_a_tell_returns_before_the_method_has_ended() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        assert await busy.work.tell() is None
        await board.wait("work runs")
        await board.post("work may end")
        assert await busy.has_run() == ["work"]


@both_drivers
async def test_what_was_told_is_done_before_the_block_is_left() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        for word in ("one", "two", "three"):
            await busy.work.tell(word)
            await board.post(f"{word} may end")
        events = n.events()
    assert [event.exit.kind async for event in events if isinstance(event, xsc.events.ActorExited)] == [
        "normal",
        "normal",
    ]


@pytest.mark.parametrize("method", ["fail", "fail_later"])
@both_drivers
async def test_a_tell_that_raises_fails_the_nursery(method: str) -> None:
    with pytest.raises(LookupError, match="told") as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo, uid="echo")
            await getattr(echo, method).tell(LookupError("told"))
            await anyio.sleep_forever()
    assert f"tell to {method}()" in notes(caught.value)
    assert "'echo'" in notes(caught.value)


@both_drivers
async def test_a_tell_to_a_method_that_is_not_there_is_an_event_and_the_actor_goes_on() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        events = n.events()
        echo = await n.create_actor(Echo, uid="echo")
        unknown = await xsc.actor_ref(echo.address, "echo")
        await unknown.nothing_like_it.tell()
        dropped = await next_event(events, xsc.events.MessageDropped)
        assert (dropped.uid, dropped.method) == ("echo", "nothing_like_it")
        assert await echo.echo(1) == 1


@pytest.mark.parametrize("pools", [("pool-1", "pool-1"), ("pool-1", "pool-2")])
@both_drivers
async def test_a_tell_from_another_actor_that_raises_fails_the_actors_nursery(pools: tuple[str, str]) -> None:
    with pytest.raises(LookupError, match="told"):
        async with xsc.open_pool_nursery(pools=2) as n:
            teller = await n.create_actor(Echo, pool=pools[0])
            told = await n.create_actor(Echo, pool=pools[1])
            await teller.tell(told, "fail", LookupError("told"))
            await anyio.sleep_forever()


@both_drivers
async def test_a_tell_that_raises_in_this_process_fails_the_nursery() -> None:
    with pytest.raises(LookupError, match="told"):
        async with xsc.open_pool_nursery(pools=0) as n:
            echo = await n.create_actor(Echo)
            await echo.fail.tell(LookupError("told"))
            await anyio.sleep_forever()


@both_drivers
async def test_a_tell_to_a_nested_actor_that_raises_goes_up_to_whoever_waits() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        parent = await n.create_actor(Parent)
        with pytest.raises(LookupError, match="told") as caught:
            await parent.tell_child_to_fail()
        assert "tell to fail() of actor 'child'" in notes(caught.value)
        with pytest.raises(LookupError, match="told"):
            await parent.tell_child_to_fail()


@both_drivers
async def test_a_tell_while_leaving_that_raises_is_raised_by_the_nursery() -> None:
    with pytest.raises(LookupError, match="last"):
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            await echo.fail_later.tell(LookupError("last"))


# Who is there


@both_drivers
async def test_an_actor_is_found_by_its_name_from_everywhere() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Echo, uid="first", pool="pool-1")
        await n.create_actor(Echo, uid="second", pool="pool-2")
        assert await xsc.find_actor("first") == first
        assert await xsc.find_actor("nobody") is None
        for pool in ("pool-1", "pool-2"):
            assert await n.run(find_and_call, "first", pool=pool) == n.pools["pool-1"].pid
            assert await n.run(find_and_call, "second", pool=pool) == n.pools["pool-2"].pid
        with pytest.raises(xsc.ActorNotExist):
            await xsc.actor_ref(uid="nobody")
        with pytest.raises(xsc.ActorNotExist):
            await xsc.actor_ref(first.address, "nobody")
        assert await (await xsc.actor_ref(first.address, "first")).pid() == n.pools["pool-1"].pid


async def find_and_call(uid: str) -> Any:
    found = await xsc.find_actor(uid)
    assert found is not None
    return await found.pid()


@both_drivers
async def test_whoever_waits_for_an_actor_gets_it_as_soon_as_it_is_there() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        found = []

        async def wait() -> None:
            found.append(await xsc.wait_for_actor("late"))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            n.start_soon(wait_and_note, "late")
            with anyio.move_on_after(0):
                await xsc.wait_for_actor("late")
            late = await n.create_actor(Echo, uid="late", pool="pool-2")
        assert found == [late]
        while await late.notes() != ["found"]:
            pass


async def wait_and_note(uid: str) -> None:
    await (await xsc.wait_for_actor(uid)).note("found")


@both_drivers
async def test_code_knows_its_actor_and_its_pool() -> None:
    async with xsc.open_pool_nursery(pools=[xsc.PoolSpec("one", label="gpu")]) as n:
        who = await n.create_actor(Who, uid="who", pool="one")
        pool = n.pools["one"]
        uid, here = await who.am_i()
        assert uid == "who"
        assert here == xsc.CurrentPool("one", pool.address, pool.pid, ("gpu",))
        assert await pool.run(xsc.current_pool) == here
        with pytest.raises(xsc.XoscarError):
            await pool.run(xsc.current_actor)
        assert xsc.current_pool().pid == os.getpid()
        with pytest.raises(xsc.XoscarError):
            xsc.current_actor()
    with pytest.raises(xsc.XoscarError):
        xsc.current_pool()


class Who(xsc.Actor):
    async def am_i(self) -> tuple[str, xsc.CurrentPool]:
        await anyio.lowlevel.checkpoint()
        assert xsc.current_actor() is self
        assert self.ref().uid == self.uid
        return xsc.current_actor().uid, xsc.current_pool()


@both_drivers
async def test_a_deep_chain_of_calls_across_pools_comes_back() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        actors = [await n.create_actor(Relay, pool=f"pool-{i % 2 + 1}") for i in range(6)]
        assert await actors[0].relay(actors[1:], 0) == 6


class Relay(xsc.Actor):
    async def relay(self, others: list[xsc.ActorRef[Any]], depth: int) -> int:
        if not others:
            return depth + 1
        return await others[0].relay(others[1:], depth + 1)


@both_drivers
async def test_a_start_soon_of_a_call_works_as_of_any_function() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(echo.note, number)
            group.start_soon(partial(echo.echo, value=1))
        assert sorted(await echo.notes()) == [0, 1, 2, 3, 4]
