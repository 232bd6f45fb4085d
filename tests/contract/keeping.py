"""Actors whose state outlives them, for several contract tests."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import anyio

import xoscar_sc as xsc


class Mine(Exception):
    """Not to be mistaken for another."""


class Ledger(xsc.Actor):
    """Writes down what it is told; that is its state."""

    def __init__(self, board: Any = None, fails: bool = True) -> None:
        self.board = board
        self.fails = fails
        self.entries: list[Any] = []
        self.hooks = ["__init__"]
        self.odd: Any = None

    def __snapshot__(self) -> Any:
        self.hooks.append("__snapshot__")
        if self.odd == "raise":
            raise Mine("no snapshot")
        return (self.entries, self.odd)

    async def __restore__(self, state: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self.hooks.append("__restore__")
        self.entries, self.odd = state

    async def __post_create__(self) -> None:
        self.hooks.append("__post_create__")

    async def __pre_destroy__(self) -> None:
        self.hooks.append("__pre_destroy__")
        if self.board is not None:
            await self.board.post(tuple(self.hooks))

    def add(self, entry: Any) -> None:
        self.entries.append(entry)

    async def add_slowly(self, entry: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self.entries.append(entry)

    def note(self, *_: Any) -> None:
        self.entries.append(xsc.current_delivery())

    @xsc.thread
    def note_in_thread(self) -> None:
        self.entries.append(xsc.current_delivery())

    def read(self) -> list[Any]:
        return self.entries

    def told(self) -> list[str]:
        return self.hooks

    def turn_odd(self, odd: Any) -> None:
        self.odd = odd

    async def fail(self, entry: Any) -> None:
        self.entries.append(entry)
        if self.fails:
            raise Mine(entry)

    def die(self, entry: Any) -> None:
        self.entries.append(entry)
        if self.fails:
            os.kill(os.getpid(), signal.SIGKILL)

    async def hold(self) -> None:
        await self.board.post("held")
        await self.board.wait("go on")
        self.entries.append("held")

    async def lend(self) -> None:
        self.entries.append("begun")
        async with self.unlocked():
            await self.board.post("lent")
            await self.board.wait("go on")
        self.entries.append("ended")

    async def tell(self, other: Any, method: str, *args: Any) -> None:
        await getattr(other, method).tell.durable(*args)

    async def ask(self, other: Any, method: str, *args: Any) -> Any:
        return await getattr(other, method)(*args)

    async def hold_and_ask(self, other: Any) -> Any:
        await self.board.post("held")
        await self.board.wait("go on")
        return await other.read()

    @xsc.no_lock
    async def beside(self) -> None: ...

    @xsc.context
    async def talk(self, ctx: xsc.Context) -> None: ...

    async def numbers(self) -> AsyncIterator[int]:
        yield 1


class Board(xsc.StatelessActor):
    """Where processes tell each other how far they are."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        self.changed = anyio.Event()

    async def post(self, word: Any) -> None:
        self.posted.append(word)
        self.changed.set()
        self.changed = anyio.Event()

    async def wait(self, word: Any, times: int = 1) -> None:
        while self.posted.count(word) < times:
            await self.changed.wait()

    def read(self) -> list[Any]:
        return self.posted


class Journaled(xsc.Actor):
    """Has a journal, and no snapshots."""

    def __init__(self, board: Any) -> None:
        self.board = board

    async def post(self, word: Any, then: str = "") -> None:
        delivery = xsc.current_delivery()
        assert delivery is not None
        await self.board.post((word, delivery.redelivered))
        if then == "wait":
            await anyio.sleep_forever()
        elif then == "raise":
            raise Mine(word)
