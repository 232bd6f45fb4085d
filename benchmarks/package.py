"""The package itself."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from time import perf_counter

import trio

import xoscar_sc as xsc
from benchmarks import durable
from benchmarks.actors import Caller, Echo
from benchmarks.bare import count_calls, serve_trio, time_awaits
from benchmarks.common import (
    ARRAYS,
    BATCH,
    LARGE,
    PAGE,
    PAYLOAD,
    SIZES,
    TELLS,
    WHOLE,
    Control,
    Values,
    enough,
    fit,
)


class Package:
    """Measurements, by name."""

    def __init__(
        self, echo: xsc.ActorRef[Echo], near: xsc.ActorRef[Echo], caller: xsc.ActorRef[Caller]
    ) -> None:
        self.echo = echo
        self.near_echo = near
        self.caller = caller

    async def call(self, seconds: float) -> Values:
        echo = self.echo
        values = await time_awaits("call", lambda: echo.plain(PAYLOAD), seconds)
        values |= await time_awaits("sync", lambda: echo.sync(PAYLOAD), seconds)
        return values | await time_awaits("waits", lambda: echo.waits(PAYLOAD), seconds)

    async def rate(self, callers: int, seconds: float) -> Values:
        echo = self.echo
        return {f"rate.{callers}": await count_calls(lambda: echo.plain(PAYLOAD), callers, seconds)}

    async def tell(self, seconds: float) -> Values:
        begun, told = perf_counter(), 0
        while perf_counter() < begun + seconds:
            for _ in range(TELLS):
                await self.echo.plain.tell(PAYLOAD)
            told += TELLS
        await self.echo.plain(PAYLOAD)
        return {"tell": told / (perf_counter() - begun)}

    async def batch(self, seconds: float) -> Values:
        add = self.echo.add
        calls = [add.delay(number) for number in range(BATCH)]
        begun, items = perf_counter(), 0
        while perf_counter() < begun + seconds:
            items += len(await add.batch(*calls))
        return {"batch": items / (perf_counter() - begun)}

    async def read(self, seconds: float) -> Values:
        """Values of streams, read by one task."""
        begun, items = perf_counter(), 0
        while perf_counter() < begun + seconds:
            async for _ in self.echo.numbers(TELLS):
                items += 1
        return {"read": items / (perf_counter() - begun)}

    async def talk(self, seconds: float) -> Values:
        """One message each way, through the stream of a dialogue that is open."""
        async with self.echo.talk.open_context() as (ctx, _), ctx.open_stream() as stream:

            async def back() -> None:
                await stream.send(PAYLOAD)
                await stream.receive()

            return await time_awaits("talk", back, seconds)

    async def array(self, seconds: float) -> Values:
        echo, values = self.echo, Values()

        async def back(value: memoryview) -> None:
            sum((await echo.plain(value))[::PAGE])

        for name, size in ARRAYS.items():
            value = memoryview(bytearray(size))
            values |= await time_awaits(f"array.to.{name}", partial(echo.look, value), seconds)
            values |= await time_awaits(f"array.back.{name}", partial(back, value), seconds)
        return values

    async def sizes(self, sizes: dict[str, int], seconds: float) -> Values:
        """A value of each size one way, there and back, and shared."""
        echo, values = self.echo, Values()

        async def back(value: memoryview) -> None:
            sum((await echo.plain(value))[::PAGE])

        for name, size in fit(sizes).items():
            value = memoryview(bytearray(size))
            shared = xsc.share(value)
            for way, call in (
                ("to", partial(echo.look, value)),
                ("back", partial(back, value)),
                ("shared", partial(echo.look, shared)),
            ):
                samples: list[float] = []
                for counts in enough(seconds):
                    before = perf_counter()
                    await call()
                    if counts:
                        samples.append(perf_counter() - before)
                values[f"sizes.{way}.{name}"] = sorted(samples)[len(samples) // 2]
        return values

    async def copy(self, seconds: float) -> Values:
        """A bulk copy."""
        value, target = bytearray(WHOLE), await self.echo.target(WHOLE)
        samples: list[float] = []
        for counts in enough(seconds):
            before = perf_counter()
            await xsc.copy_to([value], [target])
            if counts:
                samples.append(perf_counter() - before)
        await self.echo.target(0)
        return {"copy": sorted(samples)[len(samples) // 2]}

    async def near(self, seconds: float) -> Values:
        values: Values = await self.caller.time("near", self.near_echo, seconds, 100)
        return values

    async def between(self, seconds: float) -> Values:
        values: Values = await self.caller.time("between", self.echo, seconds, 1)
        return values

    async def cancel(self, seconds: float) -> Values:
        """From the cancel to the callee's exception, and to the caller's."""
        stopped, back = [], []
        until = perf_counter() + seconds
        while perf_counter() < until:
            scope, begun = trio.CancelScope(), trio.Event()

            async def call(scope: trio.CancelScope = scope, begun: trio.Event = begun) -> None:
                with scope:
                    begun.set()
                    await self.echo.hang()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await begun.wait()
                await trio.sleep(0.002)
                cancelled = perf_counter()
                scope.cancel()
            back.append(perf_counter() - cancelled)
            stopped.append(await self.echo.when_stopped() - cancelled)
        back.sort()
        stopped.sort()
        return {"cancel.stopped": stopped[len(stopped) // 2], "cancel.back": back[len(back) // 2]}

    async def start(self, _seconds: float) -> Values:
        """A program of its own: its first pool needs a guardian."""
        command = [sys.executable, "-m", "benchmarks.fresh"]
        done = await trio.run_process(command, capture_stdout=True)
        values: Values = json.loads(done.stdout)
        begun = perf_counter()
        await trio.run_process([sys.executable, "-c", "import xoscar_sc"])
        return {**values, "import": perf_counter() - begun}

    async def outside(self, _seconds: float) -> Values:
        """Two programs of their own: one that calls, and one that is called."""
        done = await trio.run_process([sys.executable, "-m", "benchmarks.outside"], capture_stdout=True)
        values: Values = json.loads(done.stdout)
        return values

    async def mixed(self, _seconds: float) -> Values:
        """A program of its own, on one loop after the other."""
        done = await trio.run_process([sys.executable, "-m", "benchmarks.mixed"], capture_stdout=True)
        values: Values = json.loads(done.stdout)
        return values


async def _main(control: Control) -> None:
    async with xsc.open_pool_nursery(pools=2) as nursery:
        first, second = nursery.pools.values()
        # The pool that calls others is where this process is: apart from the first one.
        os.sched_setaffinity(second.pid, {min(os.sched_getaffinity(0))})
        echo = await first.create_actor(Echo)
        near = await second.create_actor(Echo)
        caller = await second.create_actor(Caller)
        package = Package(echo, near, caller)
        await serve_trio(
            control,
            {
                "call": package.call,
                "rate.1": lambda seconds: package.rate(1, seconds),
                "rate.64": lambda seconds: package.rate(64, seconds),
                "rate.1024": lambda seconds: package.rate(1024, seconds),
                "tell": package.tell,
                "batch": package.batch,
                "read": package.read,
                "talk": package.talk,
                "array": package.array,
                "sizes": partial(package.sizes, SIZES),
                "large": partial(package.sizes, LARGE),
                "copy": package.copy,
                "durable.always": partial(durable.tell, first, "always"),
                "durable.never": partial(durable.tell, first, "never"),
                "outside": package.outside,
                "mixed": package.mixed,
                "near": package.near,
                "between": package.between,
                "cancel": package.cancel,
                "start": package.start,
            },
            [first.pid],
        )


def main(control: Control) -> None:
    trio.run(_main, control)
