"""Actors whose code is asyncio's."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers
from xoscar_sc import to_asyncio

LOOPS = pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])


class Mine(Exception):
    """Not to be mistaken for another."""


class Legacy(xsc.AsyncioActor):
    """An actor as a program on asyncio has it."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.log: list[Any] = []
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    async def __post_create__(self) -> None:
        await asyncio.sleep(0)
        self.pump = asyncio.create_task(self._pump())

    async def __pre_destroy__(self) -> None:
        await self.queue.put(None)
        async with asyncio.timeout(30):
            await self.pump
        if self.path:
            with open(self.path, "a") as file:
                file.write(f"{self.log}\n")

    async def _pump(self) -> None:
        while (item := await self.queue.get()) is not None:
            self.log.append(item)

    async def put(self, item: Any) -> None:
        await self.queue.put(item)

    async def read(self) -> list[Any]:
        await asyncio.sleep(0)
        return self.log

    async def add(self, one: int, other: int = 1) -> int:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0, one + other))
        return task.result()

    def plain(self) -> str:
        return type(asyncio.get_running_loop()).__module__.split(".")[0]

    @xsc.thread
    def in_thread(self) -> int:
        return 3

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise Mine("as it is")

    async def sleep(self) -> None:
        self.log.append("sleeping")
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.01)
            self.log.append("ended")

    async def cancel_itself(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(600)

    async def numbers(self, up_to: int) -> AsyncIterator[int]:
        try:
            async with asyncio.timeout(60):
                for number in range(up_to):
                    await asyncio.sleep(0)
                    yield number
        finally:
            await asyncio.sleep(0.01)
            self.log.append("closed")

    async def yielding(self, ref: Any) -> AsyncIterator[Any]:
        one = yield ref.add(1)
        both = yield ref.add(one), asyncio.sleep(0, 5)
        raise xsc.Return((one, both))

    @xsc.no_lock
    async def beside(self) -> str:
        await asyncio.sleep(0)
        return "beside"

    async def lend(self, ref: Any) -> str:
        async with self.unlocked():
            return await ref.back()

    async def back(self) -> str:
        await asyncio.sleep(0)
        return "back"

    @xsc.context
    async def talk(self, ctx: Any) -> int:
        await ctx.started(await to_asyncio.run_task(self.back))
        return await to_asyncio.run_task(self.add, 1)

    # What it does with others

    async def use(self, ref: Any) -> list[Any]:
        values = [await ref.add(1, other=2)]
        values += await asyncio.gather(*(ref.add(number) for number in range(10)))
        values += await ref.add.batch(ref.add.delay(1), ref.add.delay(2))
        await ref.put.tell("told")
        async with ref.numbers(200) as stream:
            values.append(sum([number async for number in stream]))
        async for number in ref.numbers(10):
            if number == 3:
                break
        values.append(await ref.is_alive())
        found = await xsc.actor_ref(uid=ref.uid)
        values.append(found == ref)
        values.append(xsc.current_actor() is self)
        values.append(xsc.current_pool().name)
        try:
            await ref.fail()
        except Mine as exc:
            values.append(str(exc))
        return values

    async def call(self, ref: Any, method: str, *args: Any) -> Any:
        return await getattr(ref, method)(*args)

    async def call_for(self, ref: Any, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                await ref.sleep()
        except TimeoutError:
            return "in time"
        return "returned"

    async def destroy_other(self, ref: Any) -> bool:
        await ref.destroy()
        return bool(await ref.is_alive())


class Counting(xsc.AsyncioStatelessActor):
    """All of its messages run at once."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def wait(self) -> str:
        await self.event.wait()
        return "woken"

    async def wake(self) -> None:
        await asyncio.sleep(0)
        self.event.set()


class Watching(xsc.AsyncioActor):
    """Sees its messages first."""

    async def __on_receive__(self, message: xsc.Message) -> Any:
        await asyncio.sleep(0)
        value = await super().__on_receive__(message)
        return ["seen", value]

    async def add(self, one: int) -> int:
        await asyncio.sleep(0)
        return one + 1


class TrioCode(xsc.Actor):
    """An ordinary actor."""

    async def add(self, one: int, other: int = 1) -> int:
        await anyio.lowlevel.checkpoint()
        return one + other


@LOOPS
@both_drivers
async def test_messages_of_every_kind(uvloop: bool, tmp_path: Any) -> None:
    path = tmp_path / "log"
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        actor = await pool.create_actor(Legacy, str(path))
        assert await actor.add(1) == 2
        assert await actor.add.batch(actor.add.delay(1), actor.add.delay(2, other=3)) == [2, 5]
        assert await actor.plain() == ("uvloop" if uvloop else "asyncio")
        assert await actor.in_thread() == 3
        assert await actor.beside() == "beside"
        for number in range(100):
            await actor.put.tell(number)
        with pytest.raises(Mine, match="as it is"):
            await actor.fail()
        with pytest.raises(xsc.AsyncioCancelled):
            await actor.cancel_itself()
        async with actor.talk.open_context() as (ctx, first):
            assert first == "back"
            assert await ctx.result() == 2
        assert await actor.add(1) == 2
    assert path.read_text() == f"{list(range(100))}\n"


@LOOPS
@pytest.mark.parametrize("where", ["same pool", "trio", "asyncio"])
async def test_asyncio_code_uses_references(uvloop: bool, where: str) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool("one", asyncio=True, uvloop=uvloop)
        actor = await pool.create_actor(Legacy)
        if where == "trio":
            other = await (await n.start_pool("two")).create_actor(TrioCode)
            assert await actor.call(other, "add", 1) == 2
            assert await actor.call(other.options(copy=True), "add", 1, 2) == 3
            return
        second = pool if where == "same pool" else await n.start_pool("two", asyncio=True)
        other = await second.create_actor(Legacy, uid="other")
        assert await actor.use(other) == [
            3,
            *range(1, 11),
            2,
            3,
            sum(range(200)),
            True,
            True,
            True,
            "one",
            "as it is",
        ]
        assert (await other.read())[0] == "told"
        assert await actor.yielding(other) == (2, (3, 5))
        assert not await actor.destroy_other(other)


@LOOPS
async def test_streams_are_read_and_left(uvloop: bool) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        actor = await pool.create_actor(Legacy)
        assert [number async for number in actor.numbers(500)] == list(range(500))
        async with actor.numbers(10**6) as stream:
            assert await anext(stream) == 0
        with anyio.move_on_after(0.05):
            async with actor.numbers(10**9) as stream:
                async for _ in stream:
                    pass
        assert await actor.read() == ["closed"] * 3


@LOOPS
@both_drivers
async def test_a_cancelled_call_cancels_the_asyncio_task_and_what_that_calls(uvloop: bool) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        other = await n.start_pool(asyncio=True)
        actor = await pool.create_actor(Legacy)
        sleeper = await other.create_actor(Legacy)
        with anyio.move_on_after(0.2) as scope:
            await actor.sleep()
        assert scope.cancelled_caught
        assert await actor.read() == ["sleeping", "ended"]
        async with anyio.create_task_group() as group:
            group.start_soon(actor.call, sleeper, "sleep")
            with anyio.fail_after(30):
                while not await sleeper.is_alive():
                    pass
            await anyio.sleep(0.2)
            group.cancel_scope.cancel()
        assert await sleeper.read() == ["sleeping", "ended"]
        assert await actor.call_for(sleeper, 0.1) == "in time"
        assert await sleeper.read() == ["sleeping", "ended"] * 2


@LOOPS
async def test_locks_are_held_and_lent(uvloop: bool) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        actor = await pool.create_actor(Legacy, uid="actor")
        other = await pool.create_actor(Legacy)
        with pytest.raises(xsc.DeadlockError):
            await actor.call(actor, "back")
        with pytest.raises(xsc.DeadlockError):
            await actor.call(other, "call", actor, "back")
        assert await actor.lend(actor) == "back"
        together = await pool.create_actor(Counting)
        async with anyio.create_task_group() as group:
            group.start_soon(together.wait)
            await together.wake()
        watching = await pool.create_actor(Watching)
        assert await watching.add(1) == ["seen", 2]
        assert await watching.add.batch(watching.add.delay(1), watching.add.delay(2)) == ["seen", [2, 3]]


async def test_deadlines_travel_through_asyncio_code() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True)
        other = await n.start_pool()
        actor = await pool.create_actor(Legacy)
        clock = await other.create_actor(Clock)
        assert await actor.call(clock, "left") is None
        with anyio.fail_after(100):
            left = await actor.call(clock, "left")
        assert left is not None
        assert 50 < left <= 100


class Clock(xsc.Actor):
    """Knows how long it may take."""

    async def left(self) -> float | None:
        await anyio.lowlevel.checkpoint()
        left = anyio.current_effective_deadline() - anyio.current_time()
        return None if left == float("inf") else left


async def test_an_error_of_a_tell_and_of_a_hook_is_the_nurserys() -> None:
    with pytest.raises(Mine, match="as it is"):
        async with xsc.open_pool_nursery(pools=0) as n:
            pool = await n.start_pool(asyncio=True)
            actor = await pool.create_actor(Legacy)
            await actor.fail.tell()
            await anyio.sleep_forever()
    for hook in ("post", "pre"):
        with pytest.raises(Mine, match=hook):
            async with xsc.open_pool_nursery(pools=0) as n:
                pool = await n.start_pool(asyncio=True)
                await pool.create_actor(Hooks, hook)


class Hooks(xsc.AsyncioActor):
    """One of its hooks fails."""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    async def __post_create__(self) -> None:
        await asyncio.sleep(0)
        if self.hook == "post":
            raise Mine("post")

    async def __pre_destroy__(self) -> None:
        await asyncio.sleep(0)
        if self.hook == "pre":
            raise Mine("pre")


async def test_a_pool_without_asyncio_refuses_them() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        for pool in (None, "pool-1"):
            with pytest.raises(xsc.XoscarError, match=r"start_pool\(asyncio=True\)"):
                await n.create_actor(Legacy, pool=pool, uid="again")
        pool = await n.start_pool(asyncio=True)
        assert await (await pool.create_actor(Legacy, uid="again")).add(1) == 2


def test_a_program_on_asyncio_has_them_in_itself() -> None:
    async def main() -> None:
        async with xsc.open_pool_nursery(pools=0) as n:
            actor = await n.create_actor(Legacy)
            assert await actor.add(1) == 2
            assert [number async for number in actor.numbers(3)] == [0, 1, 2]

    asyncio.run(main())


@LOOPS
async def test_dialogues_and_nurseries_are_opened_by_trio_code(uvloop: bool) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True, uvloop=uvloop)
        actor = await pool.create_actor(Opening)
        for what in ("dialogue", "nursery", "monitor"):
            with pytest.raises(xsc.XoscarError, match="run_trio"):
                await actor.open(what)
            assert await actor.open_in_trio(what) == what


class Opening(xsc.AsyncioActor):
    """Opens what only trio code can open."""

    async def open(self, what: str) -> str:
        await asyncio.sleep(0)
        return await self._open(what)

    async def open_in_trio(self, what: str) -> str:
        return await to_asyncio.run_trio(self._open, what)

    async def _open(self, what: str) -> str:
        if what == "nursery":
            async with xsc.open_pool_nursery(pools=1) as n:
                await n.run(abs, -1)
        elif what == "monitor":
            async with self.ref().monitor():
                pass
        else:
            async with self.ref().talk.open_context():
                pass
        return what

    @xsc.context
    async def talk(self, ctx: Any) -> None:
        await ctx.started()


async def test_what_ends_is_forgotten() -> None:
    async def some(count: int) -> None:
        for _ in range(count):
            await actor.add(1)
            await actor.call(other, "add", 1)
            assert [number async for number in actor.numbers(2)] == [0, 1]
            with pytest.raises(Mine):
                await actor.fail()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await actor.add(1)

    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True)
        actor = await pool.create_actor(Quiet)
        other = await pool.create_actor(Quiet)
        await some(50)
        tasks, objects, *descriptors_and_threads = await pool.run(look)
        await some(300)
        more_tasks, more_objects, *more = await pool.run(look)
        assert more_tasks == tasks
        assert more == descriptors_and_threads
        assert more_objects < objects + 300


def look() -> tuple[int, int, int, int]:
    gc.collect()
    tasks = asyncio.all_tasks(asyncio.get_running_loop())
    return (
        len(tasks),
        len(gc.get_objects()),
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    )


class Quiet(Legacy):
    """Keeps no log."""

    async def numbers(self, up_to: int) -> AsyncIterator[int]:
        for number in range(up_to):
            await asyncio.sleep(0)
            yield number


async def test_the_death_of_the_other_pool_is_an_error_in_asyncio_code() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True)
        actor = await pool.create_actor(Legacy)
        try:
            async with xsc.open_pool_nursery(pools=1) as inner:
                victim = await inner.create_actor(TrioCode)
                (other,) = inner.pools.values()
                os.kill(other.pid, signal.SIGKILL)
                with pytest.raises(xsc.PoolDied):
                    await actor.call(victim, "add", 1)
                await anyio.sleep_forever()
        except xsc.PoolDied:
            pass
        assert await actor.add(1) == 2


async def test_their_state_comes_back(tmp_path: Any) -> None:
    store = xsc.Snapshots(tmp_path / "state.db")
    async with xsc.open_pool_nursery(pools=0) as n:
        pool = await n.start_pool(asyncio=True)
        for expected in (1, 2):
            actor = await pool.create_actor(Kept, uid="kept", snapshot=store)
            await actor.count.tell.durable()
            assert await actor.value() == expected
            await actor.destroy()


class Kept(xsc.AsyncioActor):
    """Its state outlives it."""

    def __init__(self) -> None:
        self.counted = 0

    async def count(self) -> None:
        await asyncio.sleep(0)
        self.counted += 1

    async def value(self) -> int:
        await asyncio.sleep(0)
        return self.counted

    async def __snapshot__(self) -> int:
        await asyncio.sleep(0)
        return self.counted

    async def __restore__(self, state: int) -> None:
        await asyncio.sleep(0)
        self.counted = state
