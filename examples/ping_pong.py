"""A dialogue with another process: it starts with a value, goes on through a stream, and ends with a result."""

import trio

import xoscar_sc as xsc


@xsc.context
async def pong(ctx: xsc.Context, data: int) -> str:
    await ctx.started(data + 1)
    count = 0
    async with ctx.open_stream() as stream:
        async for message in stream:
            assert message == "ping"
            count += 1
            await stream.send("pong")
    return f"{count} times"


async def main() -> None:
    async with xsc.open_pool_nursery() as n:
        pool = await n.start_pool("server")
        async with pool.open_context(pong, 10) as (ctx, first):
            print("it starts with", first)
            async with ctx.open_stream() as stream:
                for _ in range(3):
                    await stream.send("ping")
                    print("ping,", await stream.receive())
            print("it ends with", await ctx.result())


if __name__ == "__main__":
    trio.run(main)
