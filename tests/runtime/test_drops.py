"""Dropped messages: the first is told at once, the rest are gathered, none is lost."""

from __future__ import annotations

import collections
import time
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xoscar_sc as xsc
from tests.contract.driving import both_drivers
from xoscar_sc.events import MessageDropped
from xoscar_sc.runtime.drops import Drops

SENT = 2000


class Tasks:
    """A loop that keeps what it is to run."""

    def __init__(self) -> None:
        self.spawned: list[Any] = []

    def spawn(self, fn: Any) -> None:
        self.spawned.append(fn)


def test_the_first_is_told_at_once_and_the_rest_when_they_are_asked_for() -> None:
    told: list[MessageDropped] = []
    drops = Drops(Tasks(), told.append)  # type: ignore[arg-type]
    for _ in range(5):
        drops.add("a", "f", "full")
    drops.add("a", "g", "full")
    drops.add("b", "f", "full")
    assert told == [
        MessageDropped(uid, method, "full") for uid, method in [("a", "f"), ("a", "g"), ("b", "f")]
    ]
    drops.flush()
    drops.flush()
    assert told[3:] == [MessageDropped("a", "f", "full", 4)]


def test_what_comes_when_the_pool_ends_is_told_at_once() -> None:
    told: list[MessageDropped] = []
    tasks = Tasks()
    drops = Drops(tasks, told.append)  # type: ignore[arg-type]
    drops.close()
    for _ in range(3):
        drops.add("a", "f", "full")
    assert told == [MessageDropped("a", "f", "full")] * 3
    assert tasks.spawned == []


async def test_one_task_gathers_for_all_and_ends_when_there_is_nothing_more(autojump_clock: Any) -> None:
    told: list[MessageDropped] = []
    async with anyio.create_task_group() as group:
        tasks = Tasks()
        drops = Drops(tasks, told.append)  # type: ignore[arg-type]
        for _ in range(3):
            for uid in "ab":
                for _ in range(10):
                    drops.add(uid, "f", "full")
            assert len(tasks.spawned) == 1
            if tasks.spawned[0] is not None:
                group.start_soon(tasks.spawned[0])
                tasks.spawned[0] = None
            await anyio.sleep(0.101)
        await anyio.sleep(1)
        drops.add("a", "f", "full")
        assert len(tasks.spawned) == 2, "the first one has ended"
        group.cancel_scope.cancel()
    counts = [event.count for event in told if event.uid == "a"]
    assert counts == [1, 9, 10, 10, 1]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("fg"), st.sampled_from(["full", "gone"]))
        | st.just("flush"),
        max_size=60,
    )
)
def test_none_is_lost_and_none_is_told_twice(steps: list[Any]) -> None:
    told: list[MessageDropped] = []
    drops = Drops(Tasks(), told.append)  # type: ignore[arg-type]
    expected: collections.Counter[Any] = collections.Counter()
    for step in steps:
        if step == "flush":
            drops.flush()
        else:
            drops.add(*step)
            expected[step] += 1
    drops.close()
    found: collections.Counter[Any] = collections.Counter()
    for event in told:
        found[event.uid, event.method, event.reason] += event.count
    assert found == expected


class Slow(xsc.Actor):
    """Takes its time for each message."""

    def __init__(self) -> None:
        self.ran = 0

    def work(self, _number: int) -> None:
        time.sleep(0.001)
        self.ran += 1

    async def work_later(self, _number: int) -> None:
        await anyio.sleep(0.001)
        self.ran += 1

    @xsc.no_lock
    def waiting(self) -> int:
        return len(self._cell().mailbox.waiting)

    def report(self) -> int:
        return self.ran


@pytest.mark.parametrize("method", ["work", "work_later"])
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_what_was_not_executed_was_dropped_and_told_of_by_few_events(
    pools: int, overflow: Any, method: str
) -> None:
    if pools == 0 and method == "work":
        method = "work_later"  # in this process it would block the sender, and nothing be dropped
    async with xsc.open_pool_nursery(pools=pools) as n:
        events = n.events()
        slow = await n.create_actor(Slow, mailbox=10, overflow=overflow)
        for number in range(SENT):
            await getattr(slow, method).tell(number)
        while await slow.waiting():  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.01)
        ran = await slow.report()
    dropped = [event async for event in events if isinstance(event, MessageDropped)]
    assert sum(event.count for event in dropped) + ran == SENT
    assert sum(event.count for event in dropped) > SENT / 2
    assert len(dropped) < 100


@both_drivers
async def test_what_was_gathered_is_told_before_the_pool_ends() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        events = n.events()
        ref = await n.create_actor(Slow)
        await ref.destroy()
        for number in range(50):
            await ref.work.tell(number)
    dropped = [event async for event in events if isinstance(event, MessageDropped)]
    assert sum(event.count for event in dropped) == 50
    assert len(dropped) < 10
