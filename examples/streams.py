"""Streams: a generator method sends its values as they are read, and ends when its reader leaves."""

from collections.abc import AsyncIterator

import trio

import xoscar_sc as xsc


class Sensor(xsc.Actor):
    def __init__(self) -> None:
        self.readers = 0

    async def readings(self) -> AsyncIterator[float]:
        """Without end: who reads them decides when it is enough."""
        self.readers += 1
        try:
            value = 20.0
            while True:
                yield value
                value += 0.5
        finally:
            self.readers -= 1

    def busy(self) -> int:
        return self.readers


class Display(xsc.Actor):
    """In another process: references may be sent to where they are needed."""

    async def __post_create__(self) -> None:
        self.shown: list[float] = []

    async def show(self, sensor: xsc.ActorRef[Sensor], count: int) -> list[float]:
        async with sensor.readings() as values:
            async for value in values:
                self.shown.append(value)
                if len(self.shown) == count:
                    break
        return self.shown


async def main() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        sensor = await n.create_actor(Sensor)
        display = await n.create_actor(Display)
        async with sensor.readings() as values:
            print("the first is", await anext(values))
            print("another process shows", await display.show(sensor, 4))
            print("readers:", await sensor.busy())
        print("readers after the block:", await sensor.busy())


if __name__ == "__main__":
    trio.run(main)
