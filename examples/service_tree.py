"""A service on three levels of supervisors: what crashes comes back, and who calls it need not know."""

import logging
import os
import signal

import trio

import xoscar_sc as xsc
from xoscar_sc.events import GaveUp, Restarting


class Store(xsc.Actor):
    """What the service keeps; it begins empty each time."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    def add(self, order: str) -> int:
        self.orders.append(order)
        return len(self.orders)

    def pid(self) -> int:
        return os.getpid()


class Index(xsc.Actor):
    """Knows what is in the store, as long as it is the same store."""

    def __init__(self, store: xsc.ActorRef[Store]) -> None:
        self.store = store
        self.known = 0

    async def add(self, order: str) -> int:
        self.known = await self.store.add(order)
        return self.known


class Clerk(xsc.Actor):
    """Takes orders."""

    def __init__(self, index: xsc.ActorRef[Index]) -> None:
        self.index = index

    async def take(self, order: str) -> str:
        if order == "a bomb":
            os._exit(1)
        return f"{order} is number {await self.index.add(order)}"


async def storage(sup: xsc.Supervisor) -> None:
    store = await sup.create_actor(Store, uid="store", pool=await sup.start_pool("disk"))
    await sup.create_actor(Index, store, uid="index")  # younger: it begins anew with the store


async def counter(sup: xsc.Supervisor) -> None:
    index = await xsc.wait_for_actor("index")
    await sup.create_actor(Clerk, index, uid="clerk")


async def front(sup: xsc.Supervisor) -> None:
    await sup.start_supervisor(counter, name="counter", intensity=1)


async def report(sup: xsc.Supervisor) -> None:
    seen = []
    async for event in sup.events():
        if isinstance(event, Restarting):
            seen.append(f"{event.child} restarted")
        elif isinstance(event, GaveUp):
            seen.append(f"{event.supervisor} gave up")
    print(", ".join(seen))


async def main() -> None:
    async with trio.open_nursery() as tasks, xsc.open_supervisor(name="service") as sup:
        tasks.start_soon(report, sup)
        await sup.start_supervisor(storage, name="storage", strategy="rest_for_one")
        await sup.start_supervisor(front, name="front", intensity=1)
        clerk = await xsc.wait_for_actor("clerk")
        store = await xsc.wait_for_actor("store")
        print(await clerk.take("tea"))
        print(await clerk.take("milk"))

        print("the store's process is killed")
        os.kill(await store.pid(), signal.SIGKILL)
        await until_restarted(sup.supervisors["storage"], "index")
        print(await clerk.take("coffee"))

        for bomb in ("one", "two"):
            print(f"bomb {bomb}")
            try:
                await clerk.take("a bomb")
            except xsc.ActorDied as error:
                print(f"  the call may have been executed: {error.maybe_executed}")
        print(await clerk.take("sugar"))
        tree(sup)


async def until_restarted(sup: xsc.Supervisor, uid: str) -> None:
    async with sup.actors[uid].monitor(restarts=True) as exits:
        if sup.actors[uid].incarnation == 1:
            await exits.receive()


def tree(sup: xsc.Supervisor, indent: int = 0) -> None:
    for child in sup.which_children():
        print(f"{'  ' * indent}{child.name} is {child.phase}, restarts: {child.restarts}")
        if child.kind == "supervisor":
            tree(sup.supervisors[child.name], indent + 1)


if __name__ == "__main__":
    logging.getLogger("xoscar_sc").addHandler(logging.NullHandler())  # it tells of every crash
    trio.run(main)
