"""Errors cross processes as what they are, and none is lost."""

import os
import signal
from pathlib import Path

import trio

import xoscar_sc as xsc


class OutOfStock(Exception):
    """An exception of one's own, with more than a text."""

    def __init__(self, item: str, missing: int) -> None:
        super().__init__(f"{missing} more of {item}")
        self.item = item
        self.missing = missing


class Shop(xsc.Actor):
    def order(self, item: str, count: int) -> None:
        error = OutOfStock(item, count)
        error.add_note("ask again on Monday")
        raise error

    def read(self, path: str) -> str:
        return Path(path).read_text()

    async def two_at_once(self) -> None:
        async with trio.open_nursery() as tasks:
            tasks.start_soon(self.fail, ValueError("the first"))
            tasks.start_soon(self.fail, TypeError("the second"))

    async def fail(self, error: Exception) -> None:
        raise error

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def is_open(self) -> bool:
        return True


async def errors_of_a_call() -> None:
    async with xsc.open_pool_nursery() as n:
        shop = await n.create_actor(Shop, uid="shop")
        try:
            await shop.order("tea", 3)
        except OutOfStock as error:
            print(f"an exception of our own: {error}; {error.item!r}, {error.missing}")
            print(f"  its own note: {error.__notes__[0]}")
            print(f"  one more says where: {'shop' in error.__notes__[-1]}")
        try:
            await shop.read("/no/such/file")
        except FileNotFoundError as error:
            print(f"an error of the system: errno {error.errno}, {error.filename}")
        try:
            await shop.two_at_once()
        except* ValueError as group:
            print(f"from a group: {group.exceptions[0]}")
        except* TypeError as group:
            print(f"from the same group: {group.exceptions[0]}")
        print(f"the shop is still open: {await shop.is_open()}")


async def a_killed_pool() -> None:
    try:
        async with xsc.open_pool_nursery() as n:
            shop = await n.create_actor(Shop)
            await shop.die()
    except xsc.errors.PoolDied as error:
        print(f"a killed pool: signal {error.signal}")


async def a_failed_tell() -> None:
    try:
        async with xsc.open_pool_nursery() as n:
            shop = await n.create_actor(Shop)
            await shop.order.tell("milk", 1)
            print("nobody waits for a tell ...")
    except* OutOfStock as group:
        print(f"... so its error is the nursery's: {group.exceptions[0]}")


async def main() -> None:
    await errors_of_a_call()
    await a_killed_pool()
    await a_failed_tell()


if __name__ == "__main__":
    trio.run(main)
