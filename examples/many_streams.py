"""Many dialogues with one pool at the same time: a slow reader holds up its own and no other."""

import trio

import xoscar_sc as xsc


@xsc.context
async def count(ctx: xsc.Context, name: str, last: int) -> str:
    await ctx.started(name)
    async with ctx.open_stream() as stream:
        for number in range(last):
            await stream.send(number)
    return name


async def add_up(pool: xsc.Pool, name: str, last: int, done: list[str]) -> None:
    async with pool.open_context(count, name, last) as (ctx, _):
        async with ctx.open_stream(window=8) as stream:
            total = 0
            async for number in stream:
                total += number
        done.append(f"{await ctx.result()}: {total}")


async def main() -> None:
    done: list[str] = []
    async with xsc.open_pool_nursery() as n:
        pool = await n.start_pool("counter")
        async with pool.open_context(count, "slow", 1000) as (ctx, _), ctx.open_stream(window=8) as slow:
            async with trio.open_nursery() as tasks:
                for number in range(1, 4):
                    tasks.start_soon(add_up, pool, f"quick {number}", 100 * number, done)
            print("\n".join(sorted(done)))
            print("slow: has not been read; it begins with", await slow.receive())
            await ctx.cancel()


if __name__ == "__main__":
    trio.run(main)
