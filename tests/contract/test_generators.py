"""Generators that yield what is to be awaited, and get its result back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, causes
from tests.contract.streaming import Source, tables, until_no_calls

SAME_AND_OTHER = pytest.mark.parametrize("pools", [0, 1])
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


class Mine(Exception):
    """Not to be mistaken for another."""


async def give(value: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    return value


async def fail(exc: Exception) -> Any:
    await anyio.lowlevel.checkpoint()
    raise exc


class Styled(xsc.Actor):
    """Each method in two kinds."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.event = anyio.Event()
        self.meeting = [anyio.Event(), anyio.Event()]

    def ping(self) -> str:
        return "pong"

    def let(self) -> None:
        self.event.set()

    def report(self) -> list[Any]:
        return self.log

    def one_sync(self, value: Any) -> Generator[Any, Any, Any]:
        found = yield give(value)
        return found

    async def one_async(self, value: Any) -> AsyncGenerator[Any, Any]:
        found = yield give(value)
        raise xsc.Return(found)

    def returns_sync(self, value: Any) -> Generator[Any, Any, Any]:
        yield give(None)
        raise xsc.Return(value)

    async def returns_async(self, value: Any) -> AsyncIterator[Any]:
        yield give(None)
        raise xsc.Return(value)

    def nothing_sync(self) -> Generator[Any, Any, Any]:
        yield give(1)

    async def nothing_async(self) -> AsyncIterator[Any]:
        yield give(1)

    def both_sync(self) -> Generator[Any, Any, Any]:
        found = yield self._meet(0), self._meet(1)
        return found

    async def both_async(self) -> AsyncGenerator[Any, Any]:
        found = yield self._meet(0), self._meet(1)
        raise xsc.Return(found)

    async def _meet(self, number: int) -> int:
        self.meeting[number].set()
        await self.meeting[1 - number].wait()
        return number

    def waits_sync(self) -> Generator[Any, Any, Any]:
        yield self._wait()
        return "let"

    async def waits_async(self) -> AsyncIterator[Any]:
        yield self._wait()
        raise xsc.Return("let")

    async def _wait(self) -> None:
        try:
            self.log.append("waits")
            await self.event.wait()
        finally:
            self.log.append("ended")

    def fails_sync(self, exc: Exception, *, catch: bool = False) -> Generator[Any, Any, Any]:
        try:
            yield fail(exc)
        except type(exc) as caught:
            if not catch:
                raise
            return f"caught {caught}"

    async def fails_async(self, exc: Exception, *, catch: bool = False) -> AsyncIterator[Any]:
        try:
            yield fail(exc)
        except type(exc) as caught:
            if not catch:
                raise
            raise xsc.Return(f"caught {caught}") from None

    def two_fail_sync(self) -> Generator[Any, Any, Any]:
        yield fail(Mine("one")), fail(Mine("other"))

    async def two_fail_async(self) -> AsyncIterator[Any]:
        yield fail(Mine("one")), fail(Mine("other"))

    def raises_sync(self, exc: Exception) -> Generator[Any, Any, Any]:
        yield give(1)
        raise exc

    async def raises_async(self, exc: Exception) -> AsyncIterator[Any]:
        yield give(1)
        raise exc

    def calls_sync(self, ref: Any) -> Generator[Any, Any, Any]:
        values = yield ref.ping(), ref.one_sync(1), ref.one_async(2), self.ref().ping()
        return values

    async def calls_async(self, ref: Any) -> AsyncGenerator[Any, Any]:
        values = yield ref.ping(), ref.one_sync(1), ref.one_async(2), self.ref().ping()
        raise xsc.Return(values)

    def lets_others_in_sync(self) -> Generator[Any, Any, Any]:
        self.log.append("begun")
        while not self.event.is_set():
            yield
        return "let"

    def yields_a_number(self) -> Generator[Any, Any, Any]:
        yield 5

    async def coroutine_that_gives_a_generator(self, value: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return self.one_sync(value)

    @xsc.generator
    def mixed(self) -> Generator[Any, Any, Any]:
        """Values for the reader, and things to wait for."""
        yield 1
        found = yield give(2)
        yield found
        yield
        first, second = yield give(3), give(4)
        yield first + second
        yield "text", 5


def method(ref: Any, name: str, kind: str) -> Any:
    return getattr(ref, f"{name}_{kind}")


@KINDS
@SAME_AND_OTHER
@both_drivers
async def test_what_is_yielded_is_awaited_and_given_back(pools: int, kind: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled)
        other = await n.create_actor(Styled)
        for value in (1, None, "text", [1, 2]):
            assert await method(styled, "one", kind)(value) == value
            assert await method(styled, "returns", kind)(value) == value
        assert await method(styled, "nothing", kind)() is None
        assert await method(styled, "calls", kind)(other) == ("pong", 1, 2, "pong")
        assert await method(styled, "one", kind).send(5) == 5
        assert await styled.coroutine_that_gives_a_generator(7) == 7
        delayed = [method(styled, "one", kind).delay(value) for value in range(5)]
        assert await method(styled, "one", kind).batch(*delayed) == list(range(5))
        await method(styled, "one", kind).tell(5)
        assert await styled.ping() == "pong"
        await until_no_calls(await n.create_actor(Source))


@KINDS
@SAME_AND_OTHER
@both_drivers
async def test_several_are_awaited_at_the_same_time(pools: int, kind: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled)
        assert await method(styled, "both", kind)() == (0, 1)


@pytest.mark.parametrize("name", ["waits_sync", "waits_async", "lets_others_in_sync"])
@SAME_AND_OTHER
@both_drivers
async def test_others_get_the_lock_at_a_yield(pools: int, name: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled)
        found: list[Any] = []

        async def call() -> None:
            found.append(await getattr(styled, name)())

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            while not await styled.report():
                await anyio.lowlevel.checkpoint()
            assert found == []
            await styled.let()
        assert found == ["let"]


@KINDS
@SAME_AND_OTHER
@both_drivers
async def test_a_cancelled_call_cancels_what_is_awaited(pools: int, kind: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def cancel() -> None:
                    while not await styled.report():
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                group.start_soon(cancel)
                await method(styled, "waits", kind)()
        assert scope.cancelled_caught
        assert await styled.report() == ["waits", "ended"]
        assert not any(map(any, tables()))


@KINDS
@SAME_AND_OTHER
@both_drivers
async def test_an_error_is_raised_at_the_yield(pools: int, kind: str) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled)
        call = method(styled, "fails", kind)
        assert await call(Mine("text"), catch=True) == "caught text"
        with pytest.raises(Mine, match="text"):
            await call(Mine("text"))
        with pytest.raises(Mine, match="text"):
            await method(styled, "raises", kind)(Mine("text"))
        with pytest.raises((Mine, ExceptionGroup)) as caught:
            await method(styled, "two_fail", kind)()
        assert {str(exc) for exc in causes(caught.value)} <= {"one", "other"}
        assert await styled.ping() == "pong"


@pytest.mark.parametrize(
    "exc",
    [
        RuntimeError("StopIteration"),
        ValueError("generator raised StopIteration"),
        RuntimeError("async generator raised StopAsyncIteration"),
        KeyError("StopIteration"),
    ],
    ids=repr,
)
@KINDS
@SAME_AND_OTHER
@both_drivers
async def test_an_error_that_speaks_of_stop_iteration_is_still_that_error(
    pools: int, kind: str, exc: Exception
) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled)
        for name in ("fails", "raises"):
            with pytest.raises(type(exc)) as caught:
                await method(styled, name, kind)(exc)
            assert str(caught.value) == str(exc)
        assert await method(styled, "fails", kind)(exc, catch=True) == f"caught {exc}"


@pytest.mark.parametrize("exc", [StopIteration(5), StopAsyncIteration(5)], ids=repr)
@KINDS
@SAME_AND_OTHER
@both_drivers
async def test_a_stop_iteration_in_a_generator_is_an_error(pools: int, kind: str, exc: Exception) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled)
        as_it_is = kind == "sync" and isinstance(exc, StopAsyncIteration)
        with pytest.raises((RuntimeError, StopAsyncIteration)) as caught:
            await method(styled, "raises", kind)(exc)
        assert isinstance(caught.value, RuntimeError) != as_it_is
        assert await styled.ping() == "pong"


@SAME_AND_OTHER
@both_drivers
async def test_what_nobody_reads_must_not_be_yielded(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled)
        with pytest.raises(TypeError, match=r"yields_a_number\(\) yields int"):
            await styled.yields_a_number()
        source = await n.create_actor(Source)
        with pytest.raises(TypeError, match=r"numbers\(\) yields int"):
            await source.numbers.batch(source.numbers.delay(3))
        assert await styled.ping() == await source.ping() == "pong"


@SAME_AND_OTHER
@both_drivers
async def test_a_stream_may_also_wait_for_things(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled, uid="styled")
        source = await n.create_actor(Source)
        assert [value async for value in styled.mixed()] == [1, 2, None, 7, ("text", 5)]
        assert [value async for value in await source.numbers(3)] == [0, 1, 2]
        assert [value async for value in await source.nothing()] == []
        with pytest.raises(TypeError, match="is no stream"):
            async for _ in styled.one_async(5):
                pass
        async for _ in styled.nothing_async():
            pytest.fail("there are no values")


@SAME_AND_OTHER
@both_drivers
async def test_a_generator_method_can_be_started_as_a_task(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        styled = await n.create_actor(Styled)
        async with anyio.create_task_group() as group:
            group.start_soon(styled.waits_async)
            group.start_soon(styled.waits_sync)
            while len(await styled.report()) < 2:
                await anyio.lowlevel.checkpoint()
            await styled.let()
        assert sorted(await styled.report()) == ["ended", "ended", "waits", "waits"]
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(styled.raises_async, Mine("text"))
        assert [str(exc) for exc in causes(caught.value)] == ["text"]
