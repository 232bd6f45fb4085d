"""Cycles of calls that were made apart, and meet in the middle: one of them at least is refused."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board
from tests.contract.driving import both_drivers, count
from tests.contract.nodes import (
    PLACES,
    CallsWhenItEnds,
    Crossing,
    Node,
    Notes,
    Stateless,
    call_it,
    check_cycle,
    close_in_order,
    is_cycle,
    needs_children,
    nodes,
    orders,
    outcome,
    queue,
    ready,
)
from xoscar_sc.runtime.current import require_runtime

LARGE = b"x" * 300 * 1024


# Cycles


@pytest.mark.parametrize("args", [(), (LARGE,)], ids=["small", "large"])
@pytest.mark.parametrize("size", [2, 3, 5])
@PLACES
@both_drivers
async def test_the_call_that_closes_a_cycle_is_refused_in_every_order(
    pools: int, size: int, args: tuple[Any, ...]
) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        refs = await nodes(n, pools, size)
        for order in orders(size):
            gave = await close_in_order(refs, order, "ping", *args)
            refused = {uid: found for uid, found in gave.items() if found != "pong"}
            # Between pools, the search for one that came before may be under way still.
            assert refused.keys() == {refs[order[-1]].uid} if pools < 2 else refused
            for found in refused.values():
                check_cycle(found, "abcde"[:size])
        assert [await ref.ping() for ref in refs] == ["pong"] * size


@pytest.mark.parametrize("args", [(), (LARGE,)], ids=["small", "large"])
@pytest.mark.parametrize("size", [2, 3, 5])
@PLACES
@both_drivers
async def test_calls_that_close_a_cycle_at_the_same_time_all_end(
    pools: int, size: int, args: tuple[Any, ...]
) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        refs = await nodes(n, pools, size)
        for _ in range(count("XSC_CROSSINGS", 10)):
            async with anyio.create_task_group() as group:
                crossing = Crossing(group)
                for at, ref in enumerate(refs):
                    crossing.start(ref, "call", refs[(at + 1) % size], "ping", *args)
                await ready(*refs)
                for ref in refs:
                    group.start_soon(ref.go)
            gave = list(crossing.gave.values())
            assert len(gave) == size
            refused = [found for found in gave if found != "pong"]
            assert refused
            for found in refused:
                check_cycle(found, "abcde"[:size])


@both_drivers
async def test_the_error_names_the_cycle() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        a, b = await nodes(n, 2, 2)
        crossing = await close_in_order([a, b], [0, 1], "ping")
        assert crossing["b"] == [("b", "call"), ("a", "ping"), ("a", "call"), ("b", "ping"), ("b", "call")]


@pytest.mark.parametrize("last", [0, 1, 2])
@PLACES
@both_drivers
async def test_a_holder_may_make_several_calls_side_by_side(pools: int, last: int) -> None:
    needs_children(pools)
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b, c = await nodes(n, pools, 3)
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "call_all", b, c)
            crossing.start(b, "call", a)
            crossing.start(c, "call", a)
            await ready(a, b, c)
            order = [a, b, c]
            order.append(order.pop(last))
            for ref in order:
                await ref.go()
        found = [*crossing.gave["a"], crossing.gave["b"], crossing.gave["c"]]
        assert all(one == "pong" or is_cycle(one) for one in found)
        assert any(map(is_cycle, found))
        assert [await ref.ping() for ref in (a, b, c)] == ["pong"] * 3


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("method", ["read", "read_in_block", "call_batch"])
@PLACES
@both_drivers
async def test_streams_and_batches_close_cycles_too(pools: int, method: str, order: tuple[int, int]) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        refs = a, b = await nodes(n, pools, 2)
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, method, b)
            crossing.start(b, "call", a)
            await ready(a, b)
            await refs[order[0]].go()
            await queue(refs[order[1]])
            await refs[order[1]].go()
        first, second = (crossing.gave["ab"[at]] for at in order)
        check_cycle(second, "ab")
        assert first in ("pong", [0, 1, 2], ["pong", "pong"])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@PLACES
@both_drivers
async def test_a_function_in_a_pool_is_a_part_of_a_cycle(pools: int, order: tuple[int, int]) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        refs = a, b = await nodes(n, pools, 2)
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "run_elsewhere", call_it, b)
            crossing.start(b, "call", a)
            await ready(a, b)
            await refs[order[0]].go()
            await queue(refs[order[1]])
            await refs[order[1]].go()
        first, second = (crossing.gave["ab"[at]] for at in order)
        assert first == "pong"
        check_cycle(second, "ab")


@PLACES
@both_drivers
async def test_a_call_that_goes_through_a_stateless_actor_is_a_part_of_a_cycle(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b = await nodes(n, pools, 2)
        between = await n.create_actor(Stateless, uid="s")
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "call", between, "pass_on", b, "ping")
            crossing.start(b, "call", a)
            await ready(a, b)
            await a.go()
            await queue(b)
            await b.go()
        assert crossing.gave["a"] == "pong"
        assert {uid for uid, _ in crossing.gave["b"]} == {"a", "b", "s"}


@PLACES
@both_drivers
async def test_who_wants_its_lock_back_is_a_part_of_a_cycle(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b = await nodes(n, pools, 2)
        for last in ("call", "lock"):
            async with anyio.create_task_group() as group:
                crossing = Crossing(group)
                crossing.start(b, "call", a, "lend_and_want_back")
                await ready(b)
                await b.go()
                while not await a.has_lent():
                    await anyio.lowlevel.checkpoint()
                crossing.start(a, "call", b)
                await ready(a)
                if last == "call":
                    await a.want_back()
                    await a.go()
                else:
                    await a.go()
                    await queue(b)
                    await a.want_back()
            assert any(map(is_cycle, crossing.gave.values())), crossing.gave


# Ends


@PLACES
@both_drivers
async def test_an_actor_is_not_destroyed_by_one_that_it_waits_for(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b = await nodes(n, pools, 2)
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "call", b, "destroy")
            crossing.start(b, "call", a)
            await ready(a, b)
            await b.go()
            await queue(a)
            await a.go()
        assert crossing.gave["b"] == "pong"
        cycle = crossing.gave["a"]
        assert cycle[0] == cycle[-1] == ("a", "call")
        assert ("b", "destroy") in cycle
        assert await a.ping() == "pong"
        while await b.is_alive():  # it goes on ending
            await anyio.lowlevel.checkpoint()


@PLACES
@both_drivers
async def test_an_actor_that_is_being_destroyed_does_not_wait_for_its_destroyer(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b = await nodes(n, pools, 2)
        board = await n.create_actor(Board)
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "call", b, "destroy")
            crossing.start(b, "call_when", board, a)
            await board.wait("runs")
            await ready(a)
            await a.go()
            while await b.is_alive():
                await anyio.lowlevel.checkpoint()
            await board.post("go")
        assert crossing.gave["a"] is None
        assert crossing.gave["b"] == [("b", "call_when"), ("a", "ping"), ("a", "call"), ("b", "call_when")]
        assert await a.ping() == "pong"


@PLACES
@both_drivers
async def test_an_actor_may_kill_one_that_waits_for_it(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b = await nodes(n, pools, 2)
        caught: list[BaseException] = []

        async def call() -> None:
            try:
                await b.call(a)
            except xsc.ActorDied as exc:
                caught.append(exc)

        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "call", b, "kill")
            group.start_soon(call)
            await ready(a, b)
            await b.go()
            await queue(a)
            await a.go()
        assert crossing.gave["a"] is None
        assert len(caught) == 1
        assert await a.ping() == "pong"


@PLACES
@both_drivers
async def test_a_hook_that_calls_its_destroyer_is_refused(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        [a] = await nodes(n, pools, 1)
        notes = await n.create_actor(Notes)
        ends = await n.create_actor(CallsWhenItEnds, a, notes, uid="b")
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "call", ends, "destroy")
            await ready(a)
            await a.go()
        assert crossing.gave == {"a": None}
        assert await notes.read() == [repr([("a", "call"), ("b", "__pre_destroy__"), ("a", "ping")])]


# No false alarms


@PLACES
@both_drivers
async def test_what_needs_no_lock_is_not_refused(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        refs = a, b = await nodes(n, pools, 2)
        for _ in range(5):
            assert await close_in_order_beside(refs) == {"a": "beside", "b": "beside"}
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "call_unlocked", b, "ping")
            crossing.start(b, "call", a, "ping")
            await ready(a, b)
            await b.go()
            await queue(a)
            await a.go()
        assert crossing.gave == {"a": "pong", "b": "pong"}
        stateless = [await n.create_actor(Stateless) for _ in range(2)]
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            for one, other in (stateless, stateless[::-1]):
                crossing.start(one, "pass_on", other, "ping")
        assert list(crossing.gave.values()) == ["pong", "pong"]


async def close_in_order_beside(refs: list[Any]) -> dict[str, Any]:
    async with anyio.create_task_group() as group:
        crossing = Crossing(group)
        for one, other in (refs, refs[::-1]):
            crossing.start(one, "call", other, "beside", LARGE)
        await ready(*refs)
        for ref in refs:
            group.start_soon(ref.go)
    return crossing.gave


@PLACES
@both_drivers
async def test_who_waits_behind_one_that_gets_on_is_not_refused(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, slow = await nodes(n, pools, 2)
        callers = [
            await n.create_actor(Node, pool=f"pool-{at % pools + 1}" if pools else None) for at in range(50)
        ]
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "call", slow, "held")
            await ready(a)
            await a.go()
            await ready(slow)
            for ref in callers:
                crossing.start(ref, "call_now", a, "ping")
            await queue(a, 50)
            await slow.go()
        assert crossing.gave.pop("a") == "held"
        assert list(crossing.gave.values()) == ["pong"] * 50


@pytest.mark.parametrize("pools", [1, 3])
@both_drivers
async def test_of_many_ways_to_one_place_one_is_gone(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        layers = [list(await n.create_group(Node, size=3)) for _ in range(16)]
        [last] = below = await nodes(n, pools, 1)
        async with anyio.create_task_group() as group:
            group.start_soon(last.held)
            await ready(last)
            for layer in reversed(layers):  # each of a layer waits for all of the one below
                for ref in layer:
                    group.start_soon(ref.call_at_once, below)
                for ref in below:
                    await queue(ref, 3)
                below = layer
            await last.go()


@both_drivers
async def test_a_call_that_runs_by_now_is_not_broken_off() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        [a] = await nodes(n, 0, 1)
        async with anyio.create_task_group() as group:
            crossing = Crossing(group)
            crossing.start(a, "held")
            await ready(a)
            runtime = require_runtime()
            cell = runtime.find_cell("a")
            assert cell is not None
            assert cell.mailbox.holder is not None
            runtime.deadlocks.found("a", cell.mailbox.holder.token, [("a", "held"), ("a", "held")])
            await a.go()
        assert crossing.gave == {"a": "held"}


# At random


@PLACES
@both_drivers
async def test_whatever_calls_cross_each_of_them_ends(pools: int) -> None:
    chance = random.Random(pools)
    async with xsc.open_pool_nursery(pools=pools) as n:
        refs = await nodes(n, pools, 5)
        ways = [chance.choices(refs, k=chance.randint(2, 4)) for _ in range(count("XSC_CROSSINGS", 200))]
        gave: list[Any] = []

        async def follow(way: list[Any]) -> None:
            gave.append((len(way), await outcome(way[0].relay, way[1:])))

        async with anyio.create_task_group() as group:
            for way in ways:
                group.start_soon(follow, way)
        assert len(gave) == len(ways)
        for length, found in gave:
            assert found == length or is_cycle(found)
        assert [await ref.ping() for ref in refs] == ["pong"] * 5
        assert [await ref.queued() for ref in refs] == [0] * 5


@PLACES
@both_drivers
async def test_a_cycle_that_is_cut_while_it_is_closed_leaves_nothing(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        refs = a, b = await nodes(n, pools, 2)
        for turn in range(count("XSC_CROSSINGS", 20)):
            async with anyio.create_task_group() as group:
                crossing = Crossing(group)
                crossing.start(a, "call", b)
                crossing.start(b, "call", a)
                await ready(a, b)
                await b.go()
                if turn % 2:
                    await queue(a)
                group.start_soon(a.go)
                if turn % 3:
                    await anyio.lowlevel.checkpoint()
                crossing.scopes["b"].cancel()
            assert crossing.gave["a"] == "pong" or is_cycle(crossing.gave["a"])
            assert [await ref.ping() for ref in refs] == ["pong"] * 2
