"""A name is one actor's in the whole tree, and whoever looks for it while that one ends is told something true."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers


class Named(xsc.Actor):
    def __init__(self, number: int = 0) -> None:
        self.number = number

    def which(self) -> int:
        return self.number


class Seeker(xsc.StatelessActor):
    """Looks for a name from its own pool, until it is told that this is enough."""

    def __init__(self) -> None:
        self.enough = False
        self.seen: dict[str, int] = {}

    async def seek(self, uid: str) -> dict[str, int]:
        while not self.enough:
            self.count(await look(uid))
        return self.seen

    def count(self, found: str) -> None:
        self.seen[found] = self.seen.get(found, 0) + 1

    def stop_seeking(self) -> None:
        self.enough = True


async def look(uid: str) -> str:
    """What one look at a name comes to, in all the ways there are to look."""
    try:
        ref = await xsc.find_actor(uid)
        if ref is None:
            ref = await xsc.actor_ref(uid=uid)
        await ref.which()
        other = await xsc.actor_ref(ref.address, uid)
        await other.which()
    except (xsc.ActorNotExist, xsc.ActorDied) as exc:
        return type(exc).__name__
    return "found"


@pytest.mark.parametrize("how", ["destroy", "kill"])
@both_drivers
async def test_looking_while_an_actor_ends_gives_one_of_them_or_a_clear_error(how: str) -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        seekers = [await n.create_actor(Seeker, pool=pool) for pool in n.pools.values()]
        seen: list[dict[str, int]] = []

        async def seek(seeker: Any) -> None:
            seen.append(await seeker.seek("it"))

        async with anyio.create_task_group() as group:
            for seeker in seekers:
                group.start_soon(seek, seeker)
            for number in range(40):
                ref = await n.create_actor(Named, number, uid="it", pool=f"pool-{number % 2 + 1}")
                assert await look("it") == "found"
                await getattr(ref, how)()
                assert await xsc.find_actor("it") is None
            for seeker in seekers:
                await seeker.stop_seeking()
        assert len(seen) == 2
        assert all(sum(each.values()) for each in seen)


@both_drivers
async def test_of_many_who_want_one_name_at_a_time_one_gets_it() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        for _ in range(10):
            made: list[Any] = []
            refused: list[xsc.ActorAlreadyExist] = []

            async def make(made: list[Any] = made, refused: list[Any] = refused) -> None:
                try:
                    made.append(await n.create_actor(Named, uid="wanted"))
                except xsc.ActorAlreadyExist as exc:
                    refused.append(exc)

            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(make)
            assert (len(made), len(refused)) == (1, 7)
            await made[0].destroy()


@both_drivers
async def test_who_waits_for_a_name_gets_the_next_that_has_it() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        found: list[int] = []

        async def wait() -> None:
            ref = await xsc.wait_for_actor("late")
            found.append(await ref.which())

        for number in range(3):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                ref = await n.create_actor(Named, number, uid="late")
            await ref.destroy()
        assert found == [0, 0, 0, 1, 1, 1, 2, 2, 2]
