"""Pools in which asyncio code runs too: both ways across, errors, cancellations, and the end of the pool."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from typing import Any

import anyio
import pytest
import trio
import trio.lowlevel

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, notes
from xoscar_sc import to_asyncio

LOOPS = pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])


class Mine(Exception):
    """Not to be mistaken for another."""


# What runs in the pools


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def name_of_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


async def fail_in_asyncio() -> None:
    await asyncio.sleep(0)
    raise Mine("from asyncio")


async def fail_in_trio() -> None:
    await trio.lowlevel.checkpoint()
    raise Mine("from trio")


async def run_some() -> tuple[str, int]:
    async def back_and_forth(depth: int) -> int:
        await asyncio.sleep(0)
        return await to_asyncio.run_trio(forth_and_back, depth - 1) if depth else 0

    async def forth_and_back(depth: int) -> int:
        await trio.lowlevel.checkpoint()
        return 1 + await to_asyncio.run_task(back_and_forth, depth)

    return await to_asyncio.run_task(name_of_loop), await forth_and_back(5)


async def errors_cross() -> list[str]:
    found = []
    for direction in ("to asyncio", "to trio"):
        try:
            if direction == "to asyncio":
                await to_asyncio.run_task(fail_in_asyncio)
            else:
                await to_asyncio.run_task(to_asyncio.run_trio, fail_in_trio)
        except Mine as exc:
            found.append("".join(traceback.format_exception(exc)))
    return found


async def cancel_from_trio() -> list[str]:
    log = []

    async def sleep() -> None:
        log.append("asyncio sleeps")
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            log.append("asyncio has cleaned up")
            raise

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(to_asyncio.run_task, sleep)
            while not log:
                await trio.lowlevel.checkpoint()
            scope.cancel()
    log.append("trio goes on")
    with trio.move_on_after(0) as scope:
        await to_asyncio.run_task(sleep)
    log.append(f"cancelled before it began: {scope.cancelled_caught}")
    return log


async def cancel_from_asyncio() -> list[str]:
    log = []

    async def sleep() -> None:
        log.append("trio sleeps")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            log.append("trio has cleaned up")

    async def cancel() -> None:
        for twice in (False, True):
            task = asyncio.create_task(to_asyncio.run_trio(sleep))
            while not log or log[-1] != "trio sleeps":  # noqa: ASYNC110 - what it waits for is trio's
                await asyncio.sleep(0)
            task.cancel()
            if twice:
                await asyncio.sleep(0)
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                log.append("the task was cancelled")
        try:
            async with asyncio.timeout(0.05):
                await to_asyncio.run_trio(sleep)
        except TimeoutError:
            log.append("the time is up")
        current = asyncio.current_task()
        assert current is not None
        log.append(f"left over: {current.cancelling()}")

    await to_asyncio.run_task(cancel)
    return log


async def cancel_oneself(how: str) -> str:
    async def one() -> None:
        if how == "raise":
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(600)

    with trio.CancelScope() as scope:
        try:
            await to_asyncio.run_task(one)
        except xsc.AsyncioCancelled as exc:
            return f"{scope.cancelled_caught} {type(exc.__cause__).__name__}"
    return "swallowed"


async def swallow() -> int:
    async def deaf() -> int:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
        return 7

    with trio.move_on_after(0.05):
        return await to_asyncio.run_task(deaf)
    return 0


async def exit_in_a_task() -> None:
    async def run() -> None:
        asyncio.create_task(leave())  # noqa: RUF006 - it ends the process
        await asyncio.sleep(600)

    async def leave() -> None:
        sys.exit(3)

    await to_asyncio.run_task(run)


async def exit_while_awaited() -> None:
    async def leave() -> None:
        sys.exit(4)

    await to_asyncio.run_task(leave)


async def be_rude() -> int:
    """Do to the loop what must not be done to it."""

    async def cancel_all() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)

    await to_asyncio.run_task(cancel_all)
    await trio.sleep(0.01)
    generators: list[int] = []

    async def generate() -> Any:
        try:
            yield 1
        finally:
            await trio.lowlevel.checkpoint()  # which trio's own hooks allow, and asyncio's do not
            generators.append(2)

    async with trio.open_nursery():
        async for value in generate():
            generators.append(value)
    return len(generators) + await to_asyncio.run_task(double, 2)


async def leave_things_behind(path: str) -> None:
    def note(text: str) -> None:
        with open(path, "a") as file:
            file.write(f"{text}\n")

    async def generate() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            note("the generator is closed")

    async def pending() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.01)
            note(f"the task is closed, {await to_asyncio.run_trio(trio_code)}")

    async def trio_code() -> str:
        await trio.sleep(0.01)
        return "trio still runs"

    async def leave() -> None:
        loop = asyncio.get_running_loop()
        loop.left = [asyncio.create_task(pending()), generate()]
        await anext(loop.left[1])

    await to_asyncio.run_task(leave)


# What is promised of them


@LOOPS
@both_drivers
async def test_each_side_awaits_the_other(uvloop: bool) -> None:
    async with xsc.open_pool_nursery([xsc.PoolSpec("p", asyncio=True, uvloop=uvloop)]) as n:
        module, depth = await n.run(run_some)
        assert module.startswith("uvloop" if uvloop else "asyncio")
        assert depth == 6


@LOOPS
async def test_errors_cross_with_their_tracebacks(uvloop: bool) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        from_asyncio, from_trio = await pool.run(errors_cross)
        assert "in fail_in_asyncio" in from_asyncio
        assert "from asyncio" in from_asyncio
        assert "in fail_in_trio" in from_trio
        with pytest.raises(Mine, match="from asyncio") as caught:
            await pool.run(to_asyncio.run_task, fail_in_asyncio)
        assert "in fail_in_asyncio" in notes(caught.value)


@LOOPS
async def test_a_cancellation_crosses_and_is_waited_for(uvloop: bool) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        assert await pool.run(cancel_from_trio) == [
            "asyncio sleeps",
            "asyncio has cleaned up",
            "trio goes on",
            "cancelled before it began: True",
        ]
        once = ["trio sleeps", "trio has cleaned up"]
        assert await pool.run(cancel_from_asyncio) == [
            *once,
            "the task was cancelled",
            *once,
            "the task was cancelled",
            *once,
            "the time is up",
            "left over: 0",
        ]


@LOOPS
async def test_a_task_that_cancels_itself_is_an_ordinary_error(uvloop: bool) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        for how in ("raise", "cancel"):
            assert await pool.run(cancel_oneself, how) == "False CancelledError"
        assert await pool.run(swallow) == 7


@LOOPS
@pytest.mark.parametrize(("function", "code"), [(exit_in_a_task, 3), (exit_while_awaited, 4)])
async def test_an_exit_in_asyncio_code_ends_the_pool(uvloop: bool, function: Any, code: int) -> None:
    with pytest.raises((xsc.PoolDied, xsc.ActorDied)):
        async with xsc.open_pool_nursery(pools=0) as n:
            pool = await n.start_pool(asyncio=True, uvloop=uvloop)
            await pool.run(function)
    assert pool.exit is not None
    assert pool.exit.exit_code == code


@LOOPS
async def test_a_pool_goes_on_whatever_is_done_to_its_loop(uvloop: bool) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        for _ in range(3):
            with anyio.move_on_after(20):
                assert await pool.run(be_rude) == 6
        os.kill(pool.pid, signal.SIGINT)
        assert await pool.run(to_asyncio.run_task, double, 4) == 8


@LOOPS
@pytest.mark.parametrize("way", ["left", "cancelled"])
async def test_what_is_left_on_the_loop_is_closed_at_the_end_of_the_pool(
    uvloop: bool, way: str, tmp_path: Any
) -> None:
    path = tmp_path / "log"
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        await pool.run(leave_things_behind, str(path))
        if way == "cancelled":
            n.cancel_scope.cancel()
    assert path.read_text().splitlines() == [
        "the task is closed, trio still runs",
        "the generator is closed",
    ]
    assert pool.exit is not None
    assert pool.exit.exit_code == 0


async def test_only_pools_that_ask_for_it_import_asyncio() -> None:
    specs = [
        xsc.PoolSpec("plain"),
        xsc.PoolSpec("asyncio", asyncio=True),
        xsc.PoolSpec("uvloop", asyncio=True, uvloop=True),
    ]
    async with xsc.open_pool_nursery(specs) as n:
        here = {name: await n.run(_asyncio_is_running, pool=name) for name in n.pools}
    assert here == {"plain": None, "asyncio": "asyncio", "uvloop": "uvloop"}


def _asyncio_is_running() -> str | None:
    loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", lambda: None)()
    return None if loop is None else type(loop).__module__.split(".")[0]


async def test_asyncio_in_another_pool_is_an_error_that_says_what_to_do() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        for function in (to_asyncio.run_task, to_asyncio.run_trio):
            with pytest.raises(xsc.XoscarError, match=r"start_pool\(asyncio=True\)"):
                await n.run(function, double, 1)
        with pytest.raises(xsc.XoscarError, match=r"start_pool\(asyncio=True\)"):
            await to_asyncio.run_task(double, 1)
        pool = await n.start_pool(asyncio=True)
        with pytest.raises(xsc.XoscarError, match="is for asyncio code"):
            await pool.run(to_asyncio.run_trio, double, 1)
        with pytest.raises(xsc.XoscarError, match="is for trio code"):
            await pool.run(to_asyncio.run_task, to_asyncio.run_task, double, 1)


def test_uvloop_goes_with_asyncio() -> None:
    with pytest.raises(ValueError, match="asyncio=True"):
        xsc.PoolSpec(uvloop=True)


async def test_a_missing_uvloop_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    async with xsc.open_pool_nursery(pools=0) as n:
        with pytest.raises(xsc.LaunchError, match="the package uvloop"):
            await n.start_pool(asyncio=True, uvloop=True)
