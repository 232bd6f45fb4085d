"""A streaming service and its client: two programs, and a door between them.

Started without arguments it is the client, and starts the service as another program. The service has a feed in a
process of its own; whoever connects gets its quotes, for the symbols that he asks for, and may change his mind while
they come.
"""

import subprocess
import sys

import msgspec
import trio

import xoscar_sc as xsc

STEPS = {"tea": 0.5, "salt": 0.25, "silk": 4.0}


class Quote(msgspec.Struct):
    symbol: str
    number: int
    price: float


class Wish(msgspec.Struct):
    symbols: list[str]


class Feed(xsc.Actor):
    """The service's one actor; each client has a dialogue of its own with it."""

    def __init__(self) -> None:
        self.readers = 0

    @xsc.context(sends=Quote, receives=Wish)
    async def subscribe(self, ctx: xsc.Context) -> str:
        self.readers += 1
        sent = 0
        try:
            await ctx.started(sorted(STEPS))
            async with ctx.open_stream() as stream:
                wish: Wish = await stream.receive()
                while wish.symbols:
                    for symbol in wish.symbols:
                        sent += 1
                        await stream.send(Quote(symbol, sent, 10 + sent * STEPS[symbol]))
                    try:
                        wish = stream.receive_nowait()
                    except trio.WouldBlock:
                        pass
        finally:
            self.readers -= 1
        return f"{wish.symbols or 'nothing'} more is wanted"

    @xsc.no_lock
    def busy(self) -> int:
        return self.readers


async def serve() -> None:
    async with xsc.open_pool_nursery(pools=1, address="tcp://127.0.0.1:0", expose=["feed"]) as n:
        await n.create_actor(Feed, uid="feed")
        print(n.address, flush=True)  # whoever started this program reads where it listens
        await trio.sleep_forever()


async def use(address: str) -> None:
    async with xsc.connect(address) as service:
        feed = await service.actor_ref("feed")
        async with feed.subscribe.open_context() as (ctx, symbols):
            print("there are quotes of", ", ".join(symbols))
            async with ctx.open_stream() as stream:
                await stream.send(Wish(["tea", "salt"]))
                for _ in range(4):
                    quote: Quote = await stream.receive()
                    print(f"{quote.number}: {quote.symbol} at {quote.price}")
                await stream.send(Wish(["silk"]))
                async for quote in stream:
                    if quote.symbol == "silk":
                        print("now it is", quote.symbol)
                        break
                await stream.send(Wish([]))
                async for quote in stream:  # those that were on their way
                    assert quote.symbol in STEPS
            print("the service says:", await ctx.result())
        print("readers:", await feed.busy())


def main() -> None:
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            trio.run(use, service.stdout.readline().strip())
        finally:
            service.terminate()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        trio.run(serve)
    else:
        main()
