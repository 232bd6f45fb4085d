"""Actors that several contract tests use. Light to import: a pool does so."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

import anyio
import trio

import xoscar_sc as xsc


class Board(xsc.StatelessActor):
    """Where tasks of different processes leave word for each other."""

    def __init__(self) -> None:
        self._words: dict[str, Any] = {}
        self._events: dict[str, anyio.Event] = {}

    def _event(self, word: str) -> anyio.Event:
        return self._events.setdefault(word, anyio.Event())

    def post(self, word: str, value: Any = None) -> None:
        self._words[word] = value
        self._event(word).set()

    async def wait(self, word: str) -> Any:
        await self._event(word).wait()
        return self._words[word]

    def words(self) -> list[str]:
        return list(self._words)


class Echo(xsc.Actor):
    """Says what it is told."""

    def __init__(self, *_values: Any) -> None:
        self.seen: list[Any] = []

    def pid(self) -> int:
        return os.getpid()

    def echo(self, value: Any = None) -> Any:
        return value

    async def echo_later(self, value: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return value

    def note(self, value: Any) -> None:
        self.seen.append(value)

    async def note_later(self, value: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.seen.append(value)

    def notes(self) -> list[Any]:
        return self.seen

    def fail(self, exc: BaseException) -> None:
        raise exc

    async def fail_later(self, exc: BaseException) -> None:
        await trio.lowlevel.checkpoint()
        raise exc

    async def ask(self, ref: xsc.ActorRef[Any], method: str, *args: Any) -> Any:
        return await getattr(ref, method)(*args)

    async def tell(self, ref: xsc.ActorRef[Any], method: str, *args: Any) -> None:
        await getattr(ref, method).tell(*args)


class Busy(xsc.Actor):
    """Is kept in a method until its board says otherwise."""

    def __init__(self, board: xsc.ActorRef[Board]) -> None:
        self.board = board
        self.ran: list[str] = []

    async def work(self, word: str = "work") -> str:
        """Say that it runs, and go on when it may."""
        await self.board.post(f"{word} runs")
        await self.board.wait(f"{word} may end")
        self.ran.append(word)
        return word

    async def sleep(self, word: str = "sleep") -> None:
        """Run until it is cancelled, and say so."""
        try:
            await self.board.post(f"{word} runs")
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await self.board.post(f"{word} was cancelled")

    async def refuse_cancel(self, word: str = "refuse") -> str:
        """Run on although it is cancelled."""
        with trio.CancelScope(shield=True):
            await self.board.post(f"{word} runs")
            await self.board.wait(f"{word} may end")
        return word

    async def swallow_cancel(self, word: str = "swallow") -> str:
        """Take a cancel for no reason to end."""
        try:
            await self.board.post(f"{word} runs")
            await trio.sleep_forever()
        except trio.Cancelled:
            pass
        with trio.CancelScope(shield=True):
            await self.board.wait(f"{word} may end")
        return word

    def note(self, word: str) -> None:
        self.ran.append(word)

    def has_run(self) -> list[str]:
        return self.ran

    async def fail_when_told(self, word: str = "fail") -> None:
        await self.board.post(f"{word} runs")
        await self.board.wait(f"{word} may end")
        raise LookupError(word)


class Unruly(xsc.Actor):
    """Ends its process, or does not let it end, in each way there is."""

    def pid(self) -> int:
        return os.getpid()

    def end(self, how: str) -> None:
        end_process(how)

    async def end_later(self, how: str) -> None:
        await trio.lowlevel.checkpoint()
        end_process(how)

    async def sleep(self) -> None:
        await trio.sleep_forever()


def end_process(how: str) -> None:
    """End this process."""
    match how:
        case "exit 3":
            raise SystemExit(3)
        case "exit 0":
            raise SystemExit(0)
        case "_exit 4":
            os._exit(4)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "term":
            os.kill(os.getpid(), signal.SIGTERM)


ENDS = {
    "exit 3": (3, None),
    "_exit 4": (4, None),
    "segfault": (None, signal.SIGSEGV),
    "abort": (None, signal.SIGABRT),
    "kill": (None, signal.SIGKILL),
}
"""For each way, the exit code and the signal that are to be reported."""
