"""A dialogue: how it begins, what it gives, and what must not be done with it."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract import dialogues as d
from tests.contract.dialogues import PLACES, Talker, place
from tests.contract.driving import both_drivers


@PLACES
@both_drivers
async def test_it_begins_with_a_value_and_ends_with_another(where: str) -> None:
    async with place(where) as p:
        async with p.open(d.gives, "hello", [1, 2]) as (ctx, first):
            assert first == "hello"
            assert await ctx.result() == [1, 2]
            assert await ctx.result() == [1, 2]
        assert await ctx.result() == [1, 2]
        async with p.open(d.gives) as (ctx, first):
            assert first == "first"
        assert p.ref.address in ctx.peer
        assert "Context with" in repr(ctx)
        await p.check_clean()


@PLACES
@both_drivers
async def test_messages_go_both_ways(where: str) -> None:
    async with place(where) as p:
        async with p.open(d.echoes) as (ctx, _):
            async with ctx.open_stream() as stream:
                for number in range(500):
                    await stream.send(number)
                    assert await stream.receive() == number
            assert await ctx.result() == 500
        await p.check_clean()


@PLACES
@both_drivers
async def test_who_returns_before_it_has_started_makes_a_runtime_error(where: str) -> None:
    async with place(where) as p:
        with pytest.raises(RuntimeError, match="before it called started"):
            async with p.open(d.returns_at_once):
                pytest.fail("the block was entered")
        await p.check_clean()


@pytest.mark.parametrize("where", ["function", "actor"])
@both_drivers
async def test_misuse_is_refused_and_the_dialogue_goes_on(where: str) -> None:
    async with place(where) as p:
        async with p.open(d.misuses) as (ctx, first):
            with pytest.raises(RuntimeError, match="was opened"):
                await ctx.started()
            assert first == "started"
            async with ctx.open_stream() as stream:
                with pytest.raises(RuntimeError, match="a stream already"):
                    ctx.open_stream()
                found = [item async for item in stream]
            result = await ctx.result()
        expected = ["RuntimeError", "RuntimeError", "SerializationError", "RuntimeError"]
        expected += [
            "ValueError",
            "TypeError",
            "TypeError",
            "RuntimeError",
            "SerializationError",
            "RuntimeError",
        ]
        assert found == ["still there"] * 2
        assert result == expected
        await p.check_clean()


@both_drivers
async def test_copies_are_asked_for_and_then_what_cannot_be_copied_is_refused_at_its_sender() -> None:
    async with place("same process") as p:
        ref = p.ref.options(copy=True)
        async with ref.run.open_context("misuses") as (ctx, first):
            assert first == "started"
            async with ctx.open_stream() as stream:
                assert [item async for item in stream] == ["still there"] * 2
            assert (await ctx.result()).count("SerializationError") == 2
        value = [1]
        async with ref.run.open_context("echoes") as (ctx, _), ctx.open_stream() as stream:
            await stream.send(value)
            got = await stream.receive()
            assert got == value
            assert got is not value
        async with p.open(d.gives, value) as (ctx, first):
            assert first is value


@both_drivers
async def test_only_contexts_are_opened_and_contexts_are_only_opened() -> None:
    async with place("actor") as p:
        with pytest.raises(TypeError, match="it is opened with open_context"):
            await p.ref.run("gives")
        with pytest.raises(TypeError, match="is no context"):
            async with p.ref.ping.open_context():
                pytest.fail("the block was entered")
        assert p.pool is not None
        with pytest.raises(TypeError, match="mark it with context"):
            p.pool.open_context(d.tables)
        with pytest.raises(TypeError):
            p.ref.keep.open_context(1, 2, 3)
        with pytest.raises(TypeError, match="no async function"):
            xsc.context(lambda ctx: None)
        with pytest.raises(xsc.SerializationError):
            async with p.pool.open_context(d.gives, threading.Lock()):
                pytest.fail("the block was entered")
        with pytest.raises(TypeError, match="positional"):
            async with p.pool.open_context(d.gives, 1, 2, 3, 4):
                pytest.fail("the block was entered")
        await p.ref.destroy()
        with pytest.raises(xsc.ActorNotExist):
            async with p.ref.run.open_context("gives"):
                pytest.fail("the block was entered")


@PLACES
@both_drivers
async def test_what_opens_a_dialogue_opens_one(where: str) -> None:
    async with place(where) as p:
        opener = p.open(d.gives)
        async with opener:
            pass
        with pytest.raises(RuntimeError, match="opened already"):
            async with opener:
                pytest.fail("the block was entered")


@PLACES
@both_drivers
async def test_it_is_of_no_use_after_its_block(where: str) -> None:
    async with place(where) as p:
        async with p.open(d.echoes) as (ctx, _):
            stream = ctx.open_stream()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(1)
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()
        await ctx.cancel()
        assert await ctx.result() == 0
        async with p.open(d.gives) as (ctx, _):
            pass
        with pytest.raises(anyio.ClosedResourceError):
            await ctx.open_stream().receive()
        await p.check_clean()


@PLACES
@both_drivers
async def test_nor_on_the_other_side(where: str) -> None:
    async with place(where) as p:
        async with p.ref.keep.open_context():
            pass
        assert await p.ref.use_kept() == ["ClosedResourceError"] * 2 + ["RuntimeError"] * 2
        await p.check_clean()


@PLACES
@both_drivers
async def test_a_result_is_waited_for_by_many(where: str) -> None:
    async with place(where) as p:
        found: list[Any] = []

        async def wait(ctx: xsc.Context) -> None:
            found.append(await ctx.result())

        async with p.open(d.echoes) as (ctx, _):
            async with anyio.create_task_group() as group:
                group.start_soon(wait, ctx)
                group.start_soon(wait, ctx)
                with anyio.move_on_after(0.01):
                    await ctx.result()
                async with ctx.open_stream() as stream:
                    await stream.send(1)
                    await stream.receive()
        assert found == [1, 1]


@PLACES
@both_drivers
async def test_other_messages_are_handled_beside_it(where: str) -> None:
    async with place(where) as p:
        async with anyio.create_task_group() as group:
            group.start_soon(p.ref.holds)
            async with p.open(d.echoes) as (ctx, _), ctx.open_stream() as stream:
                await stream.send(1)
                assert await stream.receive() == 1
            group.cancel_scope.cancel()
        async with p.open(d.echoes):
            assert await p.ref.ping() == "pong"


@pytest.mark.parametrize("pools", [0, 2])
@both_drivers
async def test_an_actor_opens_one_with_another(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        one = await n.create_actor(Talker, uid="one", pool="pool-1" if pools else None)
        other = await n.create_actor(Talker, uid="other", pool="pool-2" if pools else None)
        assert await one.open(other, "run", "gives") == "result"
        assert await one.open(one, "run", "gives") == "result"
        with pytest.raises(xsc.DeadlockError):  # the opener has its lock, and waits for whom it has opened
            await one.open(other, "calls", one)
        with pytest.raises(xsc.DeadlockError):
            await one.open(one, "calls", one)
        assert await one.open(one, "calls", other) == "pong"
        with pytest.raises(xsc.ContextCancelled) as caught:
            await one.open(other, "run", "cancels")
        assert caught.value.canceller == f"{other.address} other"


@both_drivers
async def test_many_one_after_the_other() -> None:
    async with place("function") as p:
        for number in range(1000):
            async with p.open(d.gives, number, -number) as (ctx, first):
                assert first == number
                assert await ctx.result() == -number
        await p.check_clean()


@both_drivers
async def test_many_at_the_same_time() -> None:
    async with place("actor") as p:
        opened = 0
        everybody = anyio.Event()

        async def talk(number: int) -> None:
            nonlocal opened
            async with p.open(d.echoes) as (ctx, _), ctx.open_stream() as stream:
                opened += 1
                if opened == 100:
                    everybody.set()
                await everybody.wait()
                for turn in range(20):
                    await stream.send((number, turn))
                for turn in range(20):
                    assert await stream.receive() == (number, turn)

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(talk, number)
        await p.check_clean()
