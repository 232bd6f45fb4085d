"""The values of one stream, at the reader's end."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from tests.contract.driving import both_drivers
from tests.loop.waiting import settle, until
from xoscar_sc.errors import ProtocolError
from xoscar_sc.ipc import WINDOW, Flow
from xoscar_sc.loop import Loop, open_loop


class Other:
    """The other end: what it has been told."""

    def __init__(self, loop: Loop, window: int = WINDOW) -> None:
        self.demands: list[int] = []
        self.flow = Flow(loop, self.demands.append, window=window)

    async def read(self, count: int) -> list[Any]:
        found = []
        for _ in range(count):
            assert await self.flow.peek()
            found.append(self.flow.take())
        return found


@both_drivers
async def test_values_come_in_order_and_the_answer_after_them() -> None:
    async with open_loop() as loop:
        other = Other(loop)
        for value in range(5):
            other.flow.put(value)
        other.flow.set("the end")
        assert await other.read(5) == list(range(5))
        assert not await other.flow.peek()
        assert not await other.flow.peek()
        assert other.flow.value == "the end"
        assert await other.flow.wait() == "the end"


@both_drivers
async def test_the_first_answer_counts() -> None:
    async with open_loop() as loop:
        flow = Other(loop).flow
        flow.set("first")
        flow.set("second")
        assert flow.value == "first"


@both_drivers
async def test_each_half_a_window_that_was_read_is_told() -> None:
    async with open_loop() as loop:
        other = Other(loop, window=8)
        for value in range(8):
            other.flow.put(value)
        await other.read(3)
        assert other.demands == []
        await other.read(1)
        assert other.demands == [4]
        await other.read(4)
        assert other.demands == [4, 4]


@both_drivers
async def test_a_window_of_one_tells_of_each_value() -> None:
    async with open_loop() as loop:
        other = Other(loop, window=1)
        for value in range(3):
            other.flow.put(value)
            assert await other.read(1) == [value]
        assert other.demands == [1, 1, 1]


@both_drivers
async def test_nothing_is_told_once_the_answer_is_here() -> None:
    async with open_loop() as loop:
        other = Other(loop, window=2)
        other.flow.put(1)
        other.flow.put(2)
        other.flow.set(None)
        await other.read(2)
        assert other.demands == []


@both_drivers
async def test_more_than_a_window_breaks_the_protocol() -> None:
    async with open_loop() as loop:
        flow = Other(loop, window=3).flow
        for value in range(3):
            flow.put(value)
        with pytest.raises(ProtocolError, match="more than 3 values"):
            flow.put(3)


@both_drivers
async def test_a_reader_is_woken_by_a_value_and_by_the_answer() -> None:
    async with open_loop() as loop:
        other = Other(loop)
        found: list[Any] = []

        async def read() -> None:
            while await other.flow.peek():
                found.append(other.flow.take())
            found.append(other.flow.value)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await settle()
            other.flow.put("value")
            await until(lambda: found == ["value"])
            await settle()
            other.flow.set("answer")
        assert found == ["value", "answer"]


@both_drivers
async def test_one_task_reads_at_a_time() -> None:
    async with open_loop() as loop:
        other = Other(loop)
        found: list[Any] = []
        refused: list[str] = []

        async def read() -> None:
            try:
                found.extend(await other.read(1))
            except RuntimeError as exc:
                refused.append(str(exc))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(read)
            await until(lambda: len(refused) == 2)
            other.flow.put("value")
        assert found == ["value"]
        assert refused == ["another task is reading this stream already"] * 2
        other.flow.put("next")
        assert await other.read(1) == ["next"]


@both_drivers
async def test_the_answer_can_be_waited_for_while_another_reads() -> None:
    async with open_loop() as loop:
        other = Other(loop)
        found: list[Any] = []

        async def wait() -> None:
            found.append(await other.flow.wait())

        async def read() -> None:
            found.append(await other.flow.peek())

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(read)
            group.start_soon(wait)
            await settle()
            other.flow.set("answer")
        assert sorted(found, key=str) == [False, "answer", "answer"]


@both_drivers
async def test_a_cancelled_reader_loses_nothing_and_can_go_on() -> None:
    async with open_loop() as loop:
        other = Other(loop)
        draw = random.Random(3)
        found: list[int] = []
        async with anyio.create_task_group() as group:

            async def write() -> None:
                for value in range(300):
                    while value - len(found) > 30:
                        await anyio.lowlevel.checkpoint()
                    other.flow.put(value)
                    for _ in range(draw.randrange(4)):
                        await anyio.lowlevel.checkpoint()

            group.start_soon(write)
            while len(found) < 300:
                with anyio.CancelScope() as scope:
                    for _ in range(draw.randrange(5)):
                        found += await other.read(1)
                        if len(found) == 300:
                            break
                    scope.cancel()
                    if len(found) < 300:
                        found += await other.read(1)
        assert found == list(range(300))
        assert sum(other.demands) >= 300 - WINDOW // 2


@both_drivers
async def test_a_wait_for_the_answer_that_was_given_up_leaves_nothing() -> None:
    async with open_loop() as loop:
        flow = Other(loop).flow
        with anyio.move_on_after(0.001) as scope:
            await flow.wait()
        assert scope.cancelled_caught
        flow.set("answer")
        assert await flow.wait() == "answer"


@both_drivers
async def test_what_nobody_reads_is_thrown_away_and_what_still_comes_too() -> None:
    async with open_loop() as loop:
        flow = Other(loop, window=2).flow
        flow.put(1)
        flow.clear()
        for value in range(10):
            flow.put(value)
        flow.set("answer")
        assert not await flow.peek()
