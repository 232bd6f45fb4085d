"""The smallest program: one actor in a process of its own."""

import trio

import xoscar_sc as xsc


class Counter(xsc.Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start

    async def add(self, n: int) -> int:
        self.value += n
        return self.value


async def main() -> None:
    async with xsc.open_pool_nursery() as n:
        counter = await n.create_actor(Counter, 10, uid="counter")
        print(await counter.add(5))  # send: runs there, the answer comes back
        await counter.add.tell(1)  # tell: accepted there, nobody waits for the answer
        # batch: one message, many calls, results in order
        print(await counter.add.batch(counter.add.delay(1), counter.add.delay(2)))


if __name__ == "__main__":
    trio.run(main)
