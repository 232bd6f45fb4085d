"""A program that calls the actors of another one, through its door, and prints what it found.

``python -m benchmarks.outside serve`` is the other one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import trio

import xoscar_sc as xsc
from benchmarks.actors import Echo
from benchmarks.bare import count_calls, time_awaits
from benchmarks.common import PAYLOAD, Values

SECONDS = 0.4
MANY = 64
ITEMS = 20_000


async def serve() -> None:
    """Be the other program: one pool, with a door of its own beside the program's."""
    async with xsc.open_pool_nursery(address="127.0.0.1:0") as nursery:
        pool = await nursery.start_pool(address="127.0.0.1:0")
        os.sched_setaffinity(pool.pid, {max(os.sched_getaffinity(0))})
        await pool.create_actor(Echo, uid="echo")
        print(nursery.address, pool.door, flush=True)
        await trio.sleep_forever()


@contextmanager
def other() -> Iterator[tuple[str, str]]:
    """The other program, and the addresses of its doors."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.outside", "serve"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            door, own = process.stdout.readline().split()
            yield door, own
        finally:
            process.terminate()


async def measure(address: str, way: str) -> Values:
    """Calls, and the values of a stream, through one door."""
    async with xsc.connect(address) as remote:
        echo = await remote.actor_ref("echo")
        values = await time_awaits(f"outside.{way}", lambda: echo.plain(PAYLOAD), SECONDS)
        values[f"outside.{way}.rate"] = await count_calls(lambda: echo.plain(PAYLOAD), MANY, SECONDS)
        begun = trio.current_time()
        async for _ in echo.numbers(ITEMS):
            pass
        values[f"outside.{way}.read"] = ITEMS / (trio.current_time() - begun)
        return values


def main() -> None:
    """Measure."""
    if sys.argv[1:] == ["serve"]:
        trio.run(serve)
        return
    with other() as (door, own):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        values = trio.run(measure, door, "door")
        values |= trio.run(measure, own, "own")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
