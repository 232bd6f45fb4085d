"""A method that may be run twice is called again when its actor's pool has died; nothing else is."""

from __future__ import annotations

import os
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board
from tests.contract.driving import both_drivers


class Mine(Exception):
    """Not to be mistaken for another."""


class Worker(xsc.Actor):
    def __init__(self, board: Any, name: str = "") -> None:
        self.board = board
        self.name = name
        self.calls = 0
        self.words = [name]

    @xsc.idempotent(retries=3, backoff=0.01)
    async def work(self, word: str) -> str:
        self.calls += 1
        await self.board.post(f"{self.name} {word} runs")
        await self.board.wait(f"{word} may end")
        return f"{word} by {self.name}"

    @xsc.idempotent(retries=20, backoff=0.001)
    async def patient(self, word: str) -> str:
        return await self.work(word)

    @xsc.idempotent(retries=2, backoff=0.01)
    def dies(self) -> None:
        os._exit(1)

    @xsc.idempotent(retries=1, backoff=60)
    async def slowly(self) -> None:
        await self.board.post(f"{self.name} slowly runs")
        await anyio.sleep_forever()

    @xsc.idempotent(retries=5, backoff=0)
    def fails(self, exc: Exception) -> None:
        self.calls += 1
        raise exc

    @xsc.idempotent(backoff=0)
    def kept(self) -> list[str]:
        return self.words

    async def once(self, word: str) -> str:
        return await self.work(word)

    def count(self) -> int:
        return self.calls


async def call(found: list[Any], method: Any, *args: Any) -> None:
    """Call, and keep the value or the error."""
    try:
        found.append(await method(*args))
    except xsc.XoscarError as exc:
        found.append(exc)


@both_drivers
async def test_a_call_goes_to_whoever_has_the_name_by_then() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-2")
        old = await n.create_actor(Worker, board, "old", uid="worker", pool="pool-1")
        found: list[Any] = []
        async with anyio.create_task_group() as group:
            group.start_soon(call, found, old.patient, "a")
            await board.wait("old a runs")
            n.pools["pool-1"].kill()
            await n.pools["pool-1"].wait()
            await n.create_actor(Worker, board, "new", uid="worker", pool="pool-2")
            await board.wait("new a runs")
            await board.post("a may end")
        assert found == ["a by new"]
        await board.post("b may end")
        assert await old.work("b") == "b by new"
        with pytest.raises(xsc.PoolDied):
            await old.once("b")


@both_drivers
async def test_a_call_is_repeated_as_often_as_it_says_and_no_more() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        worker = await n.create_actor(Worker, None, uid="worker")
        pool = n.pools["pool-1"]
        pool.kill()
        await pool.wait()  # before that it may still answer
        for _ in range(2):
            begun = anyio.current_time()
            with pytest.raises(xsc.PoolDied):
                await worker.work("a")
            assert anyio.current_time() - begun >= 0.07


@both_drivers
async def test_a_call_that_kills_each_pool_ends_with_the_last() -> None:
    with pytest.raises(xsc.PoolDied):
        async with xsc.open_pool_nursery() as n:
            board = await n.create_actor(Board)
            pool = await n.start_pool()
            worker = await n.create_actor(Worker, board, uid="worker", pool=pool)
            with pytest.raises(xsc.PoolDied):
                await worker.dies()
            await anyio.sleep_forever()


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_an_exception_of_its_own_is_no_reason_to_repeat_it(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        worker = await n.create_actor(Worker, None)
        with pytest.raises(Mine, match="text"):
            await worker.fails(Mine("text"))
        with pytest.raises(xsc.ConnectionLost):
            await worker.fails(xsc.ConnectionLost("text"))
        assert await worker.count() == 2


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_the_end_of_the_actor_is_no_reason_to_repeat_it(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        board = await n.create_actor(Board)
        worker = await n.create_actor(Worker, board, "old", uid="worker")
        found: list[Any] = []
        async with anyio.create_task_group() as group:
            group.start_soon(call, found, worker.work, "a")
            await board.wait("old a runs")
            await worker.kill()
        assert type(found[0]) is xsc.ActorDied
        await n.create_actor(Worker, board, "new", uid="worker")
        with pytest.raises(xsc.ActorNotExist):
            await worker.work("a")
        assert "new a runs" not in await board.words()


@both_drivers
async def test_tells_and_batches_are_not_repeated() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-2")
        old = await n.create_actor(Worker, board, "old", uid="worker", pool="pool-1")
        n.pools["pool-1"].kill()
        await n.pools["pool-1"].wait()
        await n.create_actor(Worker, board, "new", uid="worker", pool="pool-2")
        with pytest.raises(xsc.PoolDied):
            await old.work.tell("a")
        with pytest.raises(xsc.PoolDied):
            await old.work.batch(old.work.delay("a"))
        assert "new a runs" not in await board.words()


@both_drivers
async def test_a_call_that_waits_to_be_repeated_can_be_cancelled() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-2")
        old = await n.create_actor(Worker, board, "old", uid="worker", pool="pool-1")
        async with anyio.create_task_group() as group:
            group.start_soon(old.slowly)
            await board.wait("old slowly runs")
            n.pools["pool-1"].kill()
            await n.pools["pool-1"].wait()
            await n.create_actor(Worker, board, "new", uid="worker", pool="pool-2")
            await anyio.sleep(0.02)  # a chance to be called again
            with anyio.fail_after(10):
                group.cancel_scope.cancel()
                await anyio.lowlevel.checkpoint()
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.05):
                await old.slowly()
        assert "new slowly runs" not in await board.words()


@both_drivers
async def test_a_reference_from_elsewhere_knows_what_may_be_repeated() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-2")
        await n.create_actor(Worker, board, "old", uid="worker", pool="pool-1")
        found = await xsc.find_actor("worker")
        assert found is not None
        copied = found.options(copy=True)
        n.pools["pool-1"].kill()
        await n.pools["pool-1"].wait()
        await n.create_actor(Worker, board, "new", uid="worker", pool="pool-2")
        await board.post("a may end")
        assert await found.work("a") == await copied.work("a") == "a by new"


@both_drivers
async def test_a_call_that_is_repeated_in_the_callers_process_copies_if_that_is_wanted() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        old = await n.create_actor(Worker, None, "old", uid="worker", pool="pool-1")
        pool = n.pools["pool-1"]
        pool.kill()
        await pool.wait()
        await n.create_actor(Worker, None, "new", uid="worker", strategy=xsc.strategy.MainPool())
        assert await old.kept() is await old.kept()
        copying = old.options(copy=True)
        assert await copying.kept() == ["new"]
        assert await copying.kept() is not await old.kept()
