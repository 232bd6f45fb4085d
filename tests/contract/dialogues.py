"""Functions that take part in dialogues, and places where they run, for several contract tests."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board
from tests.contract.streaming import tables
from xoscar_sc.protocol import Demand, End, Item, Started

PLACES = pytest.mark.parametrize("where", ["function", "actor", "same process"])
"""The callee is a function in another pool, an actor's method in another pool, or one in this process."""


class Mine(Exception):
    """Not to be mistaken for another."""


@xsc.context
async def gives(ctx: xsc.Context, first: Any = "first", result: Any = "result") -> Any:
    await ctx.started(first)
    return result


@xsc.context
async def echoes(ctx: xsc.Context, window: int = 64) -> int:
    await ctx.started(os.getpid())
    count = 0
    async with ctx.open_stream(window=window) as stream:
        async for item in stream:
            await stream.send(item)
            count += 1
    return count


@xsc.context
async def sums(ctx: xsc.Context, window: int = 64) -> None:
    """Send the sum when the other side has sent all."""
    await ctx.started()
    async with ctx.open_stream(window=window) as stream:
        total = sum([item async for item in stream])
        await stream.send(total)


@xsc.context
async def sends(ctx: xsc.Context, items: list[Any], board: Any = None) -> str:
    await ctx.started()
    async with ctx.open_stream() as stream:
        for item in items:
            await stream.send(item)
    return "sent"


@xsc.context
async def counts(ctx: xsc.Context, board: Any = None) -> None:
    """Send numbers until nobody reads them, or it is cancelled."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        number = 0
        while True:
            if board is not None:
                await board.post("number", number)
            await stream.send(number)
            number += 1


@xsc.context
async def waits(ctx: xsc.Context, board: Any = None, *, start: bool = True, linger: float = 0) -> None:
    """Wait for a cancellation, and take some time over it."""
    if start:
        await ctx.started()
    elif board is not None:
        await board.post("runs")
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(linger)
            if board is not None:
                await board.post("ended")


@xsc.context
async def refuses(ctx: xsc.Context, board: Any) -> str:
    await ctx.started()
    with anyio.CancelScope(shield=True):
        await board.wait("may end")
    return "at last"


@xsc.context
async def fails(ctx: xsc.Context, board: Any = None, *, start: bool = True) -> None:
    if start:
        await ctx.started()
    if board is not None:
        await board.wait("fail")
    raise Mine("callee") from KeyError("cause")


@xsc.context
async def fails_when_cancelled(ctx: xsc.Context) -> None:
    await ctx.started()
    try:
        await anyio.sleep_forever()
    finally:
        raise Mine("callee")


@xsc.context
async def cancels(ctx: xsc.Context, board: Any = None, *, start: bool = True) -> str:
    if start:
        await ctx.started()
    try:
        await ctx.cancel()
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await ctx.cancel()
            await anyio.sleep(0.01)
            if board is not None:
                await board.post("ended")
    return "never"


@xsc.context
async def misuses(ctx: xsc.Context) -> list[str]:
    """Do what must not be done, and go on."""
    found = []

    async def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            value = function(*args, **kwargs)
            if hasattr(value, "__await__"):
                await value
        except (RuntimeError, TypeError, ValueError, xsc.SerializationError) as exc:
            found.append(type(exc).__name__)

    await attempt(ctx.open_stream)
    await attempt(ctx.result)
    await attempt(ctx.started, threading.Lock())
    await ctx.started("started")
    await attempt(ctx.started)
    for window in (0, True, 1.5):
        await attempt(ctx.open_stream, window=window)
    async with ctx.open_stream() as stream:
        await attempt(ctx.open_stream)
        await stream.send("still there")
        await attempt(stream.send, threading.Lock())
        await stream.send("still there")
    await attempt(ctx.open_stream)
    return found


@xsc.context
async def nests(ctx: xsc.Context, board: Any, depth: int, leaf: str, kept: Any = None) -> None:
    """Open a dialogue that opens a dialogue."""
    try:
        if depth == 0:
            function = {"waits": waits, "cancels": cancels, "fails": fails}[leaf]
            await function(ctx, board)
        async with xsc.open_pool_nursery(pools=1) as n:
            async with n.pools["pool-1"].open_context(nests, board, depth - 1, leaf):
                await ctx.started()
                await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await board.post(f"depth {depth} ended")


@xsc.context
async def returns_at_once(ctx: xsc.Context) -> int:
    return 3


@xsc.context
async def hears_the_end(ctx: xsc.Context, board: Any) -> None:
    """Tell which end a stream has, even if it is cancelled."""
    await ctx.started()
    stream = ctx.open_stream()
    with anyio.CancelScope(shield=True):
        try:
            await board.post("waits")
            await stream.receive()
        except (Exception, anyio.EndOfStream) as exc:
            await board.post("heard", type(exc).__name__)


class Talker(xsc.Actor):
    """Runs what a pool would run, as a method."""

    def __init__(self) -> None:
        self.kept: Any = None

    @xsc.context
    async def run(self, ctx: xsc.Context, name: str, *args: Any, **kwargs: Any) -> Any:
        return await globals()[name](ctx, *args, **kwargs)

    @xsc.context
    async def keep(self, ctx: xsc.Context) -> None:
        """Keep what is of no use later."""
        await ctx.started()
        self.kept = ctx, ctx.open_stream()

    @xsc.context
    async def calls(self, ctx: xsc.Context, ref: Any) -> Any:
        await ctx.started()
        return await ref.ping()

    async def use_kept(self) -> list[str]:
        ctx, stream = self.kept
        found = []
        for function in (lambda: stream.send(1), stream.receive, ctx.started, ctx.open_stream, ctx.cancel):
            try:
                value = function()
                if hasattr(value, "__await__"):
                    await value
            except (RuntimeError, anyio.ClosedResourceError) as exc:
                found.append(type(exc).__name__)
        return found

    def ping(self) -> str:
        return "pong"

    def pid(self) -> int:
        return os.getpid()

    async def holds(self) -> None:
        await anyio.sleep_forever()

    @xsc.no_lock
    def tables(self) -> list[tuple[int, int]]:
        return tables()

    # As the opener

    async def open(self, ref: Any, method: str, *args: Any) -> Any:
        """Open a dialogue, and give what it gives."""
        async with getattr(ref, method).open_context(*args) as (ctx, _):
            return await ctx.result()

    async def open_and_wait(self, ref: Any, board: Any) -> None:
        async with ref.run.open_context("waits", board):
            await board.post("open")
            await anyio.sleep_forever()

    async def say_nonsense(self, ref: Any) -> list[str]:
        """Say what no peer says, over a connection that has a dialogue, a call and a stream on it."""
        found = []
        async with ref.run.open_context("echoes", 3) as (ctx, _):
            channel = ctx._conversation._channel
            ids = [1, 2, *channel._calls, 10**9]
            dialogue = ctx._conversation._message.id
            for call in [*ids, 2**63 - 1]:
                channel.post(Started(call, b"x", b"y"))
                channel.post(Demand(call, 2**62, mine=False))
                channel.post(Item(call, b"x", mine=False))
                channel.post(End(call, mine=False))
                if call != dialogue:
                    channel.post(Item(call, b"x", mine=True))
                    channel.post(Demand(call, 2**62, mine=True))
                    channel.post(End(call, mine=True))
            channel.post(Demand(dialogue, 2**62, mine=True))
            found.append(await ref.ping())
        try:
            async with ref.run.open_context("echoes", 3) as (ctx, _):
                stream = ctx.open_stream()
                await stream.send(1)
                found.append(await stream.receive())
                ctx._talk.side._credit = 1000
                for _ in range(100):
                    stream.send_nowait(1)
                await anyio.sleep_forever()
        except xsc.ConnectionLost as exc:
            found.append(type(exc).__name__)
        found.append(await ref.ping())
        async with ref.run.open_context("gives") as (ctx, _):
            found.append(await ctx.result())
        return found

    async def open_hearing(self, ref: Any, board: Any) -> None:
        async with ref.run.open_context("hears_the_end", board):
            await anyio.sleep_forever()

    async def open_in_nursery(self, ref: Any, board: Any) -> None:
        self._cell().nursery.start_soon(self.open_and_wait, ref, board)


class Place:
    """Where the callees run, and how they are reached."""

    def __init__(self, n: xsc.PoolNursery, where: str, board: Any, ref: Any) -> None:
        self.n = n
        self.board = board
        self.ref = ref
        self.pool = n.pools.get("pool-1")
        self._where = where

    def open(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open a dialogue with one of the functions above."""
        if self._where == "function":
            assert self.pool is not None
            return self.pool.open_context(function, *args, **kwargs)
        return self.ref.run.open_context(function.__name__, *args, **kwargs)

    @property
    def callee(self) -> str:
        """What the canceller is called, if it is the callee."""
        return f"{self.ref.address} " + ("" if self._where == "function" else self.ref.uid)

    async def check_clean(self) -> None:
        """Nothing is left, and everybody goes on."""
        assert await self.ref.ping() == "pong"
        while any(map(any, tables())) or sum(map(sum, await self.ref.tables())) > 1:  # noqa: ASYNC110
            await anyio.sleep(0.001)


@asynccontextmanager
async def place(where: str, **options: Any) -> AsyncIterator[Place]:
    """A nursery with a pool, unless the callee is to be in this process."""
    async with xsc.open_pool_nursery(pools=0 if where == "same process" else 1, **options) as n:
        board = await n.create_actor(Board, uid="board")
        ref = await n.create_actor(Talker, uid="talker")
        yield Place(n, where, board, ref)


def kinds(exc: BaseException) -> set[str]:
    """The types in a group."""
    if isinstance(exc, BaseExceptionGroup):
        return {kind for each in exc.exceptions for kind in kinds(each)}
    return {type(exc).__name__}
