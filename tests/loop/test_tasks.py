"""The contract of :class:`xoscar_sc.loop.Loop`, on both loops: tasks, and its end."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from tests.contract.driving import both_drivers
from tests.loop.turns import Waiting
from tests.loop.waiting import settle
from xoscar_sc.loop import open_loop


@both_drivers
async def test_what_is_spawned_is_out_of_reach_of_the_scopes_around() -> None:
    async with open_loop() as loop:
        go, done = loop.slot(), loop.slot()

        async def work(value: str) -> None:
            await go.wait()
            done.set(value)

        with anyio.CancelScope() as scope:
            loop.spawn(work, "done")
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        go.set(None)
        assert await done.wait() == "done"


@both_drivers
async def test_closing_cancels_what_runs_and_waits_for_its_end() -> None:
    log: list[object] = []
    async with open_loop() as loop:
        turn = Waiting(loop, log, "turn")

        async def spawned() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    for _ in range(10):
                        await anyio.lowlevel.checkpoint()
                log.append("cleaned up")

        loop.submit(turn)
        loop.spawn(spawned)
        await settle()
    assert sorted(log, key=str) == [("cancelled", "turn"), ("starts", "turn"), "cleaned up"]


@both_drivers
async def test_closing_waits_for_the_end_even_if_the_closer_is_cancelled() -> None:
    log: list[str] = []

    async def spawned() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()
            log.append("cleaned up")

    with anyio.CancelScope() as scope:
        async with open_loop() as loop:
            loop.spawn(spawned)
            await settle()
            scope.cancel()
    assert log == ["cleaned up"]


@both_drivers
async def test_a_shielded_wait_runs_to_its_end_under_repeated_cancellation() -> None:
    log: list[str] = []
    async with open_loop() as loop:
        go = loop.slot()

        async def work() -> str:
            await go.wait()
            await anyio.lowlevel.checkpoint()
            log.append("done")
            return "value"

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as outer, anyio.CancelScope() as inner:

                async def disturb() -> None:
                    await settle()
                    inner.cancel()
                    await settle()
                    outer.cancel()
                    await settle()
                    assert log == []
                    go.set(None)

                group.start_soon(disturb)
                log.append(await loop.run_shielded(work))
                log.append("left")
                await anyio.lowlevel.checkpoint()
            assert outer.cancel_called
            assert inner.cancel_called
    assert log == ["done", "value", "left"]


def test_a_shielded_wait_outlasts_asyncios_own_cancellation_twice() -> None:
    async def main() -> None:
        async with open_loop() as loop:
            go = loop.slot()
            log: list[str] = []

            async def work() -> None:
                await go.wait()
                log.append("done")

            async def caller() -> None:
                await loop.run_shielded(work)

            task = asyncio.create_task(caller())
            for _ in range(2):
                await settle()
                task.cancel()
            await settle()
            assert not task.done()
            go.set(None)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert log == ["done"]

    asyncio.run(main())


@both_drivers
async def test_what_is_raised_in_a_shielded_wait_is_raised() -> None:
    async with open_loop() as loop:

        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await loop.run_shielded(work)
        with anyio.CancelScope() as scope, pytest.raises(KeyError, match="mine"):
            scope.cancel()
            await loop.run_shielded(work)


@both_drivers
async def test_a_nursery_of_the_loops_waits_for_its_tasks_and_fails_with_them() -> None:
    async with open_loop() as loop:
        log: list[str] = []

        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            log.append("done")

        async def fails() -> None:
            raise KeyError("mine")

        async with loop.open_nursery() as nursery:
            nursery.start_soon(work)
        assert log == ["done"]
        with pytest.raises(ExceptionGroup) as found:
            async with loop.open_nursery() as nursery:
                nursery.start_soon(anyio.sleep_forever)
                nursery.start_soon(fails)
        assert repr(found.value.exceptions) == "(KeyError('mine'),)"


@both_drivers
async def test_a_task_is_within_itself_and_within_no_other() -> None:
    async with open_loop() as loop:
        ours = loop.task()
        assert loop.within(ours)
        found = loop.slot()

        async def work() -> None:
            found.set((loop.within(ours), loop.within(loop.task())))

        loop.spawn(work)
        assert await found.wait() == (False, True)


async def test_a_task_of_a_nursery_is_within_the_one_that_opened_it() -> None:
    async with open_loop() as loop:
        ours, found = loop.task(), list[bool]()

        async def work() -> None:
            found.append(loop.within(ours))

        async with loop.open_nursery() as outer, loop.open_nursery() as inner:
            outer.start_soon(work)
            inner.start_soon(work)
    assert found == [True, True]
