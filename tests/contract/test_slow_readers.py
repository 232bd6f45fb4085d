"""Readers that do not keep up, of streams without end: memory stays flat, on both sides."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from typing import Any

import anyio
import psutil
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, count

MESSAGES = "XSC_CONTRACT_MESSAGES"
"""How many messages; a million by hand."""
ROOM = 24 << 20
"""Bytes that a process may grow by: far less than a buffer without a bound would take for the messages below."""
VALUE = b"v" * 1024


def resident(pid: int) -> int:
    gc.collect()
    return int(psutil.Process(pid).memory_info().rss)


class Source(xsc.Actor):
    @xsc.context
    async def flow(self, ctx: xsc.Context, number: int) -> int:
        await ctx.started()
        async with ctx.open_stream() as stream:
            for _ in range(number):
                await stream.send(VALUE)
        return number

    async def values(self, number: int) -> AsyncIterator[bytes]:
        for _ in range(number):
            yield VALUE

    @xsc.no_lock
    def pid(self) -> int:
        return os.getpid()


@pytest.mark.parametrize("overflow", ["drop_oldest", "raise"])
@both_drivers
async def test_a_subscriber_that_never_reads_costs_its_buffer_and_no_more(overflow: Any) -> None:
    number = count(MESSAGES, 40_000)
    async with xsc.open_pool_nursery(pools=1) as n:
        source = await n.create_actor(Source)
        pids = os.getpid(), await source.pid()
        async with source.flow.open_context(1000) as (ctx, _), ctx.open_stream() as stream:
            assert len([value async for value in stream]) == 1000
        before = [resident(pid) for pid in pids]
        async with source.flow.open_context(number) as (ctx, _), ctx.open_stream() as stream:
            async with (
                stream.subscribe(max_buffer=10, overflow=overflow) as idle,
                stream.subscribe() as quick,
            ):
                seen = 0
                async for _ in quick:
                    seen += 1
                assert seen == number
                missed = 0
                kept = 0
                while True:
                    try:
                        await idle.receive()
                        kept += 1
                    except xsc.Lagged as exc:
                        missed += exc.missed
                    except anyio.EndOfStream:
                        break
                assert kept == 10
                assert missed == (number - 10 if overflow == "raise" else 0)
        after = [resident(pid) for pid in pids]
        assert all(late - early < ROOM for early, late in zip(before, after, strict=True)), (before, after)


@both_drivers
async def test_a_reader_that_pauses_holds_up_the_writer_and_memory_stays_flat() -> None:
    number = count(MESSAGES, 40_000)
    async with xsc.open_pool_nursery(pools=1) as n:
        source = await n.create_actor(Source)
        pids = os.getpid(), await source.pid()
        async with source.values(1000) as stream:
            assert len([value async for value in stream]) == 1000
        before = [resident(pid) for pid in pids]
        async with source.values(number) as stream:
            seen = 0
            async for _ in stream:
                seen += 1
                if seen == number // 2:
                    await anyio.sleep(0.2)  # the writer would be far ahead by now
                    assert all(resident(pid) - early < ROOM for pid, early in zip(pids, before, strict=True))
            assert seen == number
        assert all(resident(pid) - early < ROOM for pid, early in zip(pids, before, strict=True))
