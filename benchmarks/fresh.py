"""A program that starts, measures and ends pools, and prints what it found: ``python -m benchmarks.fresh``."""

from __future__ import annotations

import json
import logging
import os
import signal
from statistics import median
from time import perf_counter

import trio

import xoscar_sc as xsc
from benchmarks.actors import Echo
from benchmarks.common import Values, uss

FORKS = 5
RECOVERIES = 20
FRESH = {"LD_BIND_NOW": "1"}
"""Is read only when a program is loaded, so that a pool with it cannot be forked."""


async def pools() -> Values:
    """Start and stop some."""
    begun = perf_counter()
    async with xsc.open_pool_nursery(pools=1) as nursery:
        first = perf_counter() - begun
        starts, stops, memory = [], [], []
        for _ in range(FORKS):
            begun = perf_counter()
            pool = await nursery.start_pool()
            starts.append(perf_counter() - begun)
            await trio.sleep(0.02)
            memory.append(uss(pool.pid))
            begun = perf_counter()
            await pool.stop()
            stops.append(perf_counter() - begun)
        begun = perf_counter()
        pool = await nursery.start_pool(env=FRESH)
        executed = perf_counter() - begun
        await trio.sleep(0.02)
        return {
            "start.first": first,
            "start.fork": median(starts),
            "start.exec": executed,
            "stop": median(stops),
            "memory": median(memory),
            "memory.exec": uss(pool.pid),
        }


async def kill() -> Values:
    """From the signal to the exception in the call that waits."""
    lost: list[float] = []
    begun = 0.0

    async def call(echo: xsc.ActorRef[Echo]) -> None:
        try:
            await echo.hang()
        except xsc.PoolDied:
            lost.append(perf_counter() - begun)

    async with xsc.open_pool_nursery(pools=0):
        for _ in range(FORKS):
            try:
                async with xsc.open_pool_nursery(pools=1) as inner:
                    (pool,) = inner.pools.values()
                    echo = await pool.create_actor(Echo)
                    async with trio.open_nursery() as tasks:
                        tasks.start_soon(call, echo)
                        await trio.sleep(0.02)
                        begun = perf_counter()
                        os.kill(pool.pid, signal.SIGKILL)
            except xsc.PoolDied:
                pass
    return {"kill": median(lost)}


async def recover() -> Values:
    """From the signal to the answer of the next incarnation, to a caller that tries until it has one."""
    back: list[float] = []
    async with xsc.open_supervisor(1, intensity=RECOVERIES) as sup:
        echo = await sup.create_actor(Echo)
        for _ in range(RECOVERIES):
            await echo.plain(b"")
            (pool,) = sup.pools.values()
            begun = perf_counter()
            os.kill(pool.pid, signal.SIGKILL)
            while True:
                try:
                    await echo.plain(b"")
                except xsc.ActorDied:  # it was sent before the end was seen
                    continue
                break
            back.append(perf_counter() - begun)
    back.sort()
    return {"recover": median(back), "recover.worst": back[-1]}


async def main() -> None:
    logging.getLogger("xoscar_sc").addHandler(logging.NullHandler())
    print(json.dumps({**await pools(), **await kill(), **await recover()}))


if __name__ == "__main__":
    trio.run(main)
