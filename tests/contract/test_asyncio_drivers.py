"""Programs on asyncio and uvloop: their own ways of cancelling reach the other side, and leave nothing."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

import xoscar_sc as xsc
from tests.contract.driving import BOUND, is_gone, until

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module", autouse=True)
def _uvloop_is_known() -> None:
    """Its first loop opens a pipe that the process keeps."""
    uvloop.new_event_loop().close()


def native(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test twice, without anyio around it: on asyncio, and on uvloop."""

    async def bounded(fixtures: dict[str, Any]) -> None:
        async with asyncio.timeout(BOUND):
            await test(**fixtures)

    @functools.wraps(test)
    def run(loop: str, **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(bounded(fixtures))

    parameter = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(test)
    run.__signature__ = signature.replace(parameters=[parameter, *signature.parameters.values()])  # type: ignore[attr-defined]
    del run.__wrapped__
    return pytest.mark.parametrize("loop", LOOPS)(run)


class Sleeper(xsc.StatelessActor):
    """Says when it begins to wait, and when that has ended."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)

    async def _sleep(self, name: str) -> None:
        (self.directory / f"{name} began").touch()
        try:
            await anyio.sleep(600)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
            (self.directory / f"{name} ended").touch()

    async def sleep(self, name: str) -> None:
        await self._sleep(name)

    async def values(self, name: str) -> AsyncIterator[int]:
        yield 1
        await self._sleep(name)

    @xsc.context
    async def talk(self, ctx: xsc.Context, name: str) -> None:
        await ctx.started()
        await self._sleep(name)

    async def ping(self) -> str:
        return "pong"


async def call(ref: Any, name: str) -> None:
    await ref.sleep(name)


async def stream(ref: Any, name: str) -> None:
    async with ref.values(name) as values:
        async for _ in values:
            pass


async def bare_stream(ref: Any, name: str) -> None:
    async for _ in ref.values(name):
        pass


async def dialogue(ref: Any, name: str) -> None:
    async with ref.talk.open_context(name) as (ctx, _):
        await ctx.result()


WHATS = pytest.mark.parametrize("what", [call, stream, bare_stream, dialogue])
WAYS = ["once", "twice", "timeout", "wait_for", "group", "gather"]


async def cancelled(way: str, fn: Callable[[], Awaitable[None]], began: Callable[[], bool]) -> None:
    """Run something, and cancel it when it has begun."""
    if way in ("once", "twice"):
        task = asyncio.ensure_future(fn())
        await until(began)
        task.cancel()
        if way == "twice":
            await asyncio.sleep(0.001)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif way == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout:
                watch = asyncio.ensure_future(_then(began, lambda: timeout.reschedule(0)))
                await fn()
        await watch
    elif way == "wait_for":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fn(), 0.5)
    elif way == "group":
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(fn())
                await until(began)
                raise KeyError("the group's")
        assert [type(exc) for exc in caught.value.exceptions] == [KeyError]
    else:
        gathered = asyncio.gather(fn(), fn())
        await until(began)
        gathered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathered


async def _then(condition: Callable[[], bool], action: Callable[[], None]) -> None:
    await until(condition)
    action()


@WHATS
@native
async def test_native_cancellation_reaches_the_other_side_and_is_waited_for(
    what: Any, tmp_path: Path
) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        actor = await n.create_actor(Sleeper, str(tmp_path))
        for way in WAYS:
            name = f"{what.__name__} {way}"
            began, ended = tmp_path / f"{name} began", tmp_path / f"{name} ended"
            await cancelled(way, functools.partial(what, actor, name), began.exists)
            assert began.exists()
            if way in ("twice", "gather"):  # who does not wait: for the end at all, or for all of two
                await until(ended.exists)
            assert ended.exists()
            current = asyncio.current_task()
            assert current is not None
            assert not current.cancelling()
            assert await actor.ping() == "pong"


@pytest.mark.parametrize("way", WAYS)
@native
async def test_native_cancellation_of_whole_nurseries_leaves_nothing(way: str, tmp_path: Path) -> None:
    pids: list[int] = []

    async def block() -> None:
        async with xsc.open_pool_nursery(pools=2, shutdown=20) as n:
            pids.extend(pool.pid for pool in n.pools.values())
            actor = await n.create_actor(Sleeper, str(tmp_path), pool="pool-1")
            await actor.sleep("block")

    began = tmp_path / "block began"
    if way == "wait_for":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(block(), 3)
    else:
        await cancelled(way, block, began.exists)
    if way == "gather":  # which waits for the first of the two that ends
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    assert len(pids) >= 2
    assert all(is_gone(pid) for pid in pids)
    if way != "twice":
        assert (tmp_path / "block ended").exists()
    async with xsc.open_pool_nursery(pools=1) as n:
        assert await n.run(abs, -1) == 1


@pytest.mark.parametrize("times", [1, 2, 3])
@native
async def test_a_nursery_that_is_cancelled_while_it_opens_or_is_left_leaves_nothing(times: int) -> None:
    async def block() -> None:
        async with xsc.open_pool_nursery(pools=2) as n:
            await n.run(abs, -1)

    for step in range(0, 120, 15):
        task = asyncio.ensure_future(block())
        for _ in range(step):
            await asyncio.sleep(0.0005)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
    async with xsc.open_pool_nursery(pools=1) as n:
        assert await n.run(abs, -1) == 1
