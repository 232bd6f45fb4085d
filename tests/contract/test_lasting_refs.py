"""References across restarts: who holds one need not know that the actor has been started again."""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers
from tests.contract.supervised import (
    Child,
    Mine,
    attempt,
    next_of,
    phases,
    restarts,
    until,
    until_answers,
)
from xoscar_sc.events import MessageDropped, Restarting

SLOWLY = xsc.Backoff(min=0.2, jitter=0)
NEVER = xsc.Backoff(min=3600, max=3600)
WAYS = pytest.mark.parametrize("way", ["raises", "is_killed"])


class Friend(xsc.Actor):
    """Lives elsewhere, and calls a child."""

    def __init__(self, child: xsc.ActorRef[Child]) -> None:
        self.child = child

    async def add(self) -> int:
        return await self.child.add()

    async def pid(self) -> int:
        return await until_answers(self.child)

    async def known(self) -> int:
        await self.child.is_alive()
        return self.child.incarnation

    async def end(self, way: str) -> None:
        await getattr(self.child, way).tell()


@WAYS
@both_drivers
async def test_the_same_reference_reaches_the_next_incarnation_from_everywhere(way: str) -> None:
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Child, uid="child")
        friend = await sup.create_actor(Friend, child, pool=await sup.start_pool("elsewhere"))
        assert await friend.add() == 1
        await friend.end(way)
        await until(lambda: restarts(sup)["child"] == 1)
        assert await friend.add() == 1, "it begins anew"
        assert await child.add() == 2
        assert child.incarnation == await friend.known() == 2
        found = await xsc.find_actor("child")
        assert found == child
        assert hash(found) == hash(child)
        assert await found.add() == 3
        copied = pickle.loads(pickle.dumps(child))
        assert (copied, copied.incarnation, copied.address) == (child, 2, child.address)
        assert await child.me() == child


@WAYS
@both_drivers
async def test_what_is_called_meanwhile_waits(way: str) -> None:
    async with xsc.open_supervisor() as sup:
        events = sup.events()
        child = await sup.create_actor(Child, uid="child", backoff=SLOWLY)
        friend = await sup.create_actor(Friend, child, pool=await sup.start_pool("elsewhere"))
        await friend.end(way)
        await next_of(events, Restarting)
        assert phases(sup)["child"] == "waiting"
        assert not await child.is_alive()
        answers: list[Any] = []

        async def call(fn: Any) -> None:
            answers.append(await fn())

        async with anyio.create_task_group() as group:
            group.start_soon(call, child.add)
            group.start_soon(call, friend.add)
            group.start_soon(call, lambda: child.add.batch(child.add.delay()))
        numbers = [each if isinstance(each, int) else each[0] for each in answers]
        assert sorted(numbers) == [1, 2, 3]
        assert [number async for number in child.numbers(3)] == [0, 1, 2]


@WAYS
@both_drivers
async def test_a_deadline_bounds_the_wait(way: str) -> None:
    async with xsc.open_supervisor() as sup:
        events = sup.events()
        child = await sup.create_actor(Child, uid="child", backoff=NEVER)
        await getattr(child, way).tell()
        await next_of(events, Restarting)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.1):
                await child.add()
        with anyio.move_on_after(0.1) as scope:
            await child.add.tell()
            await child.add()
        assert scope.cancelled_caught
        await sup.restart_child("child")
        assert await child.add() in (1, 2), (
            "the tell was kept if its process lives, and what was cancelled never runs"
        )


@WAYS
@pytest.mark.parametrize("pools", [0, None])
@both_drivers
async def test_a_child_may_say_that_calls_are_not_to_wait(pools: int | None, way: str) -> None:
    if pools == 0 and way == "is_killed":
        return
    async with xsc.open_supervisor(pools) as sup:
        events = sup.events()
        child = await sup.create_actor(Child, uid="child", backoff=NEVER, on_restart="raise")
        await getattr(child, way).tell()
        await next_of(events, Restarting)
        for call in (child.add, lambda: child.add.batch(child.add.delay())):
            with pytest.raises(xsc.ActorUnavailable, match="actor 'child' is being restarted"):
                await call()
        await sup.restart_child("child")
        assert await child.add() == 1


@both_drivers
async def test_open_calls_end_with_actor_died_that_may_have_been_executed() -> None:
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Child, uid="child")
        for end in (child.kill, lambda: os.kill(sup.pools["pool-1"].pid, signal.SIGKILL)):
            ends: list[Any] = []

            async def wait(ends: list[Any] = ends) -> None:
                ends.append(await attempt(child.waits))

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await child.is_alive()  # it has got the call before this one
                value = end()
                if value is not None:
                    await value
            assert isinstance(ends[0], xsc.ActorDied)
            assert ends[0].maybe_executed
            assert ends[0].uid == "child"
            await until_answers(child)
        assert isinstance(ends[0].__cause__, xsc.PoolDied)
        assert "was killed by SIGKILL" in str(ends[0])


@both_drivers
async def test_where_nobody_supervises_it_the_death_of_the_pool_is_what_it_was() -> None:
    with pytest.raises(xsc.PoolDied):
        async with xsc.open_pool_nursery(1) as n:
            child = await n.create_actor(Child, uid="child")
            assert child.incarnation == 1
            await child.is_killed()


@pytest.mark.parametrize("queued", ["keep", "fail"])
@both_drivers
async def test_what_waits_in_the_mailbox_is_kept_or_fails(queued: Any) -> None:
    async with xsc.open_supervisor() as sup:
        events = sup.events()
        child = await sup.create_actor(Child, uid="child", queued=queued)
        results: list[Any] = []

        async def add() -> None:
            try:
                results.append(await child.add())
            except xsc.ActorDied as exc:
                results.append(exc.maybe_executed)

        await child.waits.tell()
        async with anyio.create_task_group() as group:
            await child.add.tell()
            group.start_soon(add)
            await anyio.wait_all_tasks_blocked()
            await child.is_alive()
            await child.kill()
        if queued == "keep":
            assert results == [2], "both were executed, in order"
        else:
            assert results == [False]
            assert (await next_of(events, MessageDropped)).method == "add"
            assert await child.add() == 1


@both_drivers
async def test_tells_that_come_meanwhile_wait_too_and_in_order() -> None:
    async with xsc.open_supervisor() as sup:
        events = sup.events()
        child = await sup.create_actor(Child, uid="child", backoff=SLOWLY)
        await child.raises.tell()
        await next_of(events, Restarting)
        for _ in range(10):
            await child.add.tell()
        assert await child.add() == 11


@both_drivers
async def test_while_a_child_is_restarted_nobody_else_gets_its_name() -> None:
    async with xsc.open_supervisor() as sup, xsc.open_pool_nursery(0) as other:
        events = sup.events()
        child = await sup.create_actor(Child, uid="child", backoff=NEVER)
        await child.is_killed.tell()
        await next_of(events, Restarting)
        for nursery in (sup, other):
            with pytest.raises(xsc.ActorAlreadyExist):
                await nursery.create_actor(Child, uid="child")
        await sup.terminate_child("child")
        await other.create_actor(Child, uid="child")
        with pytest.raises(xsc.ActorAlreadyExist):
            await sup.restart_child("child")


@both_drivers
async def test_who_waits_for_a_child_that_does_not_come_back_is_told() -> None:
    async with xsc.open_supervisor() as sup:
        events = sup.events()
        ends: list[Any] = []
        for way in ("raises", "is_killed"):
            child = await sup.create_actor(Child, uid=f"child-{way}", backoff=NEVER)
            await getattr(child, way).tell()
            await next_of(events, Restarting)

            async def add(child: Any = child) -> None:
                ends.append(await attempt(child.add))

            async with anyio.create_task_group() as group:
                group.start_soon(add)
                await anyio.wait_all_tasks_blocked()
                await sup.terminate_child(child.uid)
        assert [type(end) for end in ends] == [xsc.ActorNotExist] * 2


@both_drivers
async def test_who_waits_for_a_child_is_told_when_its_supervisor_ends() -> None:
    ends: list[Any] = []
    async with xsc.open_pool_nursery(0):
        async with anyio.create_task_group() as group:
            async with xsc.open_supervisor() as sup:
                events = sup.events()
                child = await sup.create_actor(Child, uid="child", backoff=NEVER)
                await child.is_killed.tell()
                await next_of(events, Restarting)

                async def add() -> None:
                    ends.append(await attempt(child.add))

                group.start_soon(add)
                await anyio.wait_all_tasks_blocked()
    assert [type(end) for end in ends] == [xsc.ActorNotExist]


@both_drivers
async def test_a_methods_own_pool_died_is_not_taken_for_the_childs() -> None:
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Borrows, uid="child")
        with pytest.raises(xsc.PoolDied) as caught:
            await child.fails_elsewhere()
        assert caught.value.exit_code == 5
        assert restarts(sup) == {"child": 0}


class Borrows(Child):
    async def fails_elsewhere(self) -> None:
        async with xsc.open_pool_nursery(1) as n:
            await n.run(os._exit, 5)


@both_drivers
async def test_an_idempotent_call_is_repeated_at_the_next_incarnation() -> None:
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Repeats, uid="child")
        assert await child.dies_once(os.getpid()) == "done"


class Repeats(Child):
    """Dies in its first incarnation."""

    @xsc.idempotent(retries=2, backoff=0.01)
    async def dies_once(self, _pid: int) -> str:
        if self.ref().incarnation == 1:
            os._exit(1)
        return "done"


@both_drivers
async def test_an_actor_that_cannot_be_made_is_its_creators_error_and_no_child() -> None:
    async with xsc.open_supervisor() as sup:
        with pytest.raises(Mine):
            await sup.create_actor(Fails, uid="child")
        assert sup.which_children() == []
        child = await sup.create_actor(Child, uid="child")
        assert await child.add() == 1


class Fails(Child):
    async def __post_create__(self) -> None:
        raise Mine("at the first time")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"restart": "often"}, "restart= is 'often'"),
        ({"significant": True}, "a permanent child has no end"),
        ({"shutdown": "soon"}, "shutdown= is 'soon'"),
        ({"backoff": 1}, "backoff= is 1; it is a Backoff"),
        ({"on_restart": "hang"}, "on_restart= is 'hang'"),
        ({"queued": "lose"}, "queued= is 'lose'"),
    ],
)
@both_drivers
async def test_what_makes_no_sense_is_refused_at_the_call(options: dict[str, Any], error: str) -> None:
    async with xsc.open_supervisor(0) as sup:
        with pytest.raises((TypeError, ValueError), match=error):
            await sup.create_actor(Child, **options)
        assert sup.which_children() == []


@both_drivers
async def test_what_goes_with_a_supervisor_is_refused_by_a_nursery() -> None:
    async with xsc.open_pool_nursery(0) as n:
        with pytest.raises(
            TypeError, match=r"restart= goes with a supervisor; open one with open_supervisor\(\)"
        ):
            await n.create_actor(Child, restart="permanent")


def test_a_wrong_supervisor_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="strategy= is 'all'"):
        xsc.open_supervisor(strategy="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="intensity= is -1"):
        xsc.open_supervisor(intensity=-1)
    with pytest.raises(TypeError, match="it is a Supervision"):
        xsc.open_pool_nursery(supervise="one_for_one")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"classes of exceptions, not 3"):
        xsc.fatal(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="one class of exceptions at least"):
        xsc.fatal()


@both_drivers
async def test_a_nursery_with_a_supervision_is_a_supervisor() -> None:
    async with xsc.open_pool_nursery(1, supervise=xsc.Supervision(intensity=1)) as sup:
        assert isinstance(sup, xsc.Supervisor)
        child = await sup.create_actor(Child)
        await child.kill()
        assert await child.add() == 1
