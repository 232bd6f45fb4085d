"""One stream, several readers: each of them gets every message."""

import trio

import xoscar_sc as xsc


@xsc.context
async def ticker(ctx: xsc.Context, count: int) -> None:
    await ctx.started()
    async with ctx.open_stream() as stream:
        for price in range(100, 100 + count):
            await stream.send(price)


async def read(name: str, copy: xsc.Subscription, seen: dict[str, list[int]]) -> None:
    seen[name] = [price async for price in copy]


async def main() -> None:
    seen: dict[str, list[int]] = {}
    async with xsc.open_pool_nursery() as n:
        pool = await n.start_pool("exchange")
        async with pool.open_context(ticker, 5) as (ctx, _), ctx.open_stream() as stream:
            async with stream.subscribe(max_buffer=1, overflow="drop_oldest") as latest:
                async with stream.subscribe() as first, stream.subscribe(max_buffer=1) as second:
                    async with trio.open_nursery() as readers:
                        readers.start_soon(read, "first", first, seen)
                        readers.start_soon(read, "second", second, seen)
                print("first: ", seen["first"])
                print("second:", seen["second"])
                print("who reads only now has the last:", [price async for price in latest])


if __name__ == "__main__":
    trio.run(main)
