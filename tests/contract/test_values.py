"""What a method receives equals what was passed, type for type; messages keep their order."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import os
import uuid
from pathlib import PurePosixPath
from typing import Any

import anyio
import pytest
import trio

import xoscar_sc as xsc
from tests.contract.actors import Board, Busy, Echo
from tests.contract.driving import both_drivers


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1


class Named(collections.namedtuple("Named", "a b")):
    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: tuple[int, ...]
    colour: Colour = Colour.RED


VALUES = [
    None, True, False, 0, -1, 2**62, 2**200, 1.5, float("inf"), 3 + 4j, "", "text", "\ud800", "ü" * 40_000, b"",
    b"\0\xff",
    bytearray(b"array"), b"x" * 100_000, bytearray(100_000), (), (1, (2, [3])), [], [1, (2,)],
    {1, 2}, frozenset({3}), {},
    {"a": {1: (2,)}}, {(1, 2): {3}}, range(3), slice(1, 2), Ellipsis, Colour.GREEN, Level.LOW,
    Named(1, 2), Point(1, (2, 3)),
    collections.OrderedDict(a=1), collections.deque([1], maxlen=3), collections.Counter("aab"), decimal.Decimal("1.10"),
    fractions.Fraction(1, 3), uuid.UUID(int=5), PurePosixPath("/a/b"),
    datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC), datetime.timedelta(seconds=1), Point, len, os.path.join,
]  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal, and of one type all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return (
            one == other
            and all(map(same, sorted(one, key=repr), sorted(other, key=repr)))
            and all(same(one[key], other[key]) for key in one)
        )
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        return same(dataclasses.astuple(one), dataclasses.astuple(other))
    return bool(one == other)


class Types(xsc.Actor):
    def check(self, value: Any, index: int) -> Any:
        assert same(value, VALUES[index]), f"{value!r} is not {VALUES[index]!r}"
        return value

    def check_keyword(self, *, value: Any, index: int) -> Any:
        return self.check(value, index)

    def identity(self, value: Any) -> int:
        return id(value)

    def fill(self, value: Any) -> None:
        value[:] = value * 2

    def size(self, value: Any) -> int:
        return len(value)

    def ends(self, value: Any) -> tuple[Any, Any]:
        return value[0], value[-1]

    async def keep_and_forward(self, other: xsc.ActorRef[Types], value: Any) -> bool:
        return await other.identity(value) == id(value)


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_argument_types_survive(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        types = await n.create_actor(Types)
        for index, value in enumerate(VALUES):
            assert same(await types.check(value, index), value)
            assert same(await types.check_keyword(value=value, index=index), value)
        values = await types.check.batch(*(types.check.delay(value, i) for i, value in enumerate(VALUES)))
        assert all(map(same, values, VALUES))


@both_drivers
async def test_the_arguments_of_a_constructor_and_of_a_function_survive() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        for index, value in enumerate(VALUES):
            assert same(await n.run(give_back, value, index), value)


def give_back(value: Any, index: int) -> Any:
    assert same(value, VALUES[index])
    return value


@both_drivers
async def test_arrays_survive() -> None:
    np = pytest.importorskip("numpy")
    arrays = [
        np.arange(10), np.zeros((3, 4), "f4"), np.arange(200_000).reshape(400, 500), np.arange(200_000)[::2],
        np.asfortranarray(np.arange(100_000.0).reshape(100, 1000)), np.array(["a", "bc"]), np.array(5), np.zeros(0),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), np.array([1, 2], dtype="M8[s]"),
        np.ma.masked_array([1, 2], [0, 1]),
    ]  # fmt: skip
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        for array in arrays:
            back = await echo.echo(array)
            assert type(back) is type(array)
            assert back.dtype == array.dtype
            assert back.shape == array.shape
            assert (np.asarray(back) == np.asarray(array)).all()
        pair = await echo.echo((arrays[2], {"key": arrays[2]}))
        assert isinstance(pair, tuple)
        assert (pair[1]["key"] == arrays[2]).all()


@both_drivers
async def test_large_values_survive() -> None:
    data = os.urandom(1 << 20) * 64
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        assert await echo.echo(data) == data
        back = await echo.echo(bytearray(data))
        assert type(back) is bytearray
        assert back == data
        assert await echo.echo([data[: 1 << 20], "between", data[: 1 << 20]]) == [
            data[: 1 << 20],
            "between",
            data[: 1 << 20],
        ]


@both_drivers
async def test_refs_are_values() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Echo, uid="first", pool="pool-1")
        second = await n.create_actor(Echo, uid="second", pool="pool-2")
        assert await first.echo(second) == second
        assert await second.echo({second: [first]}) == {second: [first]}
        assert hash(await first.echo(first)) == hash(first)
        assert first != second
        assert await first.ask(second, "pid") == n.pools["pool-2"].pid
        back = await first.echo(second)
        assert back.uid == "second"
        assert back.address == second.address


@both_drivers
async def test_messages_within_a_pool_are_not_copied() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        one = await n.create_actor(Types)
        other = await n.create_actor(Types)
        assert await one.keep_and_forward(other, [1, 2])
    async with xsc.open_pool_nursery(pools=0) as n:
        here = await n.create_actor(Types)
        value = [1, 2]
        await here.fill(value)
        assert value == [1, 2, 1, 2]


@both_drivers
async def test_what_is_sent_to_another_pool_is_a_copy() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        types = await n.create_actor(Types)
        value = [1, 2]
        await types.fill(value)
        assert value == [1, 2]
        large = bytearray(1 << 20)
        await types.fill(large)
        assert len(large) == 1 << 20


# Order


@both_drivers
async def test_messages_of_one_task_to_one_actor_arrive_in_order() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        echo = await n.create_actor(Echo, pool="pool-1")
        far = await n.create_actor(Sender, pool="pool-2")
        near = await n.create_actor(Sender, pool="pool-1")
        assert await send_in_order(echo, 0) == 300
        await far.send_all(echo, 1000)
        await near.send_all(echo, 2000)
        seen = await echo.notes()
        assert seen == [*range(300), *range(1000, 1300), *range(2000, 2300)]


async def send_in_order(echo: xsc.ActorRef[Echo], start: int) -> int:
    """Sends and tells, and a batch now and then, to methods that wait and to methods that do not."""
    number = 0
    while number < 300:
        method = echo.note if number % 3 else echo.note_later
        if number % 7 == 0:
            await method(start + number)
        elif number % 50 == 1:
            await method.batch(method.delay(start + number), method.delay(start + number + 1))
            number += 1
        else:
            await method.tell(start + number)
        number += 1
    await echo.echo()
    return number


class Sender(xsc.Actor):
    async def send_all(self, echo: xsc.ActorRef[Echo], start: int) -> int:
        return await send_in_order(echo, start)


@both_drivers
async def test_small_messages_behind_a_large_one_to_the_same_actor_keep_their_place() -> None:
    large = b"x" * (8 << 20)
    async with xsc.open_pool_nursery(pools=1) as n:
        sizes = await n.create_actor(Sizes)
        for _ in range(5):
            await sizes.take.tell(large)
            for _ in range(5):
                await sizes.take.tell(b"small")
            await sizes.take(b"sent")
            await sizes.take.tell(large[: 1 << 20])
        assert await sizes.taken() == [8 << 20, 5, 5, 5, 5, 5, 4, 1 << 20] * 5


class Sizes(xsc.Actor):
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def take(self, value: bytes) -> None:
        self.sizes.append(len(value))

    def taken(self) -> list[int]:
        return self.sizes


@both_drivers
async def test_a_small_call_does_not_wait_behind_a_large_argument_for_another_actor() -> None:
    large = bytes(256 << 20)
    order: list[str] = []

    async def call(name: str, method: Any, *args: Any) -> None:
        await method(*args)
        order.append(name)

    async with xsc.open_pool_nursery(pools=1) as n:
        sizes = await n.create_actor(Sizes)
        echo = await n.create_actor(Echo)
        async with anyio.create_task_group() as group:
            group.start_soon(call, "large", sizes.take, large)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            for number in range(3):
                await call(f"small {number}", echo.echo, number)
        assert order == ["small 0", "small 1", "small 2", "large"]
        assert await sizes.taken() == [256 << 20]


# Batches


class Batching(xsc.Actor):
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def plain(self, value: int) -> int:
        self.calls.append(("plain", 1))
        if value < 0:
            raise ValueError(value)
        return value + 1

    async def waits(self, value: int) -> int:
        await trio.lowlevel.checkpoint()
        return value + 1

    @xsc.extensible
    async def both(self, value: int, more: int = 10) -> int:
        self.calls.append(("both", 1))
        return value + more

    @both.batch
    async def both_batch(self, args_list: list[Any], kwargs_list: list[Any]) -> list[int]:
        self.calls.append(("both", len(args_list)))
        bound = [self.both.bind(*args, **kwargs) for args, kwargs in zip(args_list, kwargs_list, strict=True)]
        return [value + more for value, more in bound]

    @xsc.extensible
    def only_batch(self, value: int) -> int:
        raise NotImplementedError

    @only_batch.batch
    def only_batch(self, args_list: list[Any], kwargs_list: list[Any]) -> list[int]:
        self.calls.append(("only_batch", len(args_list)))
        return [value for (value,) in args_list]

    @xsc.extensible
    def short(self, value: int) -> int:
        return value

    @short.batch
    def short(self, args_list: list[Any], kwargs_list: list[Any]) -> list[int]:
        return [1]

    def seen(self) -> list[tuple[str, int]]:
        return self.calls


@pytest.mark.parametrize("pools", [0, 1])
async def test_a_batch_is_many_calls_in_one_message(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        b = await n.create_actor(Batching)
        assert await b.plain.batch(b.plain.delay(1), b.plain.delay(value=2)) == [2, 3]
        assert await b.waits.batch(*(b.waits.delay(i) for i in range(100))) == list(range(1, 101))
        assert await b.seen() == [("plain", 1)] * 2


@pytest.mark.parametrize("pools", [0, 1])
async def test_a_batch_version_gets_all_calls_at_once(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        b = await n.create_actor(Batching)
        assert await b.both.batch(b.both.delay(1), b.both.delay(2, more=3), b.both.delay(value=4)) == [
            11,
            5,
            14,
        ]
        assert await b.both(1) == 11
        assert await b.only_batch(7) == 7
        assert await b.only_batch.batch(b.only_batch.delay(1), b.only_batch.delay(2)) == [1, 2]
        assert await b.seen() == [("both", 3), ("both", 1), ("only_batch", 1), ("only_batch", 2)]


@pytest.mark.parametrize("pools", [0, 1])
async def test_the_first_error_of_a_batch_ends_it(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        b = await n.create_actor(Batching)
        with pytest.raises(ValueError, match="-1"):
            await b.plain.batch(b.plain.delay(1), b.plain.delay(-1), b.plain.delay(2))
        assert await b.seen() == [("plain", 1)] * 2
        with pytest.raises(TypeError, match="1 results for 2 calls"):
            await b.short.batch(b.short.delay(1), b.short.delay(2))
        with pytest.raises(TypeError):
            await b.both.batch(b.both.delay(1, 2, 3))


@pytest.mark.parametrize("pools", [0, 1])
async def test_a_batch_of_different_methods_or_actors_is_refused(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        b = await n.create_actor(Batching)
        other = await n.create_actor(Batching)
        with pytest.raises(TypeError, match="cannot hold"):
            await b.plain.batch(b.plain.delay(1), b.waits.delay(1))
        with pytest.raises(TypeError, match="cannot hold"):
            await b.plain.batch(b.plain.delay(1), other.plain.delay(1))
        with pytest.raises(TypeError, match="delay"):
            await b.plain.batch(1)
        again = await xsc.actor_ref(b.address, b.uid)
        assert await b.plain.batch(again.plain.delay(1)) == [2]
        assert await other.seen() == []


async def test_a_batch_is_cancelled_as_a_call_is() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy.sleep.batch, busy.sleep.delay("one"), busy.sleep.delay("two"))
            await board.wait("one runs")
            nursery.cancel_scope.cancel()
        assert await board.words() == ["one runs", "one was cancelled"]


# One message at a time, or all at once


@both_drivers
async def test_an_actor_takes_one_message_at_a_time_and_a_stateless_one_all_at_once() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        counting = await n.create_actor(Counting)
        stateless = await n.create_actor(StatelessCounting)
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(counting.run)
                group.start_soon(stateless.run_together, 10)
        assert await counting.most() == 1
        assert await stateless.most() == 10


class Counting(xsc.Actor):
    def __init__(self) -> None:
        self.now = 0
        self.peak = 0
        self.full = trio.Event()

    async def run(self) -> None:
        self.now += 1
        self.peak = max(self.peak, self.now)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        self.now -= 1

    def most(self) -> int:
        return self.peak


class StatelessCounting(xsc.StatelessActor):
    def __init__(self) -> None:
        self.now = 0
        self.full = trio.Event()

    async def run_together(self, number: int) -> None:
        self.now += 1
        if self.now == number:
            self.full.set()
        await self.full.wait()

    def most(self) -> int:
        return self.now
