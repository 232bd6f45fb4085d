"""A cancel reaches the method, and the caller leaves when it has ended, or after a grace, which is told.

No test compares times: what must not have happened yet when a caller leaves is held until the test lets it happen.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

import xoscar_sc as xsc
from tests.contract.actors import Board, Busy, Echo
from tests.contract.driving import BOUND, both_drivers, next_event, until

SHORT = xsc.Timeouts(cancel=0.3)
LONG = xsc.Timeouts(cancel=BOUND / 2)
"""A caller that leaves before its callee has ended is a test that fails."""
DEADLINES = (0.5, 2, 8, 16)
"""Seconds for a call to get where it is to be when they are over; the first will mostly do."""
UNCONFIRMED = xsc.events.CancelUnconfirmed


class Hop(xsc.Actor):
    """Calls the next one, and writes down how it ended."""

    def __init__(self, board: Any, directory: Path) -> None:
        self.board = board
        self.directory = directory

    async def go(self, others: list[Any], way: str = "send") -> None:
        self._write("begun")
        try:
            if not others:
                await self.board.post("the last one runs")
                await trio.sleep_forever()
            following, behind = others[0], others[1:]
            if way == "batch":
                await following.go.batch(following.go.delay(behind, way), following.go.delay(behind, way))
            else:
                await following.go(behind, way)
        except trio.Cancelled:
            self._write("ended")
            raise

    def _write(self, name: str) -> None:
        with open(self.directory / name, "a") as file:
            file.write(f"{self.uid}\n")

    def ping(self) -> str:
        return "pong"


class Blocking(xsc.Actor):
    """Blocks its pool until a file is there, and writes another when it goes on."""

    def block(self, directory: Path) -> str:
        block(directory)
        return "has blocked"

    def ping(self) -> str:
        return "pong"


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def block(directory: Path) -> None:
    (directory / "blocks").touch()
    latest = time.monotonic() + BOUND
    while not (directory / "may end").exists() and time.monotonic() < latest:
        time.sleep(0.002)
    (directory / "has ended").touch()


class Swallowing(xsc.Actor):
    """Takes a cancel for something else."""

    def __init__(self, board: Any) -> None:
        self.board = board

    async def swallow(self, how: str) -> str:
        try:
            await self.board.post(f"{how} runs")
            await trio.sleep_forever()
        except trio.Cancelled:
            if how == "raise":
                raise LookupError("instead") from None
        return how

    def ping(self) -> str:
        return "pong"


@asynccontextmanager
async def cancelled_when(board: Any, word: str) -> AsyncIterator[anyio.abc.TaskGroup]:
    """What is started in the block is cancelled as soon as the board has the word, and has ended after it."""
    async with anyio.create_task_group() as group:
        yield group
        await board.wait(word)
        group.cancel_scope.cancel()


# Through others


@pytest.mark.parametrize("way", ["send", "batch"])
@both_drivers
async def test_a_cancel_ends_four_methods_one_behind_the_other_before_the_caller_leaves(
    way: str, tmp_path: Path
) -> None:
    async with xsc.open_pool_nursery(pools=2, timeouts=LONG) as n:
        board = await n.create_actor(Board, pool="pool-1")
        hops = [
            await n.create_actor(Hop, board, tmp_path, uid=str(i), pool=f"pool-{i % 2 + 1}") for i in range(4)
        ]
        async with cancelled_when(board, "the last one runs") as group:
            group.start_soon(hops[0].go, hops[1:], way)
        assert (tmp_path / "ended").read_text().split() == ["3", "2", "1", "0"]
        assert [await hop.ping() for hop in hops] == ["pong"] * 4


@both_drivers
async def test_a_deadline_ends_four_methods_one_behind_the_other(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=2, timeouts=LONG) as n:
        board = await n.create_actor(Board, pool="pool-1")
        hops = [
            await n.create_actor(Hop, board, tmp_path, uid=str(i), pool=f"pool-{i % 2 + 1}") for i in range(4)
        ]
        for seconds in DEADLINES:
            with pytest.raises(TimeoutError):
                with anyio.fail_after(seconds):
                    await hops[0].go(hops[1:])
            if (begun := lines(tmp_path / "begun"))[-1:] == ["3"]:
                break
        assert begun[-4:] == ["0", "1", "2", "3"]
        # Each sees the deadline for itself: an outer one may end before an inner one.
        await until(lambda: sorted(lines(tmp_path / "ended")) == sorted(begun))
        assert [await hop.ping() for hop in hops] == ["pong"] * 4


@pytest.mark.parametrize("hops", [0, 1])
@both_drivers
async def test_of_a_batch_that_is_cancelled_the_running_item_ends_and_later_ones_never_run(hops: int) -> None:
    async with xsc.open_pool_nursery(pools=2, timeouts=LONG) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        between = await n.create_actor(Batching, pool="pool-1")
        async with cancelled_when(board, "two runs") as group:
            await board.post("one may end")
            group.start_soon(between.call_works if hops else call_works, busy)
        await board.post("two may end")
        await board.post("three may end")
        assert await busy.has_run() == ["one"]
        assert "three runs" not in await board.words()


async def call_works(busy: Any) -> None:
    await busy.work.batch(*(busy.work.delay(word) for word in ("one", "two", "three")))


class Batching(xsc.Actor):
    async def call_works(self, busy: Any) -> None:
        await call_works(busy)


# Callees that do not listen


@pytest.mark.parametrize("hops", [0, 1])
@both_drivers
async def test_a_deadline_around_a_method_that_blocks_ends_after_the_grace(hops: int, tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=2, timeouts=SHORT) as n:
        events = n.events()
        asking = await n.create_actor(Echo, pool="pool-1")
        blocking = await n.create_actor(Blocking, uid="blocking", pool="pool-2")
        for seconds in DEADLINES:
            with pytest.raises(TimeoutError):
                with anyio.fail_after(seconds):
                    await (asking.ask(blocking, "block", tmp_path) if hops else blocking.block(tmp_path))
            if (tmp_path / "blocks").exists():
                break
        assert not (tmp_path / "has ended").exists()
        event = await next_event(events, UNCONFIRMED)
        while event.uid != "blocking":  # the caller in between may be told of first
            event = await next_event(events, UNCONFIRMED)
        assert event == UNCONFIRMED("blocking", "block", blocking.address, 0.3)
        assert not (tmp_path / "has ended").exists()
        assert await asking.echo(1) == 1
        (tmp_path / "may end").touch()
        assert await blocking.ping() == "pong"
        assert (tmp_path / "has ended").exists()


@both_drivers
async def test_a_method_that_swallows_the_cancel_and_returns_does_not_keep_its_caller_from_it() -> None:
    async with xsc.open_pool_nursery(pools=2, timeouts=LONG) as n:
        events = n.events()
        board = await n.create_actor(Board, pool="pool-1")
        swallowing = await n.create_actor(Swallowing, board, pool="pool-2")
        left_by: list[Any] = []

        async def call() -> None:
            try:
                left_by.append(await swallowing.swallow("return"))
            except BaseException as exc:
                left_by.append(type(exc))
                raise

        async with cancelled_when(board, "return runs") as group:
            group.start_soon(call)
        assert left_by == [anyio.get_cancelled_exc_class()]
        assert await swallowing.ping() == "pong"
    assert [event async for event in events if isinstance(event, UNCONFIRMED)] == []


@both_drivers
async def test_what_a_method_raises_instead_of_the_cancel_reaches_its_caller() -> None:
    async with xsc.open_pool_nursery(pools=2, timeouts=LONG) as n:
        board = await n.create_actor(Board, pool="pool-1")
        swallowing = await n.create_actor(Swallowing, board, pool="pool-2")
        with pytest.raises(ExceptionGroup) as caught:
            async with cancelled_when(board, "raise runs") as group:
                group.start_soon(swallowing.swallow, "raise")
        assert caught.group_contains(LookupError, match="instead", depth=1)
        assert await swallowing.ping() == "pong"


@both_drivers
async def test_a_caller_leaves_a_stopped_process_after_the_grace_and_the_pool_works_again_later() -> None:
    async with xsc.open_pool_nursery(pools=2, timeouts=SHORT) as n:
        events = n.events()
        first = await n.create_actor(Echo, uid="first", pool="pool-1")
        second = await n.create_actor(Echo, uid="second", pool="pool-2")
        assert await first.ask(second, "echo", 1) == 1
        pid = n.pools["pool-2"].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with anyio.move_on_after(0.1) as scope:
                await second.echo_later(2)
            assert scope.cancelled_caught
            assert (await next_event(events, UNCONFIRMED)).uid == "second"
            with anyio.move_on_after(0.1) as scope:
                await first.ask(second, "echo_later", 2)
            assert scope.cancelled_caught
            assert await first.echo(3) == 3
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await second.echo(4) == 4
        assert await first.ask(second, "echo", 5) == 5


# Callees that have not begun


@pytest.mark.parametrize("by", ["a cancel", "a deadline"])
@pytest.mark.parametrize("hops", [0, 1])
@both_drivers
async def test_a_call_that_waits_at_the_second_actor_never_runs_once_it_is_cancelled(
    hops: int, by: str
) -> None:
    async with xsc.open_pool_nursery(pools=2, timeouts=LONG) as n:
        board = await n.create_actor(Board, pool="pool-1")
        asking = await n.create_actor(Echo, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        async with anyio.create_task_group() as group:
            group.start_soon(busy.work)
            await board.wait("work runs")
            scope = anyio.CancelScope()
            async with anyio.create_task_group() as queued:

                async def call() -> None:
                    with scope:
                        await (asking.ask(busy, "note", "never") if hops else busy.note("never"))

                queued.start_soon(call)
                if by == "a deadline":
                    scope.deadline = anyio.current_time() + 0.2
                else:
                    await anyio.sleep(0.05)
                    scope.cancel()
            assert scope.cancelled_caught
            await board.post("work may end")
        assert await busy.has_run() == ["work"]


# Native


@pytest.mark.parametrize("method", ["sleep", "refuse_cancel"])
def test_an_asyncio_task_that_is_cancelled_twice_leaves_as_one_that_is_cancelled_once(method: str) -> None:
    async def main() -> None:
        timeouts = LONG if method == "sleep" else SHORT
        tasks = len(asyncio.all_tasks())
        async with xsc.open_pool_nursery(pools=2, timeouts=timeouts) as n:
            events = n.events()
            board = await n.create_actor(Board, pool="pool-1")
            busy = await n.create_actor(Busy, board, uid="busy", pool="pool-2")
            task = asyncio.create_task(getattr(busy, method)("it"))
            await board.wait("it runs")
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
            if method == "sleep":
                assert "it was cancelled" in await board.words()
            else:
                assert (await next_event(events, UNCONFIRMED)).method == method
                await board.post("it may end")
            assert await busy.has_run() == []
        assert len(asyncio.all_tasks()) == tasks

    asyncio.run(asyncio.wait_for(main(), BOUND))
