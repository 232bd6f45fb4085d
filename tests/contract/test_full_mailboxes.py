"""Tells that wait for room which nobody will make: they are refused, and do not hang."""

from __future__ import annotations

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers
from tests.contract.nodes import PLACES, Crossing, is_cycle, nodes, ready


@PLACES
@both_drivers
async def test_a_tell_waits_for_no_room_that_its_own_caller_would_make(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b = await nodes(n, pools, 2, mailbox=3)
        with pytest.raises(xsc.DeadlockError, match="the full mailbox of") as caught:
            await a.be_told_often(b, 10)
        first, *between, last = caught.value.cycle
        assert first == last == ("a", "be_told_often")
        assert between == [("b", "tell_often"), ("a", "<room>")]
        with pytest.raises(xsc.DeadlockError, match="the full mailbox of"):
            await a.tell_itself_often(10)
        assert [await a.ping(), await b.ping()] == ["pong"] * 2


@pytest.mark.parametrize("last", ["tell", "call"])
@PLACES
@both_drivers
async def test_of_a_tell_and_a_call_that_wait_for_each_other_one_is_refused(pools: int, last: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b = await nodes(n, pools, 2, mailbox=3)
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "tell_when_told", b, 10)
            crossing.start(b, "call", a, "ping")
            await ready(a, b)
            for ref in (b, a) if last == "tell" else (a, b):
                await ref.go()
                await anyio.sleep(0.02)  # a chance for the other one to be last
        refused = [value for value in crossing.gave.values() if is_cycle(value)]
        assert refused
        assert all(("b", "<room>") in cycle or ("a", "tell_when_told") in cycle for cycle in refused)
        assert [await a.ping(), await b.ping()] == ["pong"] * 2


@PLACES
@both_drivers
async def test_of_two_that_tell_each_other_one_is_refused(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b = await nodes(n, pools, 2, mailbox=3)
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "tell_when_told", b, 10)
            crossing.start(b, "tell_when_told", a, 10)
            await ready(a, b)
            for ref in (a, b):
                await ref.go()
        assert any(is_cycle(value) for value in crossing.gave.values())
        assert [await a.ping(), await b.ping()] == ["pong"] * 2


@PLACES
@both_drivers
async def test_a_tell_that_waits_for_somebody_who_is_merely_busy_is_not_refused(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b = await nodes(n, pools, 2, mailbox=3)
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(b, "call", b, "waits")
            crossing.start(a, "tell_when_told", b, 10)
            await ready(a, b)
            await a.go()
            await anyio.sleep(0.02)  # it waits for room
            await b.go()
        assert crossing.gave["a"] is None
