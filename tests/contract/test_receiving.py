"""Actors that see their messages before they run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers

SAME_AND_OTHER = pytest.mark.parametrize("pools", [0, 1])


class Mine(Exception):
    """Not to be mistaken for another."""


class Watching(xsc.Actor):
    """Sees its messages, and treats some in its own way."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __on_receive__(self, message: xsc.Message) -> Any:
        self.seen.append(tuple(message))
        if message.args == ("refuse",):
            raise Mine("refused")
        if message.args == ("change",):
            return "changed"
        value = await super().__on_receive__(message)
        return ("got", value) if message.method == "ping" else value

    def ping(self) -> str:
        return "pong"

    def awaits(self, value: Any) -> Generator[Any, Any, Any]:
        yield anyio.lowlevel.checkpoint()
        return value

    def echo(self, value: Any = None, **more: Any) -> Any:
        return value if not more else (value, more)

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @xsc.extensible
    def many(self, value: int) -> int:
        return value

    @many.batch
    def _many(self, args_list: list[Any], kwargs_list: list[Any]) -> list[int]:
        return [-value for (value,) in args_list]

    @xsc.thread
    def in_a_thread(self) -> str:
        return "thread"

    def messages(self) -> list[Any]:
        return self.seen[:-1]


@SAME_AND_OTHER
@both_drivers
async def test_an_actor_may_see_its_messages_before_they_run(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        watching = await n.create_actor(Watching)
        assert await watching.ping() == ("got", "pong")
        assert await watching.echo("change") == "changed"
        with pytest.raises(Mine, match="refused"):
            await watching.echo("refuse")
        assert await watching.echo(1, more=2) == (1, {"more": 2})
        await watching.echo.tell(5)
        assert await watching.messages() == [
            ("ping", False, (), {}),
            ("echo", False, ("change",), {}),
            ("echo", False, ("refuse",), {}),
            ("echo", False, (1,), {"more": 2}),
            ("echo", False, (5,), {}),
        ]


@SAME_AND_OTHER
@both_drivers
async def test_an_actor_sees_batches_streams_and_what_runs_elsewhere_too(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        watching = await n.create_actor(Watching)
        assert await watching.many.batch(*map(watching.many.delay, (1, 2))) == [-1, -2]
        assert await watching.echo.batch(watching.echo.delay(1), watching.echo.delay(value=2)) == [1, 2]
        assert [value async for value in watching.numbers(100)] == list(range(100))
        assert await watching.in_a_thread() == "thread"
        assert await watching.awaits(3) == 3
        assert await watching.messages() == [
            ("many", True, ([(1,), (2,)], [{}, {}]), {}),
            ("echo", True, ([(1,), ()], [{}, {"value": 2}]), {}),
            ("numbers", False, (100,), {}),
            ("in_a_thread", False, (), {}),
            ("awaits", False, (3,), {}),
        ]


@SAME_AND_OTHER
@both_drivers
async def test_a_name_that_an_actor_does_not_have_is_refused_all_the_same(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        watching = await n.create_actor(Watching, uid="watching")
        found = await xsc.find_actor("watching")
        assert found is not None
        with pytest.raises(AttributeError, match="no_such_method"):
            await found.no_such_method()
        assert await watching.ping() == ("got", "pong")


class Doubling(Watching):
    """What it changes about a message, the method gets."""

    async def __on_receive__(self, message: xsc.Message) -> Any:
        if message.method in ("echo", "numbers") and not message.batch:
            message = message._replace(args=(message.args[0] * 2,))
        return await super().__on_receive__(message)


class Plain(Watching):
    """It needs no coroutine for it."""

    def __on_receive__(self, message: xsc.Message) -> Any:
        return message.method


@SAME_AND_OTHER
@both_drivers
async def test_an_actor_may_change_its_messages(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        doubling = await n.create_actor(Doubling)
        assert await doubling.echo(2) == 4
        assert [value async for value in doubling.numbers(2)] == [0, 1, 2, 3]
        plain = await n.create_actor(Plain)
        assert await plain.ping() == "ping"
        assert await plain.echo(1) == "echo"


@SAME_AND_OTHER
@both_drivers
async def test_a_tell_that_is_refused_is_the_actors_failure(pools: int) -> None:
    with pytest.raises(Mine, match="refused"):
        async with xsc.open_pool_nursery(pools=pools) as n:
            watching = await n.create_actor(Watching)
            await watching.echo.tell("refuse")
            await anyio.sleep_forever()
