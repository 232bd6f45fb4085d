"""What type checkers know of references; read by them and never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from typing import assert_type

import xoscar_sc as xsc


class Counter(xsc.Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start

    async def add(self, n: int) -> int:
        self.value += n
        return self.value

    @xsc.method
    async def name(self, prefix: str, *, upper: bool = False) -> str:
        return prefix.upper() if upper else prefix

    @xsc.method
    def half(self, n: int) -> float:
        return n / 2

    async def numbers(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    @xsc.method
    async def names(self, n: int) -> AsyncIterator[str]:
        for number in range(n):
            yield str(number)

    @xsc.method
    @xsc.generator
    def squares(self, n: int) -> Iterator[float]:
        for number in range(n):
            yield number**2.0

    @xsc.typed
    async def checked(self, n: int) -> bytes:
        return bytes(n)

    @xsc.method
    @xsc.typed
    async def checked_too(self, n: int) -> bytes:
        return bytes(n)

    @xsc.typed
    async def checked_values(self, n: int) -> AsyncIterator[bytes]:
        yield bytes(n)

    @xsc.method
    def ask(self, other: xsc.ActorRef[Counter]) -> Generator[object, int, int]:
        return (yield other.add(1))


async def known(n: xsc.PoolNursery) -> None:
    ref = await n.create_actor(Counter, 10)
    assert_type(ref, xsc.ActorRef[Counter])
    assert_type(await ref.typed.add(5), int)
    assert_type(await ref.typed.name("a", upper=True), str)
    assert_type(await ref.typed.name.send("a"), str)
    assert_type(await ref.typed.half(3), float)
    await ref.typed.name.tell("a")
    assert_type(await ref.typed.checked(3), bytes)
    assert_type(await ref.typed.checked_too.send(3), bytes)
    async for value in ref.typed.checked_values(3):
        assert_type(value, bytes)
    await ref.typed.name.tell.durable("a", id="mine")
    assert_type(await ref.typed.half.batch(ref.typed.half.delay(1), ref.typed.half.delay(2)), Sequence[float])
    async for number in ref.typed.numbers(3):
        assert_type(number, int)
    async with ref.typed.names(3) as names:
        assert_type(names, xsc.ResultStream[str])
        async for name in names:
            assert_type(name, str)
    assert_type([square async for square in ref.typed.squares(2)], list[float])
    assert_type(await ref.typed.ask(ref), int)
    async with ref.monitor() as exits:
        assert_type(await exits.receive(), xsc.Exit)
    assert_type(await xsc.wait_for(ref.typed.add(1), 1.0), int)


async def of_groups(n: xsc.PoolNursery) -> None:
    group = await n.create_group(Counter, 10, size=3, route="least_busy")
    assert_type(group, xsc.ActorGroup[Counter])
    assert_type(group[0], xsc.ActorRef[Counter])
    assert_type(await group.typed.add(5), int)
    async for value in group.add.map(range(3)):
        print(value)
    await n.create_group(Counter, size=3, route="random")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def refused(ref: xsc.ActorRef[Counter]) -> None:
    await ref.typed.add("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ref.typed.name(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ref.typed.name.tell()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ref.typed.half.delay("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ref.typed.missing()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    ref.typed.names("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ref.typed.names.tell(3)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    async for number in ref.typed.numbers("3"):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        print(number)
