"""What type checkers know of references; read by them and never run."""

from __future__ import annotations

from collections.abc import Sequence
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


async def known(n: xsc.PoolNursery) -> None:
    ref = await n.create_actor(Counter, 10)
    assert_type(ref, xsc.ActorRef[Counter])
    assert_type(await ref.typed.add(5), int)
    assert_type(await ref.typed.name("a", upper=True), str)
    assert_type(await ref.typed.name.send("a"), str)
    assert_type(await ref.typed.half(3), float)
    await ref.typed.name.tell("a")
    assert_type(await ref.typed.half.batch(ref.typed.half.delay(1), ref.typed.half.delay(2)), Sequence[float])


async def refused(ref: xsc.ActorRef[Counter]) -> None:
    await ref.typed.add("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ref.typed.name(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ref.typed.name.tell()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ref.typed.half.delay("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ref.typed.missing()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
