"""Many readers of one stream: each gets every message, or is told how many it has missed."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract import dialogues as d
from tests.contract.dialogues import PLACES, place
from tests.contract.driving import both_drivers


async def rest(copy: xsc.Subscription) -> list[Any]:
    """All that a subscriber gets, and in its place what it has missed."""
    found: list[Any] = []
    while True:
        try:
            found.append(await copy.receive())
        except xsc.Lagged as exc:
            found.append(("missed", exc.missed))
        except anyio.EndOfStream:
            return found


@PLACES
@both_drivers
async def test_every_subscriber_gets_every_message(where: str) -> None:
    async with place(where) as p:
        found: list[list[Any]] = []

        async def read(stream: xsc.Stream, buffer: int) -> None:
            async with stream.subscribe(max_buffer=buffer) as copy:
                ready.append(copy)
                found.append([item async for item in copy])

        ready: list[Any] = []
        async with p.open(d.echoes) as (ctx, _), ctx.open_stream(window=5) as stream:
            async with anyio.create_task_group() as group:
                for buffer in (1, 2, 64):
                    group.start_soon(read, stream, buffer)
                await anyio.wait_all_tasks_blocked()
                assert len(ready) == 3
                with pytest.raises(RuntimeError, match="subscribers"):
                    await stream.receive()
                with pytest.raises(RuntimeError, match="subscribers"):
                    stream.receive_nowait()
                for number in range(200):
                    await stream.send(number)
                await stream.send_eof()
        assert found == [list(range(200))] * 3
        await p.check_clean()


@PLACES
@both_drivers
async def test_a_slow_one_loses_the_oldest_or_is_told_or_holds_up_the_others(where: str) -> None:
    async with place(where) as p:
        async with p.open(d.sends, list(range(20))) as (ctx, _), ctx.open_stream() as stream:
            async with (
                stream.subscribe(max_buffer=3, overflow="drop_oldest") as newest,
                stream.subscribe(max_buffer=3, overflow="raise") as oldest,
                stream.subscribe(max_buffer=1) as quick,
            ):
                assert [await quick.receive() for _ in range(10)] == list(range(10))
                assert await oldest.receive() == 0
                assert [await quick.receive() for _ in range(2)] == [10, 11]
                # A place was free for 10, behind the gap; 11 found none.
                assert [await oldest.receive() for _ in range(2)] == [1, 2]
                with pytest.raises(xsc.Lagged) as caught:
                    await oldest.receive()
                assert caught.value.missed == 7
                assert await oldest.receive() == 10
                with pytest.raises(xsc.Lagged) as caught:
                    await oldest.receive()
                assert caught.value.missed == 1
                assert [await newest.receive() for _ in range(3)] == [9, 10, 11]
                async with stream.subscribe(max_buffer=2) as blocks:
                    assert [await quick.receive() for _ in range(2)] == [12, 13]
                    with anyio.move_on_after(0.02) as scope:
                        await quick.receive()
                    assert scope.cancelled_caught
                    assert await blocks.receive() == 12
                    assert await quick.receive() == 14
                assert await quick.receive() == 15  # who has gone blocks nobody
                assert await rest(quick) == [16, 17, 18, 19]
                assert await rest(newest) == [17, 18, 19]
                assert await rest(oldest) == [12, 13, 14, ("missed", 5)]
                with pytest.raises(anyio.EndOfStream):
                    await quick.receive()
        await p.check_clean()


@both_drivers
async def test_the_reader_for_all_may_be_cancelled_and_nothing_is_lost() -> None:
    async with place("actor") as p:
        found: dict[int, list[int]] = {0: [], 1: []}

        async def read(copy: xsc.Subscription, to: list[int]) -> None:
            while len(to) < 300:
                with anyio.move_on_after(0.0005):
                    while len(to) < 300:
                        to.append(await copy.receive())

        async with p.open(d.sends, list(range(300))) as (ctx, _), ctx.open_stream(window=4) as stream:
            async with stream.subscribe(max_buffer=4) as one, stream.subscribe(max_buffer=4) as other:
                async with anyio.create_task_group() as group:
                    group.start_soon(read, one, found[0])
                    group.start_soon(read, other, found[1])
        assert found[0] == found[1] == list(range(300))


@PLACES
@both_drivers
async def test_all_hear_of_an_error(where: str) -> None:
    async with place(where) as p:
        found: list[str] = []

        async def read(copy: xsc.Subscription) -> None:
            try:
                await copy.receive()
            except Exception as exc:
                found.append(type(exc).__name__)

        async with p.open(d.waits) as (ctx, _), ctx.open_stream() as stream:
            async with stream.subscribe() as one, stream.subscribe() as other:
                async with anyio.create_task_group() as group:
                    group.start_soon(read, one)
                    group.start_soon(read, other)
                    await anyio.wait_all_tasks_blocked()
                    await ctx.cancel()
                await read(one)
        assert found == ["ContextCancelled"] * 3
        async with p.open(d.waits) as (ctx, _):
            stream = ctx.open_stream()
            copy = stream.subscribe()
            with pytest.raises(anyio.ClosedResourceError):
                await copy.receive()
            async with copy:
                await stream.aclose()
                with pytest.raises(anyio.ClosedResourceError):
                    await copy.receive()
            await ctx.cancel()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_buffer": 0}, ValueError),
        ({"max_buffer": True}, TypeError),
        ({"max_buffer": 1.5}, TypeError),
        ({"overflow": "wait"}, ValueError),
    ],
)
@both_drivers
async def test_wrong_arguments_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    async with place("same process") as p, p.open(d.echoes) as (ctx, _), ctx.open_stream() as stream:
        with pytest.raises(error):
            stream.subscribe(**options)
