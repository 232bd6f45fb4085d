"""Bounded mailboxes, one message at a time, and calls that would wait for themselves."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, next_event

TOLD = 20_000


class Gate(xsc.Actor):
    """Does nothing before it is let: the gate is opened by a message that needs no lock."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.seen: list[Any] = []

    async def hold(self) -> None:
        await self.open.wait()

    @xsc.no_lock
    async def let(self) -> None:
        self.open.set()

    def see(self, value: Any) -> None:
        self.seen.append(value)

    def report(self) -> list[Any]:
        return self.seen

    @xsc.no_lock
    def queued(self) -> int:
        return len(self._cell().mailbox.waiting)


class Caller(xsc.Actor):
    """Calls what it is told to call."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    async def call(self, ref: Any, method: str, *args: Any) -> Any:
        return await getattr(ref, method)(*args)

    def ping(self) -> str:
        return "pong"

    async def call_itself(self) -> Any:
        return await self.ref().ping()

    async def lend_the_lock(self) -> Any:
        async with self.unlocked():
            return await self.ref().ping()

    @xsc.no_lock
    async def beside(self, ref: Any) -> Any:
        return await ref.call(self.ref(), "ping")

    async def leave_a_task(self) -> None:
        self.nursery.start_soon(self._later)

    async def _later(self) -> None:
        self.values.append(await self.ref().ping())
        await self.ref().stop()

    @xsc.thread
    def in_a_thread(self) -> bool:
        return threading.current_thread() is not threading.main_thread()


class CallsItselfWhenMade(xsc.Actor):
    async def __post_create__(self) -> None:
        await self.ref().ping()

    def ping(self) -> None: ...


async def drops(events: Any, count: int) -> None:
    """Wait until so many messages have been dropped."""
    while count > 0:
        count -= (await next_event(events, xsc.events.MessageDropped)).count
    assert count == 0


async def gate(n: xsc.PoolNursery, **options: Any) -> Any:
    ref = await n.create_actor(Gate, **options)
    await ref.hold.tell()
    return ref


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_a_full_mailbox_makes_its_senders_wait_and_nobody_else(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        slow = await gate(n, mailbox=5)
        other = await n.create_actor(Caller)
        sent: list[int] = []

        async def send() -> None:
            for number in range(20):
                await slow.see.tell(number)
                sent.append(number)

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            while await slow.queued() < 4:
                await anyio.lowlevel.checkpoint()
            assert await other.ping() == "pong"
            assert len(sent) <= 5
            await slow.let()
        assert await slow.report() == list(range(20))


@both_drivers
async def test_a_sender_that_is_cancelled_while_it_waits_has_sent_nothing() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        slow = await gate(n, mailbox=2)
        await slow.see.tell("first")
        with anyio.move_on_after(0) as scope:
            await slow.see.tell("never")
        assert scope.cancelled_caught
        await slow.let()
        assert await slow.report() == ["first"]


@both_drivers
async def test_tells_to_an_actor_that_has_ended_are_dropped_and_hold_up_nobody() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        events = n.events()
        ref = await n.create_actor(Gate, mailbox=3)
        await ref.destroy()
        for number in range(10):
            await ref.see.tell(number)
        await drops(events, 10)


@both_drivers
async def test_what_waits_for_a_slow_actor_stays_bounded() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        slow = await n.create_actor(Gate)
        most = 0
        for number in range(TOLD):
            await slow.see.tell(number)
            if number % 500 == 0:
                most = max(most, await slow.queued())
        assert most <= 1000
        assert await slow.report() == list(range(TOLD))


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_an_actor_may_refuse_what_does_not_fit(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        slow = await gate(n, mailbox=3, overflow="raise")
        with pytest.raises(xsc.MailboxFull):
            for number in range(10):
                await slow.see.tell(number)
        await slow.let()


@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", [7, 8, 9]), ("drop_newest", [0, 1, 2])])
@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_an_actor_may_drop_what_does_not_fit_and_tells_of_it(
    pools: int, overflow: Any, kept: list[int]
) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        events = n.events()
        slow = await gate(n, mailbox=3, overflow=overflow)
        for number in range(10):
            await slow.see.tell(number)
        await drops(events, 7)
        await slow.let()
        while await slow.queued():
            await anyio.lowlevel.checkpoint()
        assert await slow.report() == kept


@both_drivers
async def test_a_call_that_would_wait_for_itself_is_refused_at_once_and_names_the_cycle() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        a = await n.create_actor(Caller, uid="a", pool="pool-1")
        b = await n.create_actor(Caller, uid="b", pool="pool-2")
        c = await n.create_actor(Caller, uid="c", pool="pool-1")
        with pytest.raises(xsc.DeadlockError) as caught:
            await a.call(b, "call", a, "ping")
        assert caught.value.cycle == [("a", "call"), ("b", "call"), ("a", "ping")]
        with pytest.raises(xsc.DeadlockError) as caught:
            await a.call(b, "call", c, "call", a, "ping")
        assert [uid for uid, _ in caught.value.cycle] == ["a", "b", "c", "a"]
        with pytest.raises(xsc.DeadlockError) as caught:
            await a.call_itself()
        assert caught.value.cycle == [("a", "call_itself"), ("a", "ping")]
        assert [await ref.ping() for ref in (a, b, c)] == ["pong"] * 3


@both_drivers
async def test_a_call_out_of_post_create_to_the_actor_itself_is_refused() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        with pytest.raises(xsc.DeadlockError):
            await n.create_actor(CallsItselfWhenMade, uid="it")
        assert await xsc.find_actor("it") is None


@both_drivers
async def test_what_needs_no_lock_closes_no_cycle() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        a = await n.create_actor(Caller, pool="pool-1")
        b = await n.create_actor(Caller, pool="pool-2")
        assert await a.lend_the_lock() == "pong"
        assert await a.beside(b) == "pong"
        await a.leave_a_task()
        while await a.is_alive():  # the task called the actor, and stopped it
            await anyio.lowlevel.checkpoint()


@both_drivers
async def test_a_method_in_a_thread_does_not_hold_up_its_pool() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        a = await n.create_actor(Caller)
        assert await a.in_a_thread()


@both_drivers
async def test_a_mailbox_holds_one_message_at_least() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        for wrong, error in ((0, ValueError), (-1, ValueError), ("9", TypeError), (True, TypeError)):
            with pytest.raises(error, match="mailbox="):
                await n.create_actor(Caller, mailbox=wrong)
        with pytest.raises(ValueError, match="overflow="):
            await n.create_actor(Caller, overflow="burst")  # type: ignore[arg-type]
