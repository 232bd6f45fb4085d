"""Where actors go, and whose name is whose: with real pools, many at a time, and cut off in the middle."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import trio

import xoscar_sc as xsc
from tests.contract.actors import Echo
from tests.contract.driving import both_drivers, count
from xoscar_sc.strategy import IdleLabel, LeastLoaded, PoolView, RandomLabel, Request

CANCELS = count("XSC_ALLOCATION_CANCELS", 100)
REUSES = count("XSC_ALLOCATION_REUSES", 50)


class Fails(xsc.Actor):
    def __init__(self) -> None:
        raise ValueError("no")


class SlowToCome(xsc.Actor):
    """Takes some time to be made."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __post_create__(self) -> None:
        await trio.sleep(self.seconds)


class NeverComes(xsc.Actor):
    async def __post_create__(self) -> None:
        await trio.sleep_forever()


def loads(n: xsc.PoolNursery) -> list[int]:
    return [pool.load for pool in n.pools.values()]


async def try_to_create(n: xsc.PoolNursery, number: int, **options: Any) -> tuple[list[Any], list[Exception]]:
    """Create actors at the same time; those that came to be, and the errors of the others."""
    made: list[Any] = []
    errors: list[Exception] = []

    async def create() -> None:
        try:
            made.append(await n.create_actor(Echo, **options))
        except xsc.XoscarError as exc:
            errors.append(exc)

    async with anyio.create_task_group() as group:
        for _ in range(number):
            group.start_soon(create)
    return made, errors


# One of a mark in each pool


@pytest.mark.parametrize("label", ["store", None])
@both_drivers
async def test_of_many_at_a_time_one_goes_to_each_idle_pool(label: str | None) -> None:
    labels = ["store", "store", "other"] if label else ["store", "store"]
    async with xsc.open_pool_nursery(pools=len(labels), labels=labels) as n:
        made, errors = await try_to_create(n, 5, strategy=IdleLabel(label, "one"))
        assert len({ref.address for ref in made}) == len(made) == 2
        assert {ref.address for ref in made} == {n.pools["pool-1"].address, n.pools["pool-2"].address}
        assert [type(exc) for exc in errors] == [xsc.NoIdleSlot] * 3
        what = "2 pools with the label 'store'" if label else "2 sub pools"
        assert f"the mark 'one': there are {what}" in str(errors[0])
        # Other marks, and actors without any, do not count.
        made_too, _ = await try_to_create(n, 2, strategy=IdleLabel(label, "another"))
        assert len({ref.address for ref in made_too}) == 2
        await n.create_actor(Echo, pool="pool-1")


@both_drivers
async def test_a_mark_is_free_again_when_its_actor_is_gone_and_when_it_never_came_to_be() -> None:
    one = IdleLabel("store", "one")
    async with xsc.open_pool_nursery(pools=1, labels=["store"]) as n:
        for how in ("destroy", "kill"):
            ref = await n.create_actor(Echo, strategy=one)
            with pytest.raises(xsc.NoIdleSlot):
                await n.create_actor(Echo, strategy=one)
            await getattr(ref, how)()
        with pytest.raises(ValueError, match="no"):
            await n.create_actor(Fails, strategy=one)
        with anyio.move_on_after(0.02):
            await n.create_actor(NeverComes, strategy=one)
        await n.create_actor(Echo, uid="held", pool="pool-1")
        with pytest.raises(xsc.ActorAlreadyExist):
            await n.create_actor(Echo, uid="held", strategy=one)
        assert loads(n) == [1]
        await n.create_actor(Echo, strategy=one)
        assert loads(n) == [2]


@both_drivers
async def test_a_mark_is_held_while_its_actor_is_being_made() -> None:
    one = IdleLabel("store", "one")
    async with xsc.open_pool_nursery(pools=1, labels=["store"]) as n:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: n.create_actor(NeverComes, strategy=one))
            while not n.pools["pool-1"].load:
                await anyio.lowlevel.checkpoint()
            with pytest.raises(xsc.NoIdleSlot):
                await n.create_actor(Echo, strategy=one)
            group.cancel_scope.cancel()
        await n.create_actor(Echo, strategy=one)


@pytest.mark.parametrize("how", ["kill", "stop"])
@both_drivers
async def test_a_pool_that_ends_takes_its_seats_with_it(how: str) -> None:
    one = IdleLabel("store", "one")
    async with xsc.open_pool_nursery(pools=1, labels=["store"]) as n:
        old = n.pools["pool-1"]
        ref = await n.create_actor(Echo, uid="held", strategy=one)
        if how == "kill":
            old.kill()
            with pytest.raises(xsc.NoIdleSlot, match="0 pools"):
                await n.create_actor(Echo, strategy=one)
            await old.wait()
        else:
            await old.stop()
        assert old.load == 0
        assert dict(n.actors) == {}
        new = await n.start_pool("pool-1", label="store")
        again = await n.create_actor(Echo, uid="held", strategy=one)
        assert again.address == new.address != ref.address
        assert (old.load, new.load) == (0, 1)
        with pytest.raises(xsc.NoIdleSlot, match="1 pools"):
            await n.create_actor(Echo, strategy=one)
        assert await again.pid() == new.pid


@both_drivers
async def test_a_block_may_be_left_at_once_when_a_pool_was_killed() -> None:
    for _ in range(5):
        async with xsc.open_pool_nursery(pools=1) as n:
            await n.create_actor(Echo)
            n.pools["pool-1"].kill()


# Who may be chosen


@both_drivers
async def test_a_pool_that_is_ending_is_not_chosen() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first, second = n.pools.values()
        first.kill()
        assert (await n.create_actor(Echo, strategy=LeastLoaded())).address == second.address
        busy = await n.create_actor(SlowToCome, 0.0, pool=second)
        async with anyio.create_task_group() as group:
            third = await n.start_pool()
            group.start_soon(second.stop)
            await anyio.lowlevel.checkpoint()
            for _ in range(4):
                assert (await n.create_actor(Echo)).address == third.address
        assert await busy.is_alive() is False


@both_drivers
async def test_on_demand_one_that_is_ending_is_replaced() -> None:
    async with xsc.open_pool_nursery() as n:
        ref = await n.create_actor(Echo)
        (pool,) = n.pools.values()
        assert ref.address == pool.address
        pool.kill()
        again = await n.create_actor(Echo)
        assert again.address not in (ref.address, n.runtime.address)
        await pool.wait()


@both_drivers
async def test_on_demand_there_are_no_more_pools_than_cpus() -> None:
    async with xsc.open_pool_nursery() as n:
        made, errors = await try_to_create(n, 10)
        assert errors == []
        usable = len(os.sched_getaffinity(0))
        assert len(n.pools) == min(usable, 10)
        assert len({ref.address for ref in made}) == len(n.pools)
        assert sum(loads(n)) == 10


@both_drivers
async def test_many_at_a_time_are_spread_evenly() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        made, _ = await try_to_create(n, 8)
        assert loads(n) == [4, 4]
        for ref in made:
            await ref.destroy()
        assert loads(n) == [0, 0]


@both_drivers
async def test_pools_are_in_the_order_that_was_asked_for_whichever_was_ready_first() -> None:
    specs = [xsc.PoolSpec(label="a"), xsc.PoolSpec("pool-2", label="b"), xsc.PoolSpec(label="c")]
    async with xsc.open_pool_nursery(specs) as n:
        assert [(pool.name, *pool.labels) for pool in n.pools.values()] == [
            ("pool-1", "a"),
            ("pool-2", "b"),
            ("pool-3", "c"),
        ]
        assert (await n.start_pool()).name == "pool-4"


@both_drivers
async def test_a_label_is_found_and_one_that_nobody_has_is_not() -> None:
    async with xsc.open_pool_nursery(
        [xsc.PoolSpec("a", label=("red", "round")), xsc.PoolSpec("b", label="red"), xsc.PoolSpec("c")]
    ) as n:
        red = {(await n.create_actor(Echo, strategy=RandomLabel("red"))).address for _ in range(40)}
        assert red == {n.pools["a"].address, n.pools["b"].address}
        assert (await n.create_actor(Echo, strategy=RandomLabel("round"))).address == n.pools["a"].address
        with pytest.raises(xsc.NoIdleSlot, match="no pool has the label 'blue'"):
            await n.create_actor(Echo, strategy=RandomLabel("blue"))


def affinity() -> list[int]:
    return sorted(os.sched_getaffinity(0))


@both_drivers
async def test_a_pool_runs_on_its_cpus_and_on_all_of_its_parents_if_nothing_is_said() -> None:
    ours = affinity()
    async with xsc.open_pool_nursery(pools=0) as n:
        for cpu in ours[:2]:
            pool = await n.start_pool(cpus=(cpu,))
            assert pool.cpus == (cpu,)
            assert await pool.run(affinity) == [cpu]
            assert os.sched_getaffinity(pool.pid) == {cpu}
        free = await n.start_pool()
        assert free.cpus is None
        assert await free.run(affinity) == ours
        assert affinity() == ours


# Strategies of one's own


class Second:
    """The second of the pools, and held there."""

    mark = "second"

    def __init__(self) -> None:
        self.seen: list[list[PoolView]] = []

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        self.seen.append(list(pools))
        return pools[2]


@both_drivers
async def test_one_of_your_own_sees_what_there_is_and_its_mark_is_held() -> None:
    async with xsc.open_pool_nursery(pools=2, labels=["x", "y"]) as n:
        strategy = Second()
        ref = await n.create_actor(Echo, allocate_strategy=strategy)
        one, two = n.pools.values()
        assert ref.address == two.address
        await n.create_actor(Echo, strategy=strategy)
        first, second = strategy.seen
        assert [(view.name, view.main, view.labels, view.load) for view in first] == [
            ("root", True, (), 0),
            (one.name, False, one.labels, 0),
            (two.name, False, two.labels, 0),
        ]
        assert second[2].load == 1
        assert [set(view.marks) for view in second] == [set(), set(), {"second"}]


class Answers:
    """Says what it is told to."""

    def __init__(self, answer: Any, mark: Any = None) -> None:
        self.answer = answer
        self.mark = mark

    def choose(self, pools: Sequence[PoolView], request: Request) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def __repr__(self) -> str:
        return "Answers()"


@pytest.mark.parametrize(
    "answer", [None, "pool-1", 0, PoolView("pool-1", "unix:///elsewhere"), PoolView("root", "", main=True)]
)
@both_drivers
async def test_what_is_chosen_has_to_be_one_of_the_pools(answer: Any) -> None:
    async with xsc.open_pool_nursery(pools=1, name="mine") as n:
        with pytest.raises(TypeError, match=r"Answers\(\) has chosen .* none of the pools .* 'mine'"):
            await n.create_actor(Echo, uid="one", strategy=Answers(answer))
        assert loads(n) == [0]
        await n.create_actor(Echo, uid="one")


@both_drivers
async def test_what_a_strategy_raises_reaches_the_caller_and_nothing_is_left_of_it() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        for answer in (LookupError("mine"), xsc.NoIdleSlot("mine")):
            with pytest.raises(type(answer), match="mine"):
                await n.create_actor(Echo, uid="one", strategy=Answers(answer))
        with pytest.raises(TypeError, match="the mark of Answers"):
            await n.create_actor(Echo, uid="one", strategy=Answers(None, mark=3))
        assert loads(n) == [0]
        await n.create_actor(Echo, uid="one")
        assert loads(n) == [1]


@both_drivers
async def test_functions_have_seats_too_and_give_them_back() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        (pool,) = n.pools.values()
        with pytest.raises(ZeroDivisionError):
            await n.run(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        with anyio.move_on_after(0.02):
            await n.run(trio.sleep_forever)
        async with anyio.create_task_group() as group:
            group.start_soon(n.run, trio.sleep_forever)
            group.start_soon(pool.run, trio.sleep_forever)
            while pool.load < 2:
                await anyio.lowlevel.checkpoint()
            assert pool.load == 2
            group.cancel_scope.cancel()
        assert pool.load == 0


# Names


async def create_and_cut_off(number: int, seed: int, pools: int) -> int:
    """Cancel a creation at random moments; how often it had come to its end before. A pool's function, and a test's."""
    chance = random.Random(seed)
    finished = 0
    async with xsc.open_pool_nursery(pools=pools) as n:
        for _ in range(number):
            ref = None
            with anyio.move_on_after(chance.choice([0.0, chance.random() * 0.004, chance.random() * 0.02])):
                ref = await n.create_actor(SlowToCome, chance.choice([0.0, 0.002]), uid="cut off")
            if ref is not None:
                finished += 1
                await ref.destroy()
            again = await n.create_actor(Echo, uid="cut off")
            assert (await xsc.find_actor("cut off")) is not None
            await again.destroy()
        assert sum(pool.load for pool in n.pools.values()) == 0
        assert dict(n.actors) == {}
    return finished


@both_drivers
async def test_a_creation_that_is_cut_off_at_the_root_leaves_no_name() -> None:
    await create_and_cut_off(CANCELS, 1, pools=1)


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_a_creation_that_is_cut_off_below_the_root_leaves_no_name(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        finished = await n.run(create_and_cut_off, CANCELS, 2, pools)
        assert finished < CANCELS, "none was cut off"
        await n.create_actor(Echo, uid="cut off")


async def create_below(uid: str, depth: int) -> None:
    """Create an actor in a pool so far below, and stay. A pool's function."""
    async with xsc.open_pool_nursery(pools=1) as n:
        if depth:
            await n.run(create_below, uid, depth - 1)
        await n.create_actor(Echo, uid=uid)
        await trio.sleep_forever()


@pytest.mark.parametrize("depth", [0, 1])
@both_drivers
async def test_the_end_of_a_pool_frees_the_names_of_all_below_it(depth: int) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        (pool,) = n.pools.values()

        async def run() -> None:
            with pytest.raises(xsc.PoolDied):
                await pool.run(create_below, "deep", depth)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await xsc.wait_for_actor("deep")
            pool.kill()
            await pool.wait()
            await n.create_actor(Echo, uid="deep", pool=await n.start_pool())


async def create_and_destroy(uid: str, number: int, here: bool) -> None:
    """Use a uid again and again, beside nobody. A pool's function."""
    async with xsc.open_pool_nursery(pools=0 if here else 1) as n:
        for _ in range(number):
            ref = await n.create_actor(Echo, uid=uid)
            await ref.destroy()


async def destroy(ref: Any) -> None:
    await ref.destroy()


@both_drivers
async def test_a_uid_is_free_for_everybody_as_soon_as_its_actor_is_gone() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        one, two = n.pools.values()
        for number in range(REUSES):
            ref = await n.create_actor(Echo, uid="again", pool=(one, two)[number % 2])
            # Another process may end it, and the news comes on another way than the answer.
            if number % 3:
                await ref.destroy()
            else:
                await (two, one)[number % 2].run(destroy, ref)
            ref = await n.create_actor(Echo, uid="again", pool=(one, two)[number % 3 % 2])
            assert await ref.echo(number) == number
            assert n.actors["again"] is ref
            await ref.destroy()
            if number % 10 == 0:
                await one.run(create_and_destroy, "again", 5, number % 20 == 0)
        assert loads(n) == [0, 0]
        await one.run(create_and_destroy, "again", REUSES, False)
        await two.run(create_and_destroy, "again", REUSES, True)
        assert dict(n.actors) == {}


@both_drivers
async def test_the_failure_of_one_creation_does_not_take_the_name_from_another() -> None:
    chance = random.Random(3)
    lost: list[Exception] = []
    failed: list[Exception] = []
    async with xsc.open_pool_nursery(pools=1) as n:

        async def fail() -> None:
            while True:
                try:
                    await n.create_actor(Fails, uid="wanted")
                except (ValueError, xsc.ActorAlreadyExist) as exc:
                    failed.append(exc)
                await anyio.sleep(chance.random() * 0.003)

        async def create() -> None:
            made = 0
            while made < REUSES:
                try:
                    ref = await n.create_actor(Echo, uid="wanted")
                except xsc.ActorAlreadyExist:
                    await anyio.sleep(chance.random() * 0.003)
                    continue
                made += 1
                await anyio.sleep(chance.random() * 0.003)
                try:
                    with pytest.raises(xsc.ActorAlreadyExist):
                        await n.create_actor(Echo, uid="wanted")
                    assert (await xsc.find_actor("wanted")) == ref
                except (AssertionError, pytest.fail.Exception) as exc:
                    lost.append(exc)
                await ref.destroy()

        async with anyio.create_task_group() as failing:
            failing.start_soon(fail)
            failing.start_soon(fail)
            async with anyio.create_task_group() as group:
                group.start_soon(create)
                group.start_soon(create)
            failing.cancel_scope.cancel()
        assert lost == []
        assert any(isinstance(exc, ValueError) for exc in failed)
        assert loads(n) == [0]
        await n.create_actor(Echo, uid="wanted")
