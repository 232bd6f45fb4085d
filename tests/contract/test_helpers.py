"""Several contexts at a time, one context for many, a pool for each CPU."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers


class Log:
    """What happened to some resources."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.go = anyio.Event()

    @asynccontextmanager
    async def resource(
        self, name: str = "it", *, wait: bool = False, enter: Any = None, leave: Any = None
    ) -> AsyncIterator[str]:
        self.lines.append(f"opens {name}")
        if wait:
            await self.go.wait()
        if enter is not None:
            raise enter
        try:
            yield name
        finally:
            self.lines.append(f"closes {name}")
            if leave is not None:
                raise leave


class Sharer(xsc.StatelessActor):
    """Its messages share a nursery of one pool."""

    def __init__(self) -> None:
        self.opened = 0

    @asynccontextmanager
    async def nursery(self) -> AsyncIterator[xsc.PoolNursery]:
        self.opened += 1
        async with xsc.open_pool_nursery(pools=1) as n:
            yield n

    async def ask(self) -> int:
        async with xsc.shared_context(self.nursery, key="nursery") as n:
            pid: int = await n.run(os.getpid)
            return pid

    def count(self) -> int:
        return self.opened


# gather_contexts


@both_drivers
async def test_contexts_are_entered_at_the_same_time_and_left_together() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        started = [xsc.open_pool_nursery(pools=1) for _ in range(3)]
        async with xsc.gather_contexts(started) as nurseries:
            assert len({await each.run(os.getpid) for each in nurseries}) == 3
        assert not n.pools
    async with xsc.gather_contexts([]) as nothing:
        assert nothing == ()


@both_drivers
async def test_the_values_are_in_the_order_of_the_managers() -> None:
    log = Log()
    managers = [log.resource("a", wait=True), log.resource("b"), log.resource("c", wait=True)]
    async with anyio.create_task_group() as group:

        async def enter() -> None:
            async with xsc.gather_contexts(managers) as values:
                assert values == ("a", "b", "c")

        group.start_soon(enter)
        while len(log.lines) < 3:
            await anyio.lowlevel.checkpoint()
        log.go.set()
    assert sorted(log.lines[3:]) == ["closes a", "closes b", "closes c"]


@both_drivers
async def test_one_that_cannot_be_entered_leaves_the_others() -> None:
    log = Log()
    with pytest.raises(KeyError, match="b"):
        async with xsc.gather_contexts(
            [log.resource("a"), log.resource("b", enter=KeyError("b")), log.resource("c", wait=True)]
        ):
            raise AssertionError("nothing is entered")
    assert "closes a" in log.lines
    assert "closes c" not in log.lines


@both_drivers
async def test_an_error_of_the_block_is_raised_as_itself_when_all_have_been_left() -> None:
    log = Log()
    with pytest.raises(LookupError, match="mine"):
        async with xsc.gather_contexts([log.resource("a"), log.resource("b")]):
            raise LookupError("mine")
    assert sorted(log.lines[2:]) == ["closes a", "closes b"]
    with pytest.raises(ExceptionGroup) as caught:
        async with xsc.gather_contexts(
            [log.resource("a", leave=KeyError(1)), log.resource("b", leave=ValueError(2))]
        ):
            pass
    assert {type(each) for each in caught.value.exceptions} == {KeyError, ValueError}


@both_drivers
async def test_a_cancelled_block_leaves_all() -> None:
    log = Log()
    with anyio.CancelScope() as scope:
        async with xsc.gather_contexts([log.resource("a"), log.resource("b")]):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert len(log.lines) == 4


# shared_context


@both_drivers
async def test_ten_ask_and_one_opens() -> None:
    log = Log()
    inside, most = 0, 0

    async def ask() -> None:
        nonlocal inside, most
        async with xsc.shared_context(log.resource) as value:
            assert value == "it"
            inside += 1
            most = max(inside, most)
            while most < 10:
                await anyio.lowlevel.checkpoint()
            inside -= 1

    async with xsc.open_pool_nursery(pools=0):
        for _ in range(2):  # and again, when it has been closed
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(ask)
            most = 0
        assert log.lines == ["opens it", "closes it"] * 2


@both_drivers
async def test_an_error_reaches_every_waiter() -> None:
    log = Log()
    errors: list[BaseException] = []

    async def ask() -> None:
        try:
            async with xsc.shared_context(lambda: log.resource(wait=True, enter=KeyError("no")), key="it"):
                raise AssertionError("it is not open")
        except KeyError as exc:
            errors.append(exc)

    async with xsc.open_pool_nursery(pools=0), anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
        while not log.lines:
            await anyio.lowlevel.checkpoint()
        log.go.set()
    assert len(errors) == 10
    assert log.lines == ["opens it"]


@pytest.mark.parametrize("opened", [True, False])
@both_drivers
async def test_a_first_asker_that_is_cancelled_takes_it_from_nobody(opened: bool) -> None:
    log = Log()
    entered = anyio.Event()
    others: list[str] = []

    def make() -> Any:
        return log.resource(wait=True)

    async def first(scope: anyio.CancelScope) -> None:
        with scope:
            async with xsc.shared_context(make, key="it"):
                entered.set()
                await anyio.sleep_forever()

    async def other() -> None:
        async with xsc.shared_context(make, key="it") as value:
            others.append(value)

    async with xsc.open_pool_nursery(pools=0), anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        group.start_soon(first, scope)
        while not log.lines:
            await anyio.lowlevel.checkpoint()
        if opened:
            log.go.set()
            await entered.wait()
        group.start_soon(other)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        log.go.set()
    assert others == ["it"]
    assert log.lines == ["opens it", "closes it"]


@both_drivers
async def test_a_lone_asker_that_is_cancelled_while_it_opens_leaves_nothing() -> None:
    log = Log()
    async with xsc.open_pool_nursery(pools=0):
        with anyio.move_on_after(0.05) as scope:
            async with xsc.shared_context(lambda: log.resource(wait=True), key="it"):
                raise AssertionError("it is not open")
        assert scope.cancelled_caught
        log.go.set()
        async with xsc.shared_context(lambda: log.resource("again"), key="it") as value:
            assert value == "again"


@both_drivers
async def test_what_closing_raises_is_the_last_users() -> None:
    log = Log()
    async with xsc.open_pool_nursery(pools=0):
        with pytest.raises(KeyError, match="close"):
            async with xsc.shared_context(lambda: log.resource(leave=KeyError("close")), key="it"):
                pass
    with pytest.raises(xsc.XoscarError, match="no pool nursery"):
        async with xsc.shared_context(log.resource):
            pass


@both_drivers
async def test_the_messages_of_a_pool_share_a_nursery() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        sharer = await n.create_actor(Sharer)
        pids: list[int] = []

        async def ask() -> None:
            pids.append(await sharer.ask())

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
        assert await sharer.count() <= len(set(pids)) <= 5
        assert len(pids) == 5


# open_actor_cluster


@both_drivers
async def test_a_cluster_has_a_pool_for_each_cpu_or_for_each_name() -> None:
    async with xsc.open_actor_cluster() as pools:
        assert list(pools) == [f"worker-{number}" for number in range(len(os.sched_getaffinity(0)))]
    async with xsc.open_actor_cluster(names=["a", "b"], env={"ROLE": "member"}) as pools:
        assert {name: await pool.run(os.getenv, "ROLE") for name, pool in pools.items()} == {
            "a": "member",
            "b": "member",
        }
        assert len({pool.pid for pool in pools.values()}) == 2


@both_drivers
async def test_a_cluster_that_makes_no_sense_is_refused() -> None:
    wrong: list[dict[str, Any]] = [{"count": 0}, {"count": 2, "names": ["a"]}, {"names": "ab"}]
    for options in wrong:
        with pytest.raises(ValueError, match="="):
            async with xsc.open_actor_cluster(**options):
                pass
    with pytest.raises(TypeError):
        async with xsc.open_actor_cluster("2"):  # type: ignore[arg-type]
            pass
