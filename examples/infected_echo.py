"""A thousand round trips from this program, through a pool on trio, to an asyncio task in that pool, and back."""

import asyncio
from typing import Any

import trio

import xoscar_sc as xsc
from xoscar_sc import to_asyncio


async def echo_in_asyncio(to_trio: Any, from_trio: Any) -> None:
    to_trio.send_nowait("asyncio is ready")
    while True:
        value = await from_trio.get()
        await asyncio.sleep(0)
        to_trio.send_nowait(value)


@xsc.context
async def echo_in_trio(ctx: xsc.Context) -> None:
    async with to_asyncio.open_channel_from(echo_in_asyncio) as (first, chan):
        await ctx.started(first)
        async with ctx.open_stream() as stream:
            async for value in stream:
                await chan.send(value)
                await stream.send(await chan.receive())


async def main() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool("infected", asyncio=True)
        async with pool.open_context(echo_in_trio) as (ctx, first):
            print(first)
            same = 0
            async with ctx.open_stream() as stream:
                for number in range(1000):
                    await stream.send(number)
                    same += await stream.receive() == number
            print(f"{same} of 1000 came back as they were")
    print("the pool has ended")


if __name__ == "__main__":
    trio.run(main)
