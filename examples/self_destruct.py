"""A tree of processes that ends because its root fails: none of them is left behind."""

import os
from pathlib import Path

import trio

import xoscar_sc as xsc

WORKERS = 4


async def work() -> None:
    print(f"{xsc.current_pool().name} is at work", flush=True)
    await trio.sleep_forever()


def children() -> list[str]:
    """The child processes of this one."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


async def main() -> None:
    async with xsc.open_pool_nursery() as n:
        for number in range(WORKERS):
            await n.run_in_pool(work, name=f"worker-{number}")
        await trio.sleep(0.5)
        print(f"{len(n.pools)} processes; the root is about to fail", flush=True)
        raise RuntimeError("self-destruct")


if __name__ == "__main__":
    try:
        trio.run(main)
    except RuntimeError as error:
        print(f"{error}: {len(children())} processes are left")
