"""Code that does what one does not expect of an actor: it replaces its methods, lends what it has not, spins."""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board, Echo
from tests.contract.driving import both_drivers, causes, program

POOLS = pytest.mark.parametrize("pools", [0, 1])
MESSAGES = 500


class Gate(xsc.Actor):
    """Is held in a method until it is let, and keeps a log."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.lends = anyio.Event()
        self.log: list[Any] = []

    async def hold(self) -> None:
        self.log.append("holds")
        await self.open.wait()
        self.log.append("held")

    async def hold_beside_a_task(self) -> None:
        self.nursery.start_soon(self._lend)
        await self.lends.wait()
        await self.hold()

    async def _lend(self) -> None:
        async with self.unlocked():
            self.lends.set()
            await self.open.wait()
            await anyio.sleep(0.05)

    async def leave_a_task(self) -> None:
        self.nursery.start_soon(self._lend)
        await self.lends.wait()

    @xsc.no_lock
    def let(self) -> None:
        self.open.set()

    def note(self, value: Any) -> None:
        self.log.append(value)

    async def take(self, data: bytes) -> None:
        self.log.append(len(data))

    def report(self) -> list[Any]:
        return self.log

    @xsc.no_lock
    def queued(self) -> int:
        return len(self._cell().mailbox.waiting)


async def queue(ref: Any, count: int) -> None:
    """Wait until so many messages wait for the actor; the test's own bound is around it."""
    while await ref.queued() < count:
        await anyio.lowlevel.checkpoint()


# Locks that are not there to be lent


@POOLS
@both_drivers
async def test_a_task_of_the_nursery_does_not_lend_the_lock_of_a_message(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        gate = await n.create_actor(Gate)
        await gate.hold_beside_a_task.tell()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gate.note, "other")
            await queue(gate, 1)
            await anyio.sleep(0.05)  # a chance to come in
            assert await gate.queued() == 1
            await gate.let()
        assert await gate.report() == ["holds", "held", "other"]


@POOLS
@both_drivers
async def test_a_task_that_lends_nothing_takes_nothing_back(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        gate = await n.create_actor(Gate)
        await gate.leave_a_task()
        await gate.note("before")
        await gate.let()
        await anyio.sleep(0.1)  # a chance to take the lock
        await gate.note("after")
        assert await gate.report() == ["before", "after"]


# Mailboxes


@pytest.mark.parametrize("overflow", ["wait", "raise"])
@POOLS
@both_drivers
async def test_calls_that_time_out_leave_nothing_in_a_mailbox(pools: int, overflow: Any) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        gate = await n.create_actor(Gate, mailbox=10, overflow=overflow)
        await gate.hold.tell()
        for _ in range(MESSAGES):
            with anyio.move_on_after(0.002):
                await gate.take(bytes(50_000))
        assert await gate.queued() <= 10
        await gate.note.tell("there was room")
        await gate.let()
        assert await gate.report() == ["holds", "held", "there was room"]


# Who is the least busy


class Streams(xsc.Actor):
    async def who(self) -> AsyncIterator[str]:
        yield self.uid
        await anyio.sleep_forever()


@POOLS
@both_drivers
async def test_an_open_stream_keeps_a_member_busy(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await n.create_group(Streams, size=2, route="least_busy", uid="s")
        for _ in range(3):
            async with group.who() as one, group.who() as other:
                assert {await anext(one), await anext(other)} == {"s-0", "s-1"}


@pytest.mark.parametrize("route", ["round_robin", "least_busy"])
@POOLS
@both_drivers
async def test_a_member_that_a_stream_has_met_as_ended_is_passed_over(pools: int, route: Any) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await n.create_group(Streams, size=2, route=route, uid="s")
        await group[0].kill()
        failures = 0
        for _ in range(6):
            try:
                stream = group.who()
                assert await anext(stream) == "s-1"
                await stream.aclose()
            except xsc.ActorNotExist:
                failures += 1
        assert failures == 1


# Methods that come to be in odd ways


def local_class() -> Any:
    """A class of its own for each test: it is changed."""

    class Changes(xsc.Actor):
        async def one(self) -> str:
            return "made"

        def sync(self) -> str:
            return "made"

        def replace(self, on: str) -> None:
            async def later(*_: Any) -> str:
                await anyio.sleep(0.001)
                return on

            owner: Any = type(self) if on == "class" else self
            owner.one = owner.sync = later

        async def call(self, ref: Any, method: str) -> Any:
            return await getattr(ref, method)()

    return Changes


@pytest.mark.parametrize("on", ["class", "instance"])
@POOLS
@both_drivers
async def test_a_method_may_be_replaced_by_one_that_waits(pools: int, on: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        cls = local_class()
        ref = await n.create_actor(cls)
        caller = await n.create_actor(cls)
        for method in ("one", "sync"):
            assert await getattr(ref, method)() == "made"
        await ref.replace(on)
        for method in ("one", "sync"):
            for _ in range(2):
                assert await getattr(ref, method)() == on
                assert await caller.call(ref, method) == on


class Later:
    """Can be awaited, and is no coroutine."""

    def __await__(self) -> Any:
        yield from anyio.sleep(0.001).__await__()
        return "later"


class Odd(xsc.Actor):
    """Methods that are none, and those that do not look like it."""

    class Nested:
        pass

    def _times(self, number: int, by: int) -> int:
        return number * by

    twice = functools.partialmethod(_times, by=2)

    @xsc.no_lock
    @staticmethod
    async def static(word: str) -> str:
        await anyio.lowlevel.checkpoint()
        return word

    @xsc.no_lock
    @classmethod
    def of_the_class(cls) -> str:
        return cls.__name__

    def awaitable(self) -> Awaitable[str]:
        return Later()

    def coroutine(self) -> Awaitable[str]:
        return self._later()

    async def _later(self) -> str:
        return await Later()

    async def hold(self, board: Any) -> None:
        await board.post("held")
        await board.wait("let")


@POOLS
@both_drivers
async def test_odd_methods_are_called_like_others(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        known = await n.create_actor(Odd, uid="odd")
        unknown: Any = await xsc.find_actor("odd")
        for ref in (known, unknown):
            for _ in range(2):
                assert await ref.twice(4) == 8
                assert await ref.awaitable() == "later"
                assert await ref.coroutine() == "later"


@POOLS
@both_drivers
async def test_what_is_no_method_is_not_called(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        known: Any = await n.create_actor(Odd, uid="odd")
        unknown: Any = await xsc.find_actor("odd")
        for ref in (known, unknown):
            for name in ("Nested", "unlocked", "nursery"):
                with pytest.raises(AttributeError):
                    await getattr(ref, name)()


@POOLS
@both_drivers
async def test_a_mark_above_a_static_method_counts(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        board = await n.create_actor(Board)
        odd = await n.create_actor(Odd)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(odd.hold, board)
            await board.wait("held")
            assert await odd.static("word") == "word"
            assert await odd.of_the_class() == "Odd"
            await board.post("let")


# Calls that are made for somebody else


class Asks(xsc.Actor):
    def ping(self) -> str:
        return "pong"

    async def ask(self, ref: Any, method: str, *args: Any) -> Any:
        return await getattr(ref, method)(*args)

    async def ask_all(self, *refs: Any) -> Any:
        return await xsc.ActorGroup(refs, "broadcast").ping()

    def ask_in_turns(self, *refs: Any) -> Any:
        values = yield tuple(ref.ping() for ref in refs)
        return list(values)


@pytest.mark.parametrize("how", ["ask_all", "ask_in_turns"])
@POOLS
@both_drivers
async def test_a_cycle_through_several_calls_at_once_is_refused(pools: int, how: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        a, b, c = [await n.create_actor(Asks, uid=uid) for uid in "abc"]
        assert await b.ask(a, how, c, a if how == "ask_in_turns" else c) == ["pong"] * 2
        with pytest.raises((xsc.DeadlockError, ExceptionGroup)) as caught:
            await a.ask(b, how, c, a)
        (exc,) = causes(caught.value)
        assert isinstance(exc, xsc.DeadlockError)
        assert exc.cycle == [("a", "ask"), ("b", how), ("a", "ping")]
        assert [await ref.ping() for ref in (a, b, c)] == ["pong"] * 3


# Threads


async def attempt(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        with anyio.fail_after(30):
            return await call()
    except xsc.XoscarError as exc:
        return exc


@POOLS
@both_drivers
async def test_a_reference_of_another_event_loop_is_refused_at_once(pools: int, request: Any) -> None:
    driver = request.node.callspec.params["driver"]
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(Echo, uid="echo")
        assert await ref.echo(1) == 1

        async def elsewhere() -> list[Any]:
            assert threading.current_thread() is not threading.main_thread()
            calls = [functools.partial(ref.echo, 2), functools.partial(ref.echo.tell, 2), ref.kill]
            before = [await attempt(call) for call in calls]
            async with xsc.open_pool_nursery(pools=0) as other:
                mine = await other.create_actor(Echo, uid="echo")
                gave = [await attempt(call) for call in calls]
                assert not await ref.is_alive()
                assert await mine.echo(3) == 3
                return before + gave

        gave = await anyio.to_thread.run_sync(functools.partial(anyio.run, elsewhere, backend=driver))
        assert all(isinstance(exc, xsc.XoscarError) for exc in gave)
        assert all("no pool nursery is open" in str(exc) for exc in gave[:3])
        assert await ref.echo(4) == 4


# Monitors


@POOLS
@both_drivers
async def test_a_monitor_is_entered_once(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(Echo)
        monitor = ref.monitor()
        async with monitor as exits:
            with pytest.raises(RuntimeError, match="once"):
                await monitor.__aenter__()
            await ref.kill()
            assert (await exits.receive()).kind == "killed"
        with pytest.raises(RuntimeError, match="once"):
            await monitor.__aenter__()


# Ctrl-C


@pytest.mark.parametrize("method", ["spin", "spin_between"])
@pytest.mark.parametrize(("driver", "signals"), [("trio", 1), ("asyncio", 2)])
def test_ctrl_c_reaches_a_method_that_spins(tmp_path: Path, driver: str, signals: int, method: str) -> None:
    source = """
        import signal, sys, time
        import anyio
        import xoscar_sc as xsc

        def spin():
            for _ in range(int(sys.argv[2])):  # asyncio takes the first one for a wish to be cancelled
                signal.raise_signal(signal.SIGINT)
            until = time.monotonic() + 20
            while time.monotonic() < until:
                pass
            print("ended by itself", flush=True)

        class Spins(xsc.Actor):
            async def spin(self):
                await anyio.sleep(0.001)
                spin()

            async def spin_between(self):
                yield 1
                spin()
                yield 2

        async def main():
            async with xsc.open_pool_nursery(pools=0) as n:
                spins = await n.create_actor(Spins)
                if sys.argv[3] == "spin":
                    await spins.spin()
                async for value in spins.spin_between():
                    pass

        if __name__ == "__main__":
            anyio.run(main, backend=sys.argv[1])
    """
    with program(tmp_path, source, driver, str(signals), method) as running:
        assert running.rest() == ""
        running.wait()
        assert running.stderr.splitlines()[-1] == "KeyboardInterrupt"
