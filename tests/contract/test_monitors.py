"""Monitors: how an actor ended, told exactly once, from wherever it is watched."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board
from tests.contract.driving import both_drivers, causes
from tests.contract.streaming import tables, until_no_calls
from xoscar_sc.events import Exit
from xoscar_sc.runtime.current import require_runtime

SAME_AND_OTHER = pytest.mark.parametrize("pools", [0, 1])


class Mine(Exception):
    """Not to be mistaken for another."""


class Mortal(xsc.Actor):
    """Ends in many ways."""

    def ping(self) -> str:
        return "pong"

    def pid(self) -> int:
        return os.getpid()

    def fail(self) -> None:
        raise Mine("a tell")

    def fail_in_the_nursery(self) -> None:
        self.nursery.start_soon(self._fail)

    async def _fail(self) -> None:
        raise Mine("a task")

    async def stop_itself(self) -> None:
        await self.stop()

    def exit(self, code: int) -> None:
        os._exit(code)

    @xsc.no_lock
    def tables(self) -> list[tuple[int, int]]:
        return tables()

    @xsc.no_lock
    def watchers(self) -> int:
        return len(self._cell().watchers)


class FailsInTheEnd(Mortal):
    async def __pre_destroy__(self) -> None:
        raise Mine("a hook")


class Watcher(xsc.Actor):
    """Watches another actor."""

    async def watch(self, ref: Any, board: Any) -> Any:
        async with ref.monitor() as exits:
            await board.post("watching")
            exit_ = await exits.receive()
        return exit_.kind, exit_.exit_code, exit_.signal, exit_.error


async def watch(ref: Any, board: Any) -> Any:
    """As a function in a pool."""
    async with ref.monitor() as exits:
        await board.post("watching")
        exit_ = await exits.receive()
    return exit_.kind, exit_.exit_code, exit_.signal, exit_.error


async def only(exits: Any) -> Exit:
    """The exit that is told, after which there is nothing."""
    found = [exit_ async for exit_ in exits]
    assert len(found) == 1
    assert isinstance(found[0], Exit)
    return found[0]


async def watched(ref: Any, number: int = 1) -> None:
    """Wait until so many watch an actor."""
    while await ref.watchers() != number:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("first", [True, False], ids=["watched", "ended"])
@pytest.mark.parametrize(
    ("how", "kind"), [("destroy", "normal"), ("kill", "killed"), ("stop_itself", "normal")]
)
@SAME_AND_OTHER
@both_drivers
async def test_an_end_that_is_asked_for_is_told(pools: int, how: str, kind: str, first: bool) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(Mortal)
        if first:
            async with ref.monitor() as exits:
                await watched(ref)
                await getattr(ref, how)()
                assert await only(exits) == Exit(kind)
        else:
            await getattr(ref, how)()
        for _ in range(2):  # it has ended by now, and is remembered
            async with ref.monitor() as exits:
                assert await only(exits) == Exit(kind)
        assert tables() in ([], [(0, 0)])


@pytest.mark.parametrize("how", ["fail", "fail_in_the_nursery"])
@SAME_AND_OTHER
@both_drivers
async def test_a_failure_is_told_with_its_exception(pools: int, how: str) -> None:
    told: list[Exit] = []
    with pytest.raises(Mine):
        async with xsc.open_pool_nursery(pools=pools) as n:
            ref = await n.create_actor(Mortal)
            async with ref.monitor() as exits:
                with anyio.CancelScope(shield=True):
                    await watched(ref)
                    await getattr(ref, how).tell()
                    told.append(await only(exits))
    assert told[0].kind == "failed"
    assert isinstance(told[0].error, Mine)


@SAME_AND_OTHER
@both_drivers
async def test_what_a_hook_raises_is_told_and_raised_where_the_end_was_asked_for(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(FailsInTheEnd)
        async with ref.monitor() as exits:
            await watched(ref)
            with pytest.raises(Mine, match="a hook"):
                await ref.destroy()
            told = await only(exits)
        assert told.kind == "failed"
        assert isinstance(told.error, Mine)


@pytest.mark.parametrize("how", ["left", "failed", "cancelled"])
@SAME_AND_OTHER
@both_drivers
async def test_the_end_of_the_nursery_is_told(pools: int, how: str) -> None:
    async with xsc.open_pool_nursery(pools=0):  # keeps the runtime
        raised: list[BaseException] = []
        with anyio.CancelScope() as scope:
            try:
                async with xsc.open_pool_nursery(pools=pools) as n:
                    ref = await n.create_actor(Mortal)
                    monitor = ref.monitor()
                    exits = await monitor.__aenter__()
                    await watched(ref)
                    if how == "failed":
                        raise Mine
                    if how == "cancelled":
                        scope.cancel()
                        await anyio.sleep_forever()
            except (Mine, BaseExceptionGroup) as exc:
                raised = causes(exc)
        told = await only(exits)
        await monitor.__aexit__(None, None, None)
        assert told.kind == ("normal" if how == "left" else "cancelled")
        assert [type(exc) for exc in raised] == ([Mine] if how == "failed" else [])


@pytest.mark.parametrize(("code", "kind"), [(0, "normal"), (3, "failed")])
@both_drivers
async def test_the_exit_of_the_pool_is_told(code: int, kind: str) -> None:
    told: list[Exit] = []
    try:
        async with xsc.open_pool_nursery(pools=1) as n:
            ref = await n.create_actor(Mortal)
            async with ref.monitor() as exits:
                with anyio.CancelScope(shield=True):
                    await watched(ref)
                    await ref.exit.tell(code)
                    told.append(await only(exits))
    except xsc.PoolDied:
        pass
    assert (told[0].kind, told[0].exit_code, told[0].signal) == (kind, code, None)
    assert isinstance(told[0].error, xsc.PoolDied)


@pytest.mark.parametrize("first", [True, False], ids=["watched", "dead"])
@pytest.mark.parametrize("by", ["pool.kill", "SIGKILL"])
@both_drivers
async def test_the_death_of_the_pool_is_told(by: str, first: bool) -> None:
    told: list[Exit] = []
    async with xsc.open_pool_nursery(pools=0):
        try:
            async with xsc.open_pool_nursery(pools=1) as n:
                ref = await n.create_actor(Mortal)
                pid = await ref.pid()
                with anyio.CancelScope(shield=True):
                    async with ref.monitor() as exits:
                        await watched(ref)
                        if by == "SIGKILL":
                            os.kill(pid, signal.SIGKILL)
                        else:
                            n.pools["pool-1"].kill()
                        told.append(await only(exits))
                    if not first:
                        async with ref.monitor() as exits:
                            told.append(await only(exits))
        except xsc.PoolDied:
            pass
        assert (told[-1].kind, told[-1].signal) == ("killed", signal.SIGKILL)
        assert isinstance(told[-1].error, xsc.PoolDied)


@both_drivers
async def test_an_actor_whose_pool_was_stopped_is_told_of_all_the_same() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        ref = await n.create_actor(Mortal)
        async with ref.monitor() as exits:
            await watched(ref)
            await n.pools["pool-1"].stop()
            assert await only(exits) == Exit("normal")
        async with ref.monitor() as exits:
            assert (await only(exits)).error is not None


@SAME_AND_OTHER
@both_drivers
async def test_any_number_may_watch_one_actor(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(Mortal)
        told: list[Exit] = []

        async def look() -> None:
            async with ref.monitor() as exits:
                told.append(await only(exits))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(look)
            await watched(ref, 50)
            await ref.destroy()
        assert told == [Exit("normal")] * 50


@pytest.mark.parametrize("who", ["actor", "function"])
@pytest.mark.parametrize(("mine", "others"), [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)])
@both_drivers
async def test_an_actor_is_watched_from_other_pools(who: str, mine: int, others: int) -> None:
    async with xsc.open_pool_nursery(pools=2) as n, xsc.open_pool_nursery(pools=0) as here:
        board = await here.create_actor(Board)
        ref = await (n.create_actor(Mortal, pool=f"pool-{mine}") if mine else here.create_actor(Mortal))
        watcher = await (
            n.create_actor(Watcher, pool=f"pool-{others}") if others else here.create_actor(Watcher)
        )
        told: list[Any] = []

        async def look() -> None:
            if who == "actor":
                told.append(await watcher.watch(ref, board))
            else:
                told.append(await n.run(watch, ref, board, pool=f"pool-{others or 1}"))

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            await board.wait("watching")
            await watched(ref)
            await ref.kill()
        assert told == [("killed", None, None, None)]


@both_drivers
async def test_the_actors_of_one_uid_are_not_mistaken_for_each_other() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        old = await n.create_actor(Mortal, uid="same")
        await old.kill()
        new = await n.create_actor(Mortal, uid="same")
        async with old.monitor() as exits:
            assert (await only(exits)).kind == "killed"
        async with new.monitor() as exits:
            await watched(new)
            with anyio.move_on_after(0.02) as scope:  # a chance for a wrong exit
                await exits.receive()
            assert scope.cancelled_caught
            await new.destroy()
            assert (await only(exits)).kind == "normal"


@SAME_AND_OTHER
@both_drivers
async def test_a_block_that_is_left_early_leaves_nothing(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(Mortal)
        async with ref.monitor() as exits:
            await watched(ref)
        await watched(ref, 0)
        async with ref.monitor():
            pass
        await watched(ref, 0)
        with pytest.raises(anyio.ClosedResourceError):
            await exits.receive()
        with pytest.raises(Mine):
            async with ref.monitor():
                await watched(ref)
                raise Mine
        await watched(ref, 0)
        with anyio.CancelScope() as scope:
            async with ref.monitor() as exits:
                await watched(ref)
                scope.cancel()
                await exits.receive()
        assert scope.cancelled_caught
        await watched(ref, 0)
        await until_no_calls(ref)
        ref.monitor()  # not entered
        assert await ref.ping() == "pong"


@SAME_AND_OTHER
@both_drivers
async def test_what_is_remembered_of_ended_actors_is_bounded(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        first = await n.create_actor(Mortal)
        await first.destroy()
        for _ in range(11):
            group = await n.create_group(Mortal, size=100)
            await group.destroy()
        remembered = await n.run(count_exits) if pools else count_exits()
        assert 1000 < remembered <= 1024
        async with first.monitor() as exits:
            told = await only(exits)
        assert told.kind == "failed"
        assert isinstance(told.error, xsc.ActorNotExist)
        async with group[-1].monitor() as exits:
            assert await only(exits) == Exit("normal")


def count_exits() -> int:
    return len(require_runtime().exits)


# wait_for


@SAME_AND_OTHER
@both_drivers
async def test_wait_for_gives_the_value_or_cancels_the_call(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(Slow)
        assert await xsc.wait_for(ref.ping(), 30) == "pong"
        assert await xsc.wait_for(ref.ping(), None) == "pong"
        with pytest.raises(TimeoutError):
            await xsc.wait_for(ref.sleep(), 0.02)
        assert await ref.log() == ["cancelled"]
        for timeout in (30, None):
            with pytest.raises(TimeoutError, match="its own"):
                await xsc.wait_for(ref.fail(), timeout)
            with pytest.raises(Mine):
                await xsc.wait_for(ref.fail_otherwise(), timeout)
        assert [number async for number in await xsc.wait_for(ref.numbers(), 30)] == [0, 1, 2]


class Slow(Mortal):
    def __init__(self) -> None:
        self._log: list[str] = []

    async def sleep(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._log.append("cancelled")

    def fail(self) -> None:
        raise TimeoutError("its own")

    def fail_otherwise(self) -> None:
        raise Mine

    def log(self) -> list[str]:
        return self._log

    async def numbers(self) -> Any:
        for number in range(3):
            yield number


@SAME_AND_OTHER
@both_drivers
async def test_a_reference_by_address_knows_streams(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        made = await n.create_actor(Slow, uid="slow")
        for ref in (await xsc.actor_ref(made.address, "slow"), await xsc.actor_ref(uid="slow")):
            assert ref == made
            assert [number async for number in ref.numbers()] == [0, 1, 2]
        with pytest.raises(xsc.ActorNotExist):
            await xsc.actor_ref(made.address, "nobody")
