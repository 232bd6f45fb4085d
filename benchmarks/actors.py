"""The actors that the package is measured with."""

from __future__ import annotations

import cProfile
import io
import pstats
from collections.abc import AsyncIterator
from time import perf_counter

import trio

import xoscar_sc as xsc
from benchmarks.bare import time_awaits
from benchmarks.common import PAGE, PAYLOAD, Values


class Echo(xsc.Actor):
    """Called by the measurements."""

    stopped = 0.0

    async def plain(self, value: bytes) -> bytes:
        return value

    def sync(self, value: bytes) -> bytes:
        return value

    async def waits(self, value: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return value

    @xsc.context
    async def talk(self, ctx: xsc.Context) -> None:
        await ctx.started()
        async with ctx.open_stream() as stream:
            async for value in stream:
                await stream.send(value)

    async def look(self, value: memoryview) -> int:
        return sum(value[::PAGE])

    def target(self, size: int) -> xsc.BufferRef:
        """A buffer to be copied into, instead of the one before."""
        self.view = memoryview(bytearray(size))
        return xsc.buffer_ref(self.address, self.view)

    async def add(self, number: int) -> int:
        return number + 1

    async def numbers(self, count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield PAYLOAD

    async def hang(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.stopped = perf_counter()

    async def when_stopped(self) -> float:
        return self.stopped


class Caller(xsc.Actor):
    """Calls another actor, and times it."""

    async def time(self, name: str, other: xsc.ActorRef[Echo], seconds: float, each: int) -> Values:
        async def calls() -> None:
            for _ in range(each):
                await other.plain(PAYLOAD)

        values = await time_awaits(name, calls, seconds)
        return {key: value / each for key, value in values.items()}


class Profiler(xsc.StatelessActor):
    """Profiles its pool."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile()

    def begin(self) -> None:
        self._profile.enable()

    def end(self, lines: int) -> str:
        self._profile.disable()
        return report(self._profile, lines)


def report(profile: cProfile.Profile, lines: int) -> str:
    out = io.StringIO()
    pstats.Stats(profile, stream=out).sort_stats("tottime").print_stats(lines)
    return out.getvalue()
