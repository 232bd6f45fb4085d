"""Round trips from programs on each loop to pools on each loop: ``python -m benchmarks.mixed``."""

from __future__ import annotations

import asyncio
import json
import os
from time import perf_counter

import trio
import uvloop

import xoscar_sc as xsc
from benchmarks.actors import Echo
from benchmarks.common import PAYLOAD, Values

SECONDS = 0.3
"""For each of the nine."""
LOOPS = ("trio", "asyncio", "uvloop")


async def calls(driver: str) -> Values:
    """To a pool on each loop, in turn; the median of each."""
    values = Values()
    for loop in LOOPS:
        async with xsc.open_pool_nursery(pools=0) as nursery:
            cpus = sorted(os.sched_getaffinity(0))
            pool = await nursery.start_pool(cpus=cpus[-1:], asyncio=loop != "trio", uvloop=loop == "uvloop")
            echo = await pool.create_actor(Echo)
            times: list[float] = []
            until = perf_counter() + SECONDS
            while (begun := perf_counter()) < until:
                await echo.plain(PAYLOAD)
                times.append(perf_counter() - begun)
            times = sorted(times[len(times) // 10 :])  # the first ones warm up
            values[f"mixed.{driver}.{loop}"] = times[len(times) // 2]
    return values


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))})
    values = trio.run(calls, "trio")
    for driver, factory in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        with asyncio.Runner(loop_factory=factory) as runner:
            values |= runner.run(calls(driver))
    print(json.dumps(values))


if __name__ == "__main__":
    main()
