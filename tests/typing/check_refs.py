"""What a type checker knows of refs. Checked, never run."""

from __future__ import annotations

from typing import assert_type

import xoscar_sc as xsc


class Counter(xsc.Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start

    async def add(self, n: int) -> int:
        self.value += n
        return self.value


async def a_ref_knows_its_actor(n: xsc.PoolNursery) -> None:
    assert_type(await n.create_actor(Counter, 10), xsc.ActorRef[Counter])
    assert_type(await n.create_actor(Counter, start=10, uid="counter"), xsc.ActorRef[Counter])


async def the_nursery_is_what_the_block_gives() -> None:
    async with xsc.open_pool_nursery() as n:
        assert_type(n, xsc.PoolNursery)
