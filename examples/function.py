"""A function in a process of its own, while this process is busy too."""

import os
import time

import trio

import xoscar_sc as xsc


async def burn_cpu(seconds: float) -> int:
    """Keep one CPU busy, with a checkpoint now and then, where a cancel would be heard."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(10_000))
        await trio.lowlevel.checkpoint()
    return os.getpid()


async def main() -> None:
    async with xsc.open_pool_nursery() as n:
        task = await n.run_in_pool(burn_cpu, 0.5)  # a pool for this one function
        here = await burn_cpu(0.5)
        there = await task.result()
    print(f"two processes were busy: {here != there}")


if __name__ == "__main__":
    trio.run(main)
