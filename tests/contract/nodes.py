"""Actors that call each other when they are told, for tests of calls that wait for each other."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import pytest
import sniffio

import xoscar_sc as xsc

PLACES = pytest.mark.parametrize("pools", [0, 1, 3])


class Node(xsc.Actor):
    """Has its lock, waits for a word, and calls another."""

    def __init__(self) -> None:
        self.word: anyio.Event | None = None
        self.lent: anyio.Event | None = None

    # Beside what it does

    @xsc.no_lock
    def waits(self) -> bool:
        return self.word is not None

    @xsc.no_lock
    def go(self) -> None:
        assert self.word is not None
        self.word.set()
        self.word = None

    @xsc.no_lock
    def queued(self) -> int:
        return len([work for work in self._cell().mailbox.waiting if not work.answered])

    @xsc.no_lock
    def beside(self, *_rest: Any) -> str:
        return "beside"

    async def _told(self) -> None:
        self.word = word = anyio.Event()
        await word.wait()

    # What others call

    def ping(self, *_rest: Any) -> str:
        return "pong"

    async def held(self) -> str:
        await self._told()
        return "held"

    async def numbers(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number

    # What it calls, when it is told

    async def call(self, ref: Any, method: str = "ping", *args: Any) -> Any:
        await self._told()
        return await outcome(getattr(ref, method), *args)

    async def call_when(self, board: Any, ref: Any) -> Any:
        await board.post("runs")
        await board.wait("go")
        return await outcome(ref.ping)

    async def call_now(self, ref: Any, method: str, *args: Any) -> Any:
        return await getattr(ref, method)(*args)

    async def call_unlocked(self, ref: Any, method: str) -> Any:
        await self._told()
        async with self.unlocked():
            return await outcome(getattr(ref, method))

    async def call_batch(self, ref: Any) -> Any:
        await self._told()
        return await outcome(lambda: ref.ping.batch(ref.ping.delay(), ref.ping.delay()))

    async def call_all(self, *refs: Any) -> list[Any]:
        await self._told()
        outcomes: list[Any] = [None] * len(refs)

        async def one(at: int) -> None:
            outcomes[at] = await outcome(refs[at].ping)

        async with anyio.create_task_group() as group:
            for at in range(len(refs)):
                group.start_soon(one, at)
        return outcomes

    async def call_at_once(self, refs: list[Any]) -> None:
        async with anyio.create_task_group() as group:
            for ref in refs:
                group.start_soon(ref.ping)

    async def read(self, ref: Any) -> Any:
        await self._told()

        async def values() -> list[int]:
            return [value async for value in ref.numbers()]

        return await outcome(values)

    async def read_in_block(self, ref: Any) -> Any:
        await self._told()

        async def values() -> list[int]:
            async with ref.numbers() as stream:
                return [value async for value in stream]

        return await outcome(values)

    async def tell_often(self, ref: Any, times: int) -> None:
        for _ in range(times):
            await ref.ping.tell()

    async def tell_when_told(self, ref: Any, times: int) -> Any:
        await self._told()
        return await outcome(self.tell_often, ref, times)

    async def tell_itself_often(self, times: int) -> None:
        await self.tell_often(self.ref(), times)

    async def be_told_often(self, ref: Any, times: int) -> None:
        await ref.tell_often(self.ref(), times)

    async def run_elsewhere(self, function: Callable[..., Any], *args: Any) -> Any:
        async with xsc.open_pool_nursery(pools=1) as n:
            await self._told()
            return await outcome(partial(n.run, function, *args))

    async def relay(self, way: list[Any]) -> int:
        """Call the next of the way, which calls the next of it."""
        await anyio.lowlevel.checkpoint()
        return 1 + (await way[0].relay(way[1:]) if way else 0)

    async def lend_and_want_back(self) -> str:
        async with self.unlocked():
            self.lent = anyio.Event()
            await self.lent.wait()
        return "back"

    @xsc.no_lock
    def has_lent(self) -> bool:
        return self.lent is not None

    @xsc.no_lock
    def want_back(self) -> None:
        assert self.lent is not None
        self.lent.set()
        self.lent = None


class Stateless(xsc.StatelessActor):
    async def pass_on(self, ref: Any, method: str) -> Any:
        return await getattr(ref, method)()

    def ping(self) -> str:
        return "pong"


class CallsWhenItEnds(Node):
    def __init__(self, parent: Any, told: Any) -> None:
        super().__init__()
        self.parent = parent
        self.told = told

    async def __pre_destroy__(self) -> None:
        await self.told.write(repr(await outcome(self.parent.ping)))


class Notes(xsc.StatelessActor):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)

    def read(self) -> list[str]:
        return self.lines


async def call_it(ref: Any) -> Any:
    return await ref.ping()


async def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """What a call gives; a cycle, if it is refused for one."""
    try:
        return await function(*args)
    except xsc.DeadlockError as exc:
        return exc.cycle


def is_cycle(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and isinstance(found[0], tuple)


def check_cycle(found: Any, uids: str) -> None:
    assert is_cycle(found), found
    assert found[0] == found[-1]
    assert len(found) == 2 * len(uids) + 1
    assert {uid for uid, _ in found} == set(uids)


def needs_children(pools: int) -> None:
    """Skip what is called by child tasks on asyncio: there a task does not know who waits for it."""
    if not pools and sniffio.current_async_library() == "asyncio":
        pytest.skip("on asyncio a child task is not known to be waited for")


async def nodes(n: xsc.PoolNursery, pools: int, size: int, **options: Any) -> list[Any]:
    """Actors a, b, c and so on, over the pools."""
    return [
        await n.create_actor(
            Node, uid="abcdefgh"[at], pool=f"pool-{at % pools + 1}" if pools else None, **options
        )
        for at in range(size)
    ]


async def ready(*refs: Any) -> None:
    """Wait until each waits for its word."""
    for ref in refs:
        while not await ref.waits():
            await anyio.lowlevel.checkpoint()


async def queue(ref: Any, length: int = 1) -> None:
    """Wait until so many messages wait for an actor's lock."""
    while await ref.queued() < length:
        await anyio.lowlevel.checkpoint()


class Crossing:
    """Calls that run side by side, by name, and what they gave."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self.gave: dict[str, Any] = {}
        self.scopes: dict[str, anyio.CancelScope] = {}

    def start(self, ref: Any, method: str, *args: Any) -> None:
        self.scopes[ref.uid] = anyio.CancelScope()
        self._group.start_soon(self._run, ref, method, args)

    async def _run(self, ref: Any, method: str, args: tuple[Any, ...]) -> None:
        with self.scopes[ref.uid]:
            self.gave[ref.uid] = await outcome(getattr(ref, method), *args)


async def close_in_order(refs: list[Any], order: list[int], method: str, *args: Any) -> dict[str, Any]:
    """Let each call the next one, in this order of arrival."""
    size = len(refs)
    async with anyio.create_task_group() as group:
        crossing = Crossing(group)
        for at, ref in enumerate(refs):
            crossing.start(ref, "call", refs[(at + 1) % size], method, *args)
        await ready(*refs)
        for at in order:
            await refs[at].go()
            if at != order[-1]:
                await queue(refs[(at + 1) % size])
    return crossing.gave


def orders(size: int) -> list[list[int]]:
    """All orders of a few, and some of many."""
    if size <= 3:
        return [list(order) for order in itertools.permutations(range(size))]
    chance = random.Random(size)
    return [chance.sample(range(size), size) for _ in range(6)]
