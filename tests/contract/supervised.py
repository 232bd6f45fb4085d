"""Actors that end in many ways, and supervisors to look at them, for several contract tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

import xoscar_sc as xsc
from xoscar_sc.events import Event


class Mine(Exception):
    """Not to be mistaken for another."""


@xsc.fatal(LookupError)
class Child(xsc.Actor):
    """Keeps a diary of all that are called like it, in a file; ends as it is told.

    Args:
        diary: a directory.
        fails: a file; while it is there, the constructor fails as its text says.
    """

    def __init__(self, diary: str = "", fails: str = "") -> None:
        self.diary = diary
        self.count = 0
        self.board: Any = None
        if fails and Path(fails).exists():
            how = Path(fails).read_text()
            self._note(f"fails {how}")
            if how == "exits":
                os._exit(7)
            elif how == "blocks":
                time.sleep(3600)
            elif how == "raises":
                raise Mine("in the constructor")

    def _note(self, word: str) -> None:
        if self.diary:
            with (Path(self.diary) / "diary").open("a") as file:
                file.write(f"{word} {self.uid if self.__xsc_cell__ else '?'}\n")

    async def __post_create__(self) -> None:
        self._note("starts")

    async def __pre_destroy__(self) -> None:
        self._note("stops")

    def pid(self) -> int:
        return os.getpid()

    def add(self) -> int:
        self.count += 1
        return self.count

    def me(self) -> xsc.ActorRef[Any]:
        return self.ref()

    def raises(self, text: str = "a tell") -> None:
        raise Mine(text)

    def is_fatal(self) -> None:
        raise KeyError("fatal")

    @xsc.fatal(ZeroDivisionError)
    async def divides(self) -> float:
        await anyio.lowlevel.checkpoint()
        return 1 / 0

    def fails_in_the_nursery(self, times: int = 1) -> None:
        for _ in range(times):
            self.nursery.start_soon(self._fail)

    async def _fail(self) -> None:
        raise Mine("a task")

    async def stops(self) -> None:
        await self.stop()

    def exits(self, code: int = 0) -> None:
        sys.exit(code)

    def crashes(self) -> None:
        os._exit(3)

    def is_killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def is_stopped(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def sleeps(self, seconds: float) -> None:
        time.sleep(seconds)

    async def waits(self) -> None:
        await anyio.sleep_forever()

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number


def diary(directory: Path) -> list[str]:
    """What the children have written so far."""
    file = directory / "diary"
    return file.read_text().splitlines() if file.exists() else []


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that no event tells."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await anyio.sleep(0.002)


async def until_answers(ref: xsc.ActorRef[Any]) -> int:
    """Wait until a child answers that was killed this moment, and say in which process."""
    while True:
        try:
            return await ref.pid()
        except (xsc.ActorDied, xsc.ActorUnavailable):
            await anyio.sleep(0.002)


async def next_of(events: AsyncIterator[Event], kind: type[Any]) -> Any:
    """The next event of a kind."""
    async for event in events:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} has come")


async def attempt(call: Callable[[], Awaitable[Any]]) -> BaseException | None:
    """What a call raised."""
    try:
        await call()
    except Exception as exc:
        return exc
    return None


def phases(sup: xsc.Supervisor) -> dict[str, str]:
    """How far each child is."""
    return {child.name: child.phase for child in sup.which_children()}


def restarts(sup: xsc.Supervisor) -> dict[str, int]:
    """How often each child has been started again."""
    return {child.name: child.restarts for child in sup.which_children()}
