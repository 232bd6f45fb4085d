"""Exceptions that are hard to handle, in places where few are expected: each has somebody who gets it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board
from tests.contract.driving import both_drivers, causes, run_program
from tests.contract.test_connections import hello, knock, path_of, tree_of
from tests.contract.workers import workers

POOLS = pytest.mark.parametrize("pools", [0, 1])


@dataclass(frozen=True)
class Frozen(Exception):
    number: int


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("there is no word for it")


class Base(BaseException):
    """Not to be mistaken for another."""


ODD = pytest.mark.parametrize("cls", [Frozen, Unspeakable])


class Raises(xsc.Actor):
    """Raises what it is given, in every way there is."""

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.log: list[str] = []
        self.runs = 0

    async def fail(self, cls: Any) -> None:
        raise cls(3)

    async def fail_when_let(self, cls: Any) -> None:
        await self.event.wait()
        raise cls(3)

    @xsc.no_lock
    def let(self) -> None:
        self.event.set()

    @xsc.no_lock
    def queued(self) -> int:
        return len(self._cell().mailbox.waiting)

    def fail_at_once(self, cls: Any) -> None:
        raise cls(3)

    async def _fail_later(self, cls: Any) -> None:
        await anyio.lowlevel.checkpoint()
        raise cls(3)

    def catch_at_a_yield(self, cls: Any) -> Any:
        try:
            yield self._fail_later(cls)
        except cls:
            return "caught"

    def fail_at_a_yield(self, cls: Any) -> Any:
        yield self._fail_later(cls)

    @xsc.generator
    def stop_async_iteration(self) -> Iterator[int]:
        yield 1
        raise StopAsyncIteration("mine")

    async def count(self) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            self.log.append("closed")

    @xsc.no_lock
    def running(self) -> int:
        return len(self._cell().mailbox.running)

    def ping(self) -> str:
        return "pong"

    @xsc.idempotent(retries=3, backoff=0.001)
    async def exit_another(self, ref: Any) -> None:
        self.runs += 1
        await ref.exit()

    def how_often(self) -> int:
        return self.runs


# Exceptions that are hard to handle


@ODD
@POOLS
@both_drivers
async def test_an_odd_exception_of_a_tell_fails_the_nursery(pools: int, cls: Any) -> None:
    gave: list[Any] = []
    with pytest.raises(cls):
        async with xsc.open_pool_nursery(pools=pools) as n:
            with anyio.CancelScope(shield=True):
                ref = await n.create_actor(Raises)
                await ref.fail_when_let.tell(cls)

                async def ping() -> None:
                    try:
                        gave.append(await ref.ping())
                    except xsc.ActorDied as died:
                        gave.append(str(died))

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ping)
                    tasks.start_soon(ping)
                    while await ref.queued() < 2:
                        await anyio.lowlevel.checkpoint()
                    await ref.let()
    assert len(gave) == 2
    assert all(cls.__name__ in text for text in gave)


@ODD
@POOLS
@both_drivers
async def test_an_odd_exception_of_a_call_is_its_callers(pools: int, cls: Any) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(Raises)
        for method in (ref.fail, ref.fail_at_once, ref.fail_at_a_yield):
            with pytest.raises(cls) as caught:
                await method(cls)
            assert caught.value.args == (3,)
        assert await ref.catch_at_a_yield(cls) == "caught"
        assert await ref.ping() == "pong"


@ODD
@POOLS
@both_drivers
async def test_an_odd_exception_of_the_block_comes_out_of_it(pools: int, cls: Any) -> None:
    with pytest.raises(cls):
        async with xsc.open_pool_nursery(pools=pools):
            raise cls(3)


class NoAttributes(xsc.Actor):
    def __init__(self) -> None:
        self.data = {"ping": 1}

    def __getattr__(self, name: str) -> Any:
        return self.data[name]

    def here(self) -> str:
        return "here"


class BadProperty(NoAttributes):
    __getattr__: Any = object.__getattribute__

    @property
    def nothing(self) -> Any:
        raise ValueError("bad property")


@pytest.mark.parametrize(("cls", "error"), [(NoAttributes, KeyError), (BadProperty, ValueError)])
@POOLS
@both_drivers
async def test_what_looking_up_a_method_raises_is_the_callers(
    pools: int, cls: type[xsc.Actor], error: type[Exception]
) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        await n.create_actor(cls, uid="it")
        ref: Any = await xsc.find_actor("it")
        for _ in range(2):
            with pytest.raises(error):
                await ref.nothing()
            assert await ref.here() == "here"


# Items that are not to be had


def items(exc: BaseException) -> Iterator[int]:
    yield 1
    yield 2
    raise exc


@pytest.mark.parametrize("exc", [Base("mine"), SystemExit(3)], ids=["base", "exit"])
@pytest.mark.parametrize("limit", [None, 1])
@POOLS
@both_drivers
async def test_whatever_the_items_raise_is_the_readers(
    pools: int, limit: int | None, exc: BaseException
) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        group = await workers(n, size=2)
        gave = []
        with pytest.raises(type(exc)) as caught:
            async with group.map("add", items(exc), limit=limit) as values:
                async for value in values:
                    gave.append(value)
        assert caught.value.args == exc.args
        assert set(gave) <= {1, 2, 101, 102}
        assert await group.ping() == "pong"


@pytest.mark.parametrize("limit", [None, 1])
@POOLS
def test_items_that_wait_for_a_cancelled_task_do_not_end_well(pools: int, limit: int | None) -> None:
    async def cancelled() -> AsyncIterator[int]:
        yield 1
        task = asyncio.create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        task.cancel()
        await task
        yield 2

    async def main() -> None:
        with anyio.fail_after(30):
            async with xsc.open_pool_nursery(pools=pools) as n:
                group = await workers(n, size=2)
                with pytest.raises(asyncio.CancelledError):
                    [value async for value in group.map("add", cancelled(), limit=limit)]
                assert await group.ping() == "pong"

    anyio.run(main, backend="asyncio")


# Streams


@POOLS
@both_drivers
async def test_a_stream_that_raises_stop_async_iteration_has_not_ended_well(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(Raises)
        stream = ref.stop_async_iteration()
        assert await anext(stream) == 1
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            await anext(stream)
        assert await ref.ping() == "pong"


@pytest.mark.parametrize("steps", range(4))
@POOLS
@both_drivers
async def test_a_stream_that_another_task_closes_while_it_opens_ends(pools: int, steps: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        ref = await n.create_actor(Raises)
        stream = ref.count()

        async def read() -> None:
            try:
                await anext(stream)
            except (StopAsyncIteration, anyio.ClosedResourceError):
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            await stream.aclose()
        while await ref.running() > 1:  # besides this one
            await anyio.lowlevel.checkpoint()
        assert await ref.ping() == "pong"


# What cannot be sent, and what is sent twice


class Buffers(xsc.Actor):
    """Has more of them than a message may have, and all of them are the same."""

    def many(self) -> list[memoryview]:
        return too_many()

    def take(self, _values: Any = None) -> str:
        return "taken"


def too_many() -> list[memoryview]:
    one = memoryview(bytes(65536))
    return [memoryview(one) for _ in range(65537)]


@both_drivers
async def test_a_message_of_too_many_buffers_is_refused_and_takes_no_room() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        ref = await n.create_actor(Buffers, mailbox=1)
        values = too_many()
        for _ in range(2):
            with pytest.raises(xsc.FrameTooLarge):
                await ref.take.tell(values)
        await ref.take.tell()
        with pytest.raises(xsc.FrameTooLarge):
            await ref.take(values)
        with pytest.raises(xsc.FrameTooLarge):
            await ref.many()
        assert await ref.take() == "taken"


@both_drivers
async def test_a_peer_that_makes_a_call_twice_is_hung_up_on() -> None:
    from xoscar_sc.protocol import Call, encode, frame
    from xoscar_sc.serialize import dumps_call

    async with xsc.open_pool_nursery(pools=1) as n:
        board = await n.create_actor(Board)
        pool = n.pools["pool-1"]
        call = frame(encode(Call(1, board.uid, 0, "wait", dumps_call(("never",), {}))))
        data = hello(tree_of(pool)) + call + call
        await anyio.to_thread.run_sync(knock, path_of(pool.address), data)
        await board.post("never")
        assert await board.words() == ["never"]


# Pools that end


class Exits(xsc.Actor):
    def exit(self) -> None:
        os._exit(3)


@POOLS
@both_drivers
async def test_the_end_of_another_pool_is_no_reason_to_repeat_a_call(pools: int) -> None:
    with pytest.raises(xsc.PoolDied):
        async with xsc.open_pool_nursery(pools=pools) as n:
            ref = await n.create_actor(Raises)
            async with xsc.open_pool_nursery(pools=1) as other:
                exits = await other.create_actor(Exits)
                with anyio.CancelScope(shield=True):
                    with pytest.raises(xsc.PoolDied) as caught:
                        await ref.exit_another(exits)
                    assert caught.value.exit_code == 3
                    assert await ref.how_often() == 1


class Broken(xsc.Actor):
    """Breaks the package itself."""

    def break_it(self) -> None:
        from xoscar_sc.runtime.work import Work

        def raised(_work: Work, exc: BaseException) -> None:
            raise ArithmeticError("a bug") from exc

        Work._raised = raised  # type: ignore[method-assign]

    def fail(self) -> None:
        raise LookupError("mine")


@both_drivers
async def test_a_bug_of_the_package_ends_its_pool() -> None:
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            broken = await n.create_actor(Broken)
            await broken.break_it()
            with anyio.CancelScope(shield=True), pytest.raises(xsc.PoolDied) as died:
                await broken.fail()
    for exc in (died.value, *causes(caught.value)):
        assert isinstance(exc, xsc.PoolDied)
        assert exc.exit_code == 70
        assert "ArithmeticError: a bug" in exc.last_lines[-1]


@pytest.mark.parametrize("driver", ["trio", "asyncio"])
def test_a_bug_of_the_package_in_the_root_comes_out_of_the_nursery(tmp_path: Path, driver: str) -> None:
    source = """
        import sys
        import anyio
        import xoscar_sc as xsc
        from tests.contract.test_odd_exceptions import Broken

        class Waits(Broken):
            async def fail_later(self):
                await anyio.lowlevel.checkpoint()
                self.fail()

        async def main():
            with anyio.fail_after(30):
                try:
                    async with xsc.open_pool_nursery(pools=0, shutdown=0.2) as n:
                        waits = await n.create_actor(Waits)
                        await waits.break_it()
                        await waits.fail_later()
                except ArithmeticError as exc:
                    print(exc)

        if __name__ == "__main__":
            anyio.run(main, backend=sys.argv[1])
    """
    assert run_program(tmp_path, source, driver) == "a bug\n"
