"""Finding actors by their names, from any process of the tree, before or after they are there."""

import trio

import xoscar_sc as xsc


class Database(xsc.Actor):
    def __init__(self) -> None:
        self.rows = {"tea": 5}

    def get(self, key: str) -> int | None:
        return self.rows.get(key)


class Shop(xsc.Actor):
    """It needs the database, wherever that is, and waits until it is there."""

    async def __post_create__(self) -> None:
        self.database: xsc.ActorRef[Database] = await xsc.wait_for_actor("database")

    async def stock(self, key: str) -> int | None:
        found: int | None = await self.database.get(key)
        return found


async def main() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        print("a database:", await xsc.find_actor("database"))
        async with trio.open_nursery() as tasks:

            async def open_shop() -> None:
                await n.create_actor(Shop, uid="shop")
                print("the shop is open")

            tasks.start_soon(open_shop)
            print("now there is one:", (await n.create_actor(Database, uid="database")).uid)
        shop = await xsc.actor_ref(uid="shop")
        print("tea:", await shop.stock("tea"))


if __name__ == "__main__":
    trio.run(main)
