"""The two-way stream of a dialogue: order, windows, ends, and what one stream does to another."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract import dialogues as d
from tests.contract.dialogues import PLACES, place
from tests.contract.driving import both_drivers


@PLACES
@pytest.mark.parametrize("window", [1, 2, 7, 64])
@both_drivers
async def test_messages_come_in_order_through_any_window(where: str, window: int) -> None:
    async with place(where) as p:
        found: list[int] = []
        async with p.open(d.echoes, window) as (ctx, _), ctx.open_stream(window=window) as stream:

            async def read() -> None:
                found.extend([item async for item in stream])

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                for number in range(300):
                    await stream.send(number)
                await stream.send_eof()
        assert found == list(range(300))
        await p.check_clean()


@PLACES
@both_drivers
async def test_nothing_is_sent_before_the_other_side_has_opened_its_stream_and_no_more_than_its_window(
    where: str,
) -> None:
    async with place(where) as p:
        with pytest.raises(anyio.BrokenResourceError):  # the callee's, whose reader has gone
            async with p.open(d.counts, p.board) as (ctx, _):
                await p.board.wait("number")
                for _ in range(20):  # a chance to go too far
                    assert await p.board.wait("number") == 0
                async with ctx.open_stream(window=5) as stream:
                    while await p.board.wait("number") < 5:
                        pass
                    for read in range(30):
                        assert await p.board.wait("number") <= read + 5
                        assert await stream.receive() == read
        await p.check_clean()


@PLACES
@both_drivers
async def test_sending_and_receiving_without_waiting(where: str) -> None:
    async with place(where) as p:
        async with p.open(d.echoes, 2) as (ctx, _), ctx.open_stream(window=2) as stream:
            with pytest.raises(anyio.WouldBlock):
                stream.receive_nowait()
            await stream.send(0)
            assert await stream.receive() == 0
            sent = 0
            with pytest.raises(anyio.WouldBlock):
                while True:
                    stream.send_nowait(sent)
                    sent += 1
            assert 1 <= sent <= 2
            got: list[int] = []
            while len(got) < sent:
                try:
                    got.append(stream.receive_nowait())
                except anyio.WouldBlock:
                    await anyio.lowlevel.checkpoint()
            assert got == list(range(sent))


# Ends


@PLACES
@both_drivers
async def test_who_has_sent_all_goes_on_reading(where: str) -> None:
    async with place(where) as p:
        async with p.open(d.sums) as (ctx, _), ctx.open_stream() as stream:
            for number in range(200):
                await stream.send(number)
            await stream.send_eof()
            await stream.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await stream.send(1)
            with pytest.raises(anyio.ClosedResourceError):
                stream.send_nowait(1)
            assert [item async for item in stream] == [sum(range(200))]
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            with pytest.raises(anyio.EndOfStream):
                stream.receive_nowait()
        await p.check_clean()


@PLACES
@both_drivers
async def test_who_closes_reads_no_more_and_the_other_cannot_send(where: str) -> None:
    async with place(where) as p:
        with pytest.raises(anyio.BrokenResourceError, match="closed its stream"):
            async with p.open(d.sums) as (ctx, _):
                stream = ctx.open_stream()
                await stream.send(1)
                await stream.aclose()
                await stream.aclose()
                for function in (stream.receive, stream.receive_nowait, lambda: stream.send(1)):
                    with pytest.raises(anyio.ClosedResourceError):
                        await function()
                await anyio.sleep_forever()
        await p.check_clean()


@PLACES
@both_drivers
async def test_a_writer_that_waits_is_told_that_nobody_reads_any_more(where: str) -> None:
    async with place(where) as p:
        with anyio.fail_after(10):
            with pytest.raises(anyio.BrokenResourceError):
                async with p.open(d.counts) as (ctx, _):
                    async with ctx.open_stream(window=3) as stream:
                        assert await stream.receive() == 0
            with pytest.raises(anyio.BrokenResourceError):  # this side's stream was never there
                async with p.open(d.counts):
                    pass
        async with p.open(d.sends, [1, 2, 3]) as (ctx, _), ctx.open_stream() as stream:
            while True:
                try:
                    await stream.send(0)
                except anyio.BrokenResourceError:
                    break
                except anyio.WouldBlock:
                    pytest.fail("send() waits")
                if await stream.receive() == 3:
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()
            assert await ctx.result() == "sent"
        await p.check_clean()


@PLACES
@both_drivers
async def test_a_reader_and_a_writer_that_wait_are_told_that_this_side_was_closed(where: str) -> None:
    async with place(where) as p:
        found: list[str] = []

        async def attempt(function: Any, *args: Any) -> None:
            try:
                while True:
                    await function(*args)
            except anyio.ClosedResourceError:
                found.append("closed")

        async with p.open(d.waits) as (ctx, _):
            stream = ctx.open_stream()
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(attempt, stream.receive)
                    group.start_soon(attempt, stream.send, 1)
                await anyio.wait_all_tasks_blocked()
                await stream.aclose()
            assert found == ["closed"] * 6
            await ctx.cancel()
        await p.check_clean()


@PLACES
@both_drivers
async def test_an_error_is_no_end_of_the_stream(where: str) -> None:
    async with place(where) as p:
        with pytest.raises(d.Mine):
            async with p.open(d.fails, p.board) as (ctx, _), ctx.open_stream() as stream:
                await p.board.post("fail")
                async for _ in stream:
                    pytest.fail("nothing was sent")
                pytest.fail("the stream has not ended")
        await p.check_clean()


# What is sent


@PLACES
@both_drivers
async def test_what_cannot_be_sent_is_refused_and_the_dialogue_goes_on(where: str) -> None:
    async with place(where) as p:
        async with p.open(d.echoes, 1) as (ctx, _), ctx.open_stream() as stream:
            if where != "same process":
                for _ in range(5):
                    with pytest.raises(xsc.SerializationError):
                        await stream.send(threading.Lock())
            await stream.send("fine")
            assert await stream.receive() == "fine"


@both_drivers
async def test_who_cannot_use_a_place_leaves_it_to_the_next() -> None:
    async with place("actor") as p:
        async with p.open(d.echoes, 1) as (ctx, _), ctx.open_stream() as stream:

            async def refused() -> None:
                with pytest.raises(xsc.SerializationError):
                    await stream.send(threading.Lock())

            await stream.send("first")
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(refused)
                group.start_soon(stream.send, "second")
            assert [await stream.receive() for _ in range(2)] == ["first", "second"]


@pytest.mark.parametrize("where", ["function", "actor"])
@both_drivers
async def test_large_ones_and_small_ones_keep_their_order_up_to_the_end_and_the_result(where: str) -> None:
    sizes = [1, 300 << 10, 2, 5 << 20, 3, 64 << 10, 300 << 10, 4]
    async with place(where) as p:
        items = [bytes([at]) * size for at, size in enumerate(sizes)]
        async with p.open(d.echoes) as (ctx, _), ctx.open_stream() as stream:
            for item in items:
                await stream.send(item)
            await stream.send_eof()
            assert [bytes(item) async for item in stream] == items
            assert await ctx.result() == len(items)
        async with p.open(d.sends, items) as (ctx, _), ctx.open_stream() as stream:
            assert [bytes(item) async for item in stream] == items
            assert await ctx.result() == "sent"
        async with p.open(d.gives, items[3], items[3]) as (ctx, first):
            assert first == items[3] == await ctx.result()
        await p.check_clean()


# Beside others


@pytest.mark.parametrize("where", ["function", "actor"])
@both_drivers
async def test_a_slow_reader_holds_up_its_writer_and_nobody_else(where: str) -> None:
    async with place(where) as p:
        with anyio.CancelScope() as scope:
            async with p.open(d.counts, p.board) as (ctx, _), ctx.open_stream(window=4) as slow:
                while await p.board.wait("number") < 4:
                    pass
                for _ in range(50):
                    assert await p.ref.ping() == "pong"
                assert await p.board.wait("number") == 4
                async with p.open(d.echoes) as (other, _), other.open_stream() as quick:
                    for number in range(300):
                        await quick.send(number)
                        assert await quick.receive() == number
                assert await p.board.wait("number") == 4
                assert [await slow.receive() for _ in range(20)] == list(range(20))
                scope.cancel()
                await anyio.sleep_forever()
        await p.check_clean()


@PLACES
@both_drivers
async def test_a_busy_writer_that_is_cancelled_is_no_broken_one(where: str) -> None:
    async with place(where) as p:
        for turn in range(100):
            with anyio.CancelScope() as scope:
                async with p.open(d.counts) as (ctx, _), ctx.open_stream(window=1 + turn % 5) as stream:
                    for number in range(turn % 20):
                        assert await stream.receive() == number
                    scope.cancel()
                    await anyio.sleep_forever()
            with pytest.raises(LookupError):
                async with p.open(d.counts) as (ctx, _), ctx.open_stream(window=1 + turn % 5) as stream:
                    for number in range(turn % 20):
                        assert await stream.receive() == number
                    raise LookupError
        await p.check_clean()


@PLACES
@both_drivers
async def test_many_tasks_use_one_stream(where: str) -> None:
    async with place(where) as p:
        found: list[int] = []

        async def write(stream: xsc.Stream, start: int) -> None:
            for number in range(start, start + 100):
                await stream.send(number)

        async def read(stream: xsc.Stream) -> None:
            while len(found) < 400:
                with anyio.move_on_after(0.001):  # nothing is lost by that
                    found.append(await stream.receive())

        async with p.open(d.echoes, 3) as (ctx, _), ctx.open_stream(window=3) as stream:
            async with anyio.create_task_group() as group:
                for at in range(4):
                    group.start_soon(write, stream, at * 100)
                while len(found) < 400:
                    async with anyio.create_task_group() as readers:
                        for _ in range(3):
                            readers.start_soon(read, stream)
                        while len(found) < 400:  # noqa: ASYNC110
                            await anyio.sleep(0.001)
                        readers.cancel_scope.cancel()
        assert sorted(found) == list(range(400))
        for at in range(4):
            part = [each for each in found if at * 100 <= each < at * 100 + 100]
            assert part == sorted(part)
        await p.check_clean()
