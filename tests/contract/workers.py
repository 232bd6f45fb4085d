"""Actors that work in groups, for several contract tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc

SAME_AND_OTHER = pytest.mark.parametrize("pools", [0, 3])


class Mine(Exception):
    """Not to be mistaken for another."""


class Worker(xsc.Actor):
    """Works, and keeps a log of it."""

    def __init__(self, base: int = 0, board: Any = None) -> None:
        self.base = base
        self.board = board
        self.log: list[Any] = []

    def ping(self) -> str:
        return "pong"

    def who(self, *_key: Any) -> str:
        return self.uid

    def exit(self) -> None:
        os._exit(3)

    async def add(self, value: int, more: int = 0) -> int:
        await anyio.lowlevel.checkpoint()
        self.log.append(value)
        return self.base + value + more

    @xsc.no_lock
    async def wait_for(self, word: str) -> str:
        await self.board.post(f"{word} runs")
        await self.board.wait(word)
        return word

    async def hold(self, word: str) -> str:
        return await self.wait_for(word)

    @xsc.no_lock
    async def sleep(self, value: Any) -> None:
        self.log.append(("runs", value))
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append(("cancelled", value))

    async def fail_at(self, value: int, at: int) -> int:
        if value == at:
            raise Mine(value)
        return value

    def stop_iteration(self, value: Any) -> None:
        raise StopAsyncIteration(value)

    def note(self, value: Any) -> None:
        self.log.append(value)

    def notes(self) -> list[Any]:
        return self.log

    async def numbers(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                yield number
        finally:
            self.log.append("closed")

    async def use(self, group: Any) -> list[int]:
        return [value async for value in group.add.map(range(5))]

    async def use_one(self, group: Any, key: Any) -> Any:
        return await group.who(key)


async def workers(n: xsc.PoolNursery, size: int = 4, route: Any = "round_robin", board: Any = None) -> Any:
    return await n.create_group(Worker, 100, board, size=size, route=route, uid="w")


async def logs(group: Any) -> list[Any]:
    return [entry for member in group for entry in await member.notes()]


def numbers(log: list[int], count: int = 1_000_000) -> Iterator[int]:
    for number in range(count):
        log.append(number)
        yield number
