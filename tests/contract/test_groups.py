"""Groups of actors: who gets a message, many calls for many items, and all or none."""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board
from tests.contract.driving import both_drivers, causes, run_program
from tests.contract.workers import SAME_AND_OTHER, Mine, Worker, logs, workers


class FailsAsThird(xsc.Actor):
    """The third of them fails, when the others are there."""

    def __init__(self, board: Any) -> None:
        self.board = board

    async def __post_create__(self) -> None:
        if self.uid.endswith("-2"):
            for number in (0, 1):
                await self.board.wait(f"g-{number}")
            raise Mine(self.uid)
        await self.board.post(self.uid)

    async def __pre_destroy__(self) -> None:
        await self.board.post(f"{self.uid} ended")


class NeverReady(xsc.Actor):
    def __init__(self, board: Any) -> None:
        self.board = board

    async def __post_create__(self) -> None:
        await self.board.post(self.uid)
        if not self.uid.endswith("-0"):
            await anyio.sleep_forever()


# Routes


@SAME_AND_OTHER
@both_drivers
async def test_round_robin_goes_round(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        assert [member.uid for member in group] == ["w-0", "w-1", "w-2", "w-3"]
        found = [await group.who() for _ in range(8)]
        assert sorted(found[:4]) == [member.uid for member in group]
        assert found[4:] == found[:4]
        for number in range(8):
            await group.note.tell(number)
        assert [len(await member.notes()) for member in group] == [2] * 4


@SAME_AND_OTHER
@both_drivers
async def test_least_busy_passes_over_who_is_busy(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        board = await n.create_actor(Board)
        group = await workers(n, route="least_busy", board=board)
        held: list[Any] = []

        async def hold(word: str) -> None:
            held.append(await group.hold(word))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold, "first")
            await board.wait("first runs")
            found = [await group.who() for _ in range(30)]
            assert len(set(found)) == 3
            tasks.start_soon(hold, "second")
            await board.wait("second runs")
            assert len({await group.who() for _ in range(30)}) == 2
            await board.post("first")
            await board.post("second")
        assert sorted(held) == ["first", "second"]
        assert len({await group.who() for _ in range(30)}) == 4


KEYS: list[Any] = [
    *range(20),
    *(f"key {number}" for number in range(20)),
    None,
    1.5,
    b"key",
    ("a", 1),
    frozenset({"a", "b", "c", "d"}),
    2**70,
]


@SAME_AND_OTHER
@both_drivers
async def test_the_same_key_goes_to_the_same_actor_from_everywhere(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n, xsc.open_pool_nursery(pools=1) as elsewhere:
        group = await workers(n, route="hash")
        user = await elsewhere.create_actor(Worker)
        found = [await group.who(key) for key in KEYS]
        assert len(set(found)) == 4
        assert [await group.who(key) for key in KEYS] == found
        copied = pickle.loads(pickle.dumps(group))
        assert [await copied.who(key) for key in KEYS] == found
        assert [await user.use_one(group, key) for key in KEYS] == found
        with pytest.raises(TypeError, match="first argument"):
            await group.who()


@both_drivers
async def test_equal_keys_are_the_same_key() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        group = await workers(n, size=100, route="hash")
        word, other = (b"word".decode() for _ in range(2))
        assert word is not other
        for one, equal in [
            ((word, word), (word, other)),
            ([word, word], [word, other]),
            ({"a": word, "b": word}, {"b": other, "a": word}),
            (frozenset("abcdefgh"), frozenset("hgfedcba")),
        ]:
            assert one == equal
            assert await group.who(one) == await group.who(equal)


def test_a_key_has_the_same_place_in_every_process(tmp_path: Any) -> None:
    source = """
        import xoscar_sc as xsc
        refs = [xsc.ActorRef("unix:///nowhere", str(number)) for number in range(1000)]
        group = xsc.ActorGroup(refs, "hash")
        keys = ["a", "b", 1, None, ("a", "b"), frozenset("abcdef"), {"a": {"b", "c", "d"}}]
        print([group.__pick__((key,)) for key in keys])
    """
    outputs = {run_program(tmp_path, source, env={"PYTHONHASHSEED": seed}) for seed in ("1", "2", "3")}
    assert len(outputs) == 1


@SAME_AND_OTHER
@both_drivers
async def test_a_broadcast_goes_to_all_and_gives_all_values(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n, route="broadcast")
        assert await group.who("key") == ["w-0", "w-1", "w-2", "w-3"]
        assert await group.who.send("key") == await group.who("key")
        await group.note.tell("all")
        assert await logs(group) == ["all"] * 4
        with pytest.raises(TypeError, match="stream"):
            await group.numbers(3)
        with pytest.raises(Mine):
            await xsc.ActorGroup(group.members[:1], "broadcast").fail_at(3, 3)
        with pytest.raises((Mine, ExceptionGroup)) as caught:
            await group.fail_at(3, 3)
        assert all(isinstance(exc, Mine) for exc in causes(caught.value))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await group.who("never")
        assert scope.cancelled_caught


@pytest.mark.parametrize("route", ["round_robin", "least_busy"])
@SAME_AND_OTHER
@both_drivers
async def test_one_that_has_ended_is_passed_over_once_it_has_been_met(pools: int, route: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n, route=route)
        await group[2].destroy()
        failures = 0
        for _ in range(20):
            try:
                assert await group.who() != "w-2"
            except xsc.ActorNotExist:
                failures += 1
        assert failures == 1
        await group.destroy()
        await group.destroy()
        assert not n.actors
        for _ in range(5):
            with pytest.raises(xsc.ActorNotExist):
                await group.who()
        with pytest.raises(xsc.ActorNotExist):
            [value async for value in group.add.map(range(3))]


@SAME_AND_OTHER
@both_drivers
async def test_a_group_is_a_value(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n)
        copied = pickle.loads(pickle.dumps(group))
        assert copied == group
        assert hash(copied) == hash(group)
        assert copied != xsc.ActorGroup(group, "hash")
        assert (len(copied), copied[1], copied.route) == (4, group[1], "round_robin")
        user = await n.create_actor(Worker)
        assert await user.use(group) == [100, 101, 102, 103, 104]
        assert [value async for value in group.numbers(3)] == [0, 1, 2]
        assert "4" in repr(group)
        assert "who" in repr(group.who)


@both_drivers
async def test_a_member_that_uses_its_own_group_is_not_made_to_wait_for_itself() -> None:
    async with xsc.open_pool_nursery(pools=3) as n:
        group = await workers(n)
        assert await group[0].use(xsc.ActorGroup(group.members[1:])) == [100, 101, 102, 103, 104]
        with pytest.raises(xsc.DeadlockError) as caught:
            await group[0].use(group)
        assert caught.value.cycle[0] == ("w-0", "use")
        assert [await member.ping() for member in group] == ["pong"] * 4


@pytest.mark.parametrize("pools", [0, 1, 3])
@both_drivers
async def test_members_that_map_over_each_other_do_not_wait_for_ever(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n, size=2)
        gave: list[Any] = []

        async def use(user: Any, used: Any) -> None:
            try:
                gave.append(await user.use(xsc.ActorGroup([used])))
            except xsc.DeadlockError as exc:
                gave.append(exc.cycle)

        for _ in range(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(use, group[0], group[1])
                tasks.start_soon(use, group[1], group[0])
        assert len(gave) == 20
        assert [await member.ping() for member in group] == ["pong"] * 2


# Making them


@SAME_AND_OTHER
@both_drivers
async def test_wrong_arguments_are_refused(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        for size, error in ((0, ValueError), (-1, ValueError), ("3", TypeError), (True, TypeError)):
            with pytest.raises(error, match="size="):
                await n.create_group(Worker, size=size)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="route="):
            await n.create_group(Worker, size=2, route="x")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="one member"):
            xsc.ActorGroup([])
        assert not n.actors
        group = await workers(n)
        for limit, error in ((0, ValueError), (-1, ValueError), ("3", TypeError), (True, TypeError)):
            with pytest.raises(error, match="limit="):
                group.add.map(range(3), limit=limit)
        with pytest.raises(TypeError, match="iterable"):
            group.add.map()
        with pytest.raises(TypeError, match="async"):
            group.add.map(range(3), group[0].numbers(3))
        with pytest.raises(TypeError):
            group.map(group[0].add, range(3))
        with pytest.raises(TypeError):
            [value async for value in group.add.map(5)]
        for name in ("nothing", "_private", "_busy", "__init__", "kill", "uid"):
            with pytest.raises(AttributeError):
                group.map(name, range(3))
        for name in ("nothing", "_private", "kill", "uid"):
            with pytest.raises(AttributeError):
                getattr(group, name)


@SAME_AND_OTHER
@both_drivers
async def test_a_group_is_made_as_a_whole_or_not_at_all(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        board = await n.create_actor(Board)
        with pytest.raises(Mine, match="g-2"):
            await n.create_group(FailsAsThird, board, size=3, uid="g")
        assert list(n.actors) == [board.uid]
        assert [await xsc.find_actor(f"g-{number}") for number in range(3)] == [None] * 3
        group = await n.create_group(Worker, size=3, uid="g")
        with pytest.raises(xsc.ActorAlreadyExist):
            await n.create_group(Worker, size=1, uid="g")
        assert await group[0].ping() == "pong"


@SAME_AND_OTHER
@both_drivers
async def test_a_group_whose_making_is_cancelled_leaves_nothing(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        board = await n.create_actor(Board)

        async def make(scope: anyio.CancelScope) -> None:
            with scope:
                await n.create_group(NeverReady, board, size=3, uid="g")

        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            tasks.start_soon(make, scope)
            for number in range(3):
                await board.wait(f"g-{number}")
            scope.cancel()
        assert scope.cancelled_caught
        assert list(n.actors) == [board.uid]
        assert len(await n.create_group(Worker, size=3, uid="g")) == 3


@both_drivers
async def test_a_member_whose_pool_dies_is_passed_over() -> None:
    with pytest.raises(xsc.PoolDied):
        async with xsc.open_pool_nursery(pools=0) as n:
            first = await n.create_actor(Worker)
            async with xsc.open_pool_nursery(pools=1) as m:
                second = await m.create_actor(Worker)
                group = xsc.ActorGroup([first, second])
                with anyio.CancelScope(shield=True):
                    os.kill(m.pools["pool-1"].pid, signal.SIGKILL)
                    await m.pools["pool-1"].wait()
                    found: list[Any] = []
                    for _ in range(10):
                        try:
                            found.append(await group.ping())
                        except xsc.PoolDied:
                            found.append("died")
                    assert found.count("died") == 1
