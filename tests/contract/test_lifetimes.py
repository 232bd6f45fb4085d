"""Everything belongs to a block, and is gone when the block has been left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

import xoscar_sc as xsc
from tests.contract.actors import ENDS, Board, Busy, Echo, Unruly, end_process
from tests.contract.driving import both_drivers, causes, count, is_gone, next_event, until
from tests.leaks import look

CYCLES = count("XSC_CONTRACT_CYCLES", 20)


class Mine(Exception):
    """Not to be mistaken for another."""


def spin(mark: Path) -> None:
    mark.touch()
    while True:
        pass


# Whichever way the block is left


WAYS = ["normally", "by an error", "by a cancel", "by the nursery's own cancel", "by a time-out", "by Ctrl-C"]


@pytest.mark.parametrize("way", WAYS)
@both_drivers
async def test_nothing_is_left_whichever_way_the_block_is_left(way: str) -> None:
    pids: list[int] = []

    async def block() -> None:
        async with xsc.open_pool_nursery(pools=2) as n:
            board = await n.create_actor(Board, pool="pool-1")
            busy = await n.create_actor(Busy, board, pool="pool-2")
            pids.extend(pool.pid for pool in n.pools.values())
            pids.append(await n.run(start_sleeping_process, pool="pool-1"))
            if way == "normally":
                return
            n.start_soon(trio.sleep_forever, pool="pool-1")
            await busy.sleep.tell()
            await board.wait("sleep runs")
            if way == "by an error":
                raise Mine
            if way == "by the nursery's own cancel":
                n.cancel_scope.cancel()
            if way == "by a cancel":
                scope.cancel()
            if way == "by Ctrl-C":
                raise KeyboardInterrupt
            await anyio.sleep_forever()

    with anyio.move_on_after(1 if way == "by a time-out" else 1000) as scope:
        if way == "by an error":
            with pytest.raises(Mine):
                await block()
        elif way == "by Ctrl-C":
            with pytest.raises(KeyboardInterrupt):
                await block()
        else:
            await block()
    assert scope.cancelled_caught == (way in {"by a cancel", "by a time-out"})
    assert all(map(is_gone, pids))


def start_sleeping_process() -> int:
    return subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"]).pid


@both_drivers
async def test_a_pool_that_does_not_listen_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(Mine):
        async with xsc.open_pool_nursery(pools=2, shutdown=0.2) as n:
            events = n.events()
            n.start_soon(spin, tmp_path / "spins", pool="pool-1")
            await until((tmp_path / "spins").exists)
            pid = n.pools["pool-1"].pid
            raise Mine
    assert is_gone(pid)
    exits = {event.pool: event.exit async for event in events if isinstance(event, xsc.events.PoolExited)}
    assert exits["pool-1"].signal == signal.SIGKILL
    assert exits["pool-2"].exit_code == 0


@both_drivers
async def test_a_stopped_pool_is_killed() -> None:
    with pytest.raises(Mine):
        async with xsc.open_pool_nursery(pools=1, shutdown=0.2) as n:
            events = n.events()
            pid = n.pools["pool-1"].pid
            os.kill(pid, signal.SIGSTOP)
            raise Mine
    assert is_gone(pid)
    assert [event.exit.signal async for event in events if isinstance(event, xsc.events.PoolExited)] == [9]


@both_drivers
async def test_a_pool_that_was_stopped_is_killed_also_when_the_block_is_left_normally() -> None:
    async with xsc.open_pool_nursery(pools=1, shutdown=0.2) as n:
        pid = n.pools["pool-1"].pid
        os.kill(pid, signal.SIGSTOP)
    assert is_gone(pid)


@both_drivers
async def test_opening_and_closing_again_and_again_leaves_nothing() -> None:
    before = None
    for _ in range(CYCLES):
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            assert await echo.echo(1) == 1
        # What is made once and kept is made by the first.
        before = before or look()
    assert before is not None
    assert look().keys() == before.keys()


@both_drivers
async def test_a_nursery_with_no_pool_starts_no_process() -> None:
    before = look()
    async with xsc.open_pool_nursery() as n:
        assert not n.pools
    async with xsc.open_pool_nursery(pools=0) as n:
        echo = await n.create_actor(Echo)
        assert await echo.pid() == os.getpid()
        assert {kind for kind, _ in look().keys() - before.keys()} <= {"descriptor"}


@both_drivers
async def test_pools_start_when_they_are_needed_up_to_one_for_each_cpu() -> None:
    cpus = len(os.sched_getaffinity(0))
    async with xsc.open_pool_nursery() as n:
        for number in range(cpus + 2):
            await n.create_actor(Echo)
            assert len(n.pools) == min(number + 1, cpus)


@both_drivers
async def test_the_block_is_left_when_its_functions_have_returned() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        n.start_soon(post_later, board, pool="pool-2")
        task = await n.run_in_pool(post_later, board)
        assert task.pool.name in n.pools
    assert await task.result() == "posted"


async def post_later(board: xsc.ActorRef[Board]) -> str:
    await trio.lowlevel.checkpoint()
    await board.post("posted")
    return "posted"


# The order of ends


class Ordered(xsc.Actor):
    """Tells in which order things end."""

    def __init__(self, board: xsc.ActorRef[Any], fails: bool = False) -> None:
        self.board = board
        self.fails = fails

    async def __pre_destroy__(self) -> None:
        await self.board.note(self.uid)
        if self.fails:
            raise Mine(self.uid)

    async def sleep(self) -> None:
        await trio.sleep_forever()


@both_drivers
async def test_actors_end_newest_first() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        events = n.events()
        echo = await n.create_actor(Echo, uid="0", pool="pool-1")
        for uid in ("1", "2", "3", "4"):
            await n.create_actor(Ordered, echo, uid=uid, pool=f"pool-{int(uid) % 2 + 1}")
    ended = [event.uid async for event in events if isinstance(event, xsc.events.ActorExited)]
    assert ended == ["4", "3", "2", "1", "0"]


@both_drivers
async def test_pools_end_newest_first() -> None:
    async with xsc.open_pool_nursery() as n:
        events = n.events()
        for name in ("a", "b", "c"):
            await n.start_pool(name)
    ended = [event async for event in events if isinstance(event, xsc.events.PoolExited)]
    assert [event.pool for event in ended] == ["c", "b", "a"]
    assert all(event.exit == xsc.Exit("normal", exit_code=0) for event in ended)


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_an_error_of_pre_destroy_is_raised_when_all_else_has_ended(pools: int) -> None:
    with pytest.raises(Mine, match="bad") as caught:
        async with xsc.open_pool_nursery(pools=pools) as n:
            events = n.events()
            echo = await n.create_actor(Echo, uid="echo")
            await n.create_actor(Ordered, echo, uid="good")
            await n.create_actor(Ordered, echo, True, uid="bad")
            await n.create_actor(Ordered, echo, uid="newest")
    ended = [event.uid async for event in events if isinstance(event, xsc.events.ActorExited)]
    assert ended == ["newest", "bad", "good", "echo"]
    assert pools == 0 or "'bad'" in "".join(caught.value.__notes__)


@both_drivers
async def test_several_errors_of_pre_destroy_are_a_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            await n.create_actor(Ordered, echo, True, uid="one")
            await n.create_actor(Ordered, echo, True, uid="two")
    assert sorted(str(exc) for exc in causes(caught.value)) == ["one", "two"]


@both_drivers
async def test_an_error_of_pre_destroy_goes_to_whoever_destroys() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        bad = await n.create_actor(Ordered, echo, True, uid="bad")
        with pytest.raises(Mine, match="bad"):
            await bad.destroy()
        assert not await bad.is_alive()
        await n.create_actor(Echo, uid="bad")


@both_drivers
async def test_pre_destroy_runs_when_the_block_is_left_by_an_error() -> None:
    with pytest.raises(Mine, match=r"^body$"):
        async with xsc.open_pool_nursery(pools=1) as n:
            events = n.events()
            echo = await n.create_actor(Echo, uid="echo")
            ordered = await n.create_actor(Ordered, echo, uid="ordered")
            await ordered.sleep.tell()
            raise Mine("body")
    ended = [event async for event in events if isinstance(event, xsc.events.ActorExited)]
    assert [(event.uid, event.exit.kind) for event in ended] == [
        ("ordered", "cancelled"),
        ("echo", "cancelled"),
    ]


@both_drivers
async def test_a_kill_leaves_the_hooks_out() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        events = n.events()
        echo = await n.create_actor(Echo)
        bad = await n.create_actor(Ordered, echo, True, uid="bad")
        await bad.kill()
        assert await echo.notes() == []
        assert (await next_event(events, xsc.events.ActorExited)).exit.kind == "killed"


# Actors


class Owner(xsc.Actor):
    """Owns a task, and a thing that has to be closed."""

    def __init__(self, board: xsc.ActorRef[Board]) -> None:
        self.board = board

    async def __post_create__(self) -> None:
        self.nursery.start_soon(self._run)
        await self.exit_stack.enter_async_context(self._thing())

    @asynccontextmanager
    async def _thing(self) -> Any:
        await self.board.post("opened")
        yield
        await self.board.post("closed")

    async def _run(self) -> None:
        await self.board.post("task runs")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await self.board.post("task ended")

    async def fail_in_a_task(self) -> None:
        async def fail() -> None:
            raise Mine("in a task")

        self.nursery.start_soon(fail)

    async def end(self) -> str:
        await self.stop()
        return "stopping"

    async def __pre_destroy__(self) -> None:
        await self.board.post("pre_destroy")


@both_drivers
async def test_what_an_actor_owns_ends_with_it() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        owner = await n.create_actor(Owner, board, pool="pool-2")
        await board.wait("task runs")
        await owner.destroy()
        words = await board.words()
        assert sorted(words) == ["closed", "opened", "pre_destroy", "task ended", "task runs"]
        assert words.index("pre_destroy") == 2


@both_drivers
async def test_a_task_of_an_actor_that_fails_is_the_actors_failure() -> None:
    with pytest.raises(Mine, match="in a task"):
        async with xsc.open_pool_nursery(pools=2) as n:
            events = n.events()
            board = await n.create_actor(Board, pool="pool-1")
            owner = await n.create_actor(Owner, board, pool="pool-2", uid="owner")
            await owner.fail_in_a_task()
            await anyio.sleep_forever()
    exits = {event.uid: event.exit async for event in events if isinstance(event, xsc.events.ActorExited)}
    assert exits["owner"].kind == "failed"
    assert isinstance(exits["owner"].error, Mine)


@both_drivers
async def test_an_actor_that_stops_itself_has_ended_normally() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        events = n.events()
        board = await n.create_actor(Board, pool="pool-1")
        owner = await n.create_actor(Owner, board, pool="pool-2", uid="owner")
        assert await owner.end() == "stopping"
        exited = await next_event(events, xsc.events.ActorExited)
        assert (exited.uid, exited.exit.kind) == ("owner", "normal")
        assert {"pre_destroy", "task ended", "closed"} <= set(await board.words())
        assert "owner" not in n.actors


class Nesting(xsc.Actor):
    """Keeps a nursery of its own for as long as it lives."""

    async def __post_create__(self) -> None:
        self.pools = await self.exit_stack.enter_async_context(xsc.open_pool_nursery(pools=1))
        self.child = await self.pools.create_actor(Echo)

    async def child_pid(self) -> int:
        return await self.child.pid()

    async def end_child(self, how: str) -> None:
        child = await self.pools.create_actor(Unruly)
        await child.end.tell(how)


@both_drivers
async def test_an_actor_may_keep_a_nursery_for_as_long_as_it_lives() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        nesting = await n.create_actor(Nesting)
        pid = await nesting.child_pid()
        assert not is_gone(pid)
        await nesting.destroy()
        assert is_gone(pid)


@both_drivers
async def test_a_nursery_that_an_actor_keeps_ends_with_its_pool() -> None:
    with pytest.raises(Mine):
        async with xsc.open_pool_nursery(pools=1) as n:
            nesting = await n.create_actor(Nesting)
            pid = await nesting.child_pid()
            raise Mine
    assert is_gone(pid)


@both_drivers
async def test_the_failure_of_a_nursery_that_an_actor_keeps_is_the_actors() -> None:
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            nesting = await n.create_actor(Nesting, uid="nesting")
            await nesting.end_child("kill")
            await anyio.sleep_forever()
    assert caught.value.signal == signal.SIGKILL


# Pools


@both_drivers
async def test_a_pool_that_is_ready_answers_and_says_where_it_is() -> None:
    async with xsc.open_pool_nursery() as n:
        events = n.events()
        cpu = max(os.sched_getaffinity(0))
        pool = await n.start_pool("mine", label="big", cpus=(cpu,), env={"XSC_CONTRACT_WORD": "here"})
        assert n.pools == {"mine": pool}
        assert (pool.name, pool.labels, pool.cpus) == ("mine", ("big",), (cpu,))
        assert await pool.run(os.getpid) == pool.pid
        assert await pool.run(os.sched_getaffinity, 0) == {cpu}
        assert await pool.run(os.getenv, "XSC_CONTRACT_WORD") == "here"
        started = await next_event(events, xsc.events.PoolStarted)
        assert started == xsc.events.PoolStarted("mine", pool.pid, pool.address)
        echo = await pool.create_actor(Echo)
        assert echo.address == pool.address


@both_drivers
async def test_a_pool_that_is_asked_to_stop_does_what_it_was_told_first() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        pool = n.pools["pool-2"]
        await busy.work.tell()
        await busy.work.tell("queued")
        await board.wait("work runs")
        async with anyio.create_task_group() as group:
            group.start_soon(pool.stop)
            await board.post("work may end")
            await board.wait("queued runs")
            await board.post("queued may end")
        assert pool.exit == xsc.Exit("normal", exit_code=0)
        assert "pool-2" not in n.pools
        assert is_gone(pool.pid)
        again = await n.start_pool("pool-2")
        assert await again.run(os.getpid) == again.pid


@both_drivers
async def test_a_pool_that_does_not_stop_in_its_grace_is_killed() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        pool = n.pools["pool-1"]
        async with anyio.create_task_group() as group:
            group.start_soon(call_expecting_death, pool)
            while await pool.run(os.getpid) != pool.pid:
                pass
            found = await pool.stop(grace=0.1)
        assert found == xsc.Exit("killed", signal=signal.SIGKILL)


async def call_expecting_death(pool: xsc.Pool) -> None:
    with pytest.raises(xsc.PoolDied):
        await pool.run(trio.sleep_forever)


@both_drivers
async def test_a_killed_pool_is_no_error_if_the_kill_was_asked_for() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        pool = n.pools["pool-1"]
        echo = await n.create_actor(Echo, uid="echo")
        pool.kill()
        assert await pool.wait() == xsc.Exit("killed", signal=signal.SIGKILL)
        assert is_gone(pool.pid)
        with pytest.raises(xsc.PoolDied):
            await echo.echo(1)
        pool.kill()
        assert await pool.stop() == pool.exit
        while await xsc.find_actor("echo"):
            pass
        await n.create_actor(Echo, uid="echo", pool=await n.start_pool())


@pytest.mark.parametrize("how", list(ENDS))
@both_drivers
async def test_each_way_to_end_a_process_is_reported_as_itself(how: str) -> None:
    code, number = ENDS[how]
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            unruly = await n.create_actor(Unruly)
            pid = await unruly.pid()
            with anyio.CancelScope(shield=True), pytest.raises(xsc.PoolDied) as at_call:
                await unruly.end(how)
    for exc in (at_call.value, caught.value):
        assert (exc.exit_code, exc.signal, exc.pid, exc.pool) == (code, number, pid, "pool-1")


@pytest.mark.parametrize("how", list(ENDS))
async def test_a_process_that_ends_while_nobody_waits_for_it_is_reported_as_itself(how: str) -> None:
    code, number = ENDS[how]
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            unruly = await n.create_actor(Unruly)
            await unruly.end_later.tell(how)
            await anyio.sleep_forever()
    assert (caught.value.exit_code, caught.value.signal) == (code, number)


@both_drivers
async def test_the_end_of_an_idle_pool_is_an_error_of_its_nursery() -> None:
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=2) as n:
            os.kill(n.pools["pool-2"].pid, signal.SIGKILL)
            await anyio.sleep_forever()
    assert (caught.value.pool, caught.value.signal) == ("pool-2", signal.SIGKILL)


@both_drivers
async def test_a_pool_that_was_started_because_it_was_needed_is_watched_as_any_other() -> None:
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery() as n:
            events = n.events()
            await n.create_actor(Echo)
            assert isinstance(await anext(events), xsc.events.PoolStarted)
            os.kill(n.pools["pool-1"].pid, signal.SIGKILL)
            await anyio.sleep_forever()
    assert (caught.value.pool, caught.value.signal) == ("pool-1", signal.SIGKILL)


@both_drivers
async def test_a_pool_that_dies_while_the_block_is_being_left_is_an_error_too() -> None:
    with pytest.raises(xsc.PoolDied):
        async with xsc.open_pool_nursery(pools=1) as n:
            unruly = await n.create_actor(Unruly)
            await unruly.end_later.tell("_exit 4")


@both_drivers
async def test_what_a_dying_process_says_is_in_its_obituary(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            await n.run(say_and_die)
    assert caught.value.last_lines[-1] == "these were my last words"
    assert "these were my last words" in str(caught.value)
    assert "these were my last words" in capfd.readouterr().err


def say_and_die() -> None:
    print("these were my last words", file=sys.stderr, flush=True)
    os._exit(7)


@both_drivers
async def test_sys_exit_in_a_function_ends_its_pool_and_not_the_caller() -> None:
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            await n.run(end_process, "exit 3")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("variable", "code", "word"), [("PYTHONHOME", 1, "Python"), ("PYTHONPATH", 5, "not today")]
)
@both_drivers
async def test_a_pool_that_dies_while_it_starts_is_an_error(
    variable: str, code: int, word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys; print('not today', file=sys.stderr, flush=True); os._exit(5)"
    )
    env = {variable: str(tmp_path)}
    async with xsc.open_pool_nursery(pools=1) as n:
        with pytest.raises(xsc.LaunchError, match="before it was ready") as caught:
            await n.start_pool("broken", env=env)
        assert caught.value.exit_code == code
        assert any(word in line for line in caught.value.last_lines)
        assert "broken" not in n.pools
        assert await n.run(os.getpid) == n.pools["pool-1"].pid
    capfd.readouterr()
    with pytest.raises(xsc.LaunchError):
        async with xsc.open_pool_nursery(pools=2, env=env):
            pytest.fail("the block must not be entered")
    capfd.readouterr()


@both_drivers
async def test_a_cancelled_start_leaves_nothing() -> None:
    async with xsc.open_pool_nursery() as n:
        for _ in range(5):
            with anyio.move_on_after(0):
                await n.start_pool()
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(n.start_pool)
                await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        assert not n.pools
        pool = await n.start_pool()
        assert list(n.pools) == [pool.name]


@both_drivers
async def test_a_cancelled_creation_leaves_no_actor() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        async with anyio.create_task_group() as group:
            group.start_soon(create_slowly, n, board)
            await board.wait("creating")
            group.cancel_scope.cancel()
        assert "slow" not in n.actors
        assert await xsc.find_actor("slow") is None
        await n.create_actor(Echo, uid="slow")


async def create_slowly(n: xsc.PoolNursery, board: xsc.ActorRef[Board]) -> None:
    await n.create_actor(Slow, board, uid="slow", pool="pool-2")


class Slow(xsc.Actor):
    def __init__(self, board: xsc.ActorRef[Board]) -> None:
        self.board = board

    async def __post_create__(self) -> None:
        await self.board.post("creating")
        await trio.sleep_forever()


# Functions


@both_drivers
async def test_a_function_runs_in_a_pool_and_gives_its_value_or_its_exception() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        assert await n.run(os.getpid) == n.pools["pool-1"].pid
        assert await n.run(double, 4) == 8
        with pytest.raises(Mine, match="4"):
            await n.run(fail, 4)


async def double(value: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * value


def fail(value: Any) -> None:
    raise Mine(value)


@both_drivers
async def test_a_pool_for_one_function_ends_with_it() -> None:
    async with xsc.open_pool_nursery() as n:
        events = n.events()
        task = await n.run_in_pool(double, 4, name="one")
        assert await task.result() == 8
        assert await task.result() == 8
        assert (await next_event(events, xsc.events.PoolExited)).exit == xsc.Exit("normal", exit_code=0)
        assert is_gone(task.pool.pid)
        assert not n.pools


@both_drivers
async def test_an_error_of_a_pools_function_goes_to_whoever_waits_for_it() -> None:
    async with xsc.open_pool_nursery() as n:
        task = await n.run_in_pool(fail_when_told)
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                with pytest.raises(Mine):
                    await task.result()

            group.start_soon(wait)
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await (await xsc.wait_for_actor("gate")).post("go")
        assert not n.pools


async def fail_when_told() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        gate = await n.create_actor(Board, uid="gate")
        await gate.wait("go")
    raise Mine("told")


@both_drivers
async def test_an_error_that_nobody_waits_for_is_the_nurserys() -> None:
    with pytest.raises(Mine, match="run_in_pool"):
        async with xsc.open_pool_nursery() as n:
            await n.run_in_pool(fail, "run_in_pool")
            await anyio.sleep_forever()
    with pytest.raises(Mine, match="start_soon"):
        async with xsc.open_pool_nursery(pools=1) as n:
            n.start_soon(fail, "start_soon")
            await anyio.sleep_forever()


@both_drivers
async def test_a_pool_for_one_function_that_dies_is_reported_once_as_itself() -> None:
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery() as n:
            await n.run_in_pool(end_process, "_exit 4")
            await anyio.sleep_forever()
    assert caught.value.exit_code == 4


# Depth


async def grow(depth: int, uid: str = "leaf") -> None:
    """A tree of this depth, whose leaf sleeps."""
    if depth == 0:
        async with xsc.open_pool_nursery(pools=0) as n:
            await n.create_actor(Board, uid=uid)
            await anyio.sleep_forever()
    async with xsc.open_pool_nursery(pools=1) as n:
        await n.run(grow, depth - 1, uid)


@both_drivers
async def test_a_tree_three_levels_deep_ends_together_when_it_is_cancelled() -> None:
    async with anyio.create_task_group() as group:
        async with xsc.open_pool_nursery(pools=0) as n:
            await n.create_actor(Echo)
            group.start_soon(grow, 3)
            leaf = await xsc.wait_for_actor("leaf")
            assert await leaf.words() == []
            group.cancel_scope.cancel()


@both_drivers
async def test_nurseries_side_by_side_share_a_tree_and_end_by_themselves() -> None:
    async with xsc.open_pool_nursery(pools=1) as one:
        first = await one.create_actor(Echo, uid="first")
        async with xsc.open_pool_nursery(pools=1) as two:
            second = await two.create_actor(Echo, uid="second")
            assert await first.ask(second, "pid") == two.pools["pool-1"].pid
        with pytest.raises((xsc.PoolDied, xsc.ActorNotExist)):
            await first.ask(second, "pid")
        assert await first.echo(1) == 1


@both_drivers
async def test_the_outer_of_two_nurseries_may_end_first() -> None:
    ready = anyio.Event()
    done = anyio.Event()

    async def other() -> None:
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            ready.set()
            await done.wait()
            assert await echo.echo(1) == 1

    async with anyio.create_task_group() as group:
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            group.start_soon(other)
            await ready.wait()
            assert await echo.echo(2) == 2
        done.set()


@both_drivers
async def test_the_failure_of_one_child_cancels_the_block_and_the_other_children() -> None:
    with pytest.raises(Mine, match="child"):
        async with xsc.open_pool_nursery(pools=2) as n:
            board = await n.create_actor(Board, pool="pool-1")
            busy = await n.create_actor(Busy, board, pool="pool-2")
            n.start_soon(busy_sleep, busy, pool="pool-1")
            await board.wait("sleep runs")
            n.start_soon(fail, "child")
            await anyio.sleep_forever()


async def busy_sleep(busy: xsc.ActorRef[Busy]) -> None:
    await busy.sleep()
