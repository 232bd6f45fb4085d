"""Actors whose methods are generators, for several contract tests. They run on both event loops."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import anyio

import xoscar_sc as xsc
from xoscar_sc.runtime.current import running_runtime


class Source(xsc.Actor):
    """Yields, and keeps a log of it."""

    def __init__(self) -> None:
        self.made = 0
        self.log: list[Any] = []
        self.event = anyio.Event()

    def pid(self) -> int:
        return os.getpid()

    def ping(self) -> str:
        return "pong"

    @xsc.no_lock
    def state(self) -> tuple[int, list[Any]]:
        return self.made, self.log

    @xsc.no_lock
    def tables(self) -> list[tuple[int, int]]:
        """The open calls of this pool's connections; this one is among them."""
        return tables()

    @xsc.no_lock
    def let(self) -> None:
        self.event.set()

    async def numbers(self, count: int = 100_000) -> AsyncIterator[int]:
        """Its end waits for something."""
        try:
            for number in range(count):
                self.made += 1
                yield number
        finally:
            await anyio.sleep(0.01)
            self.log.append("closed")

    @xsc.generator
    def sync_numbers(self, count: int = 100_000) -> Iterator[int]:
        try:
            for number in range(count):
                self.made += 1
                yield number
        finally:
            self.log.append("closed")

    @xsc.no_lock
    async def beside(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def waits(self, count: int = 1) -> AsyncIterator[int]:
        """Yield some, and then wait until it is let."""
        try:
            for number in range(count):
                yield number
            self.log.append("waits")
            await self.event.wait()
            yield count
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise
        finally:
            self.log.append("closed")

    async def does_not_wait_to_close(self) -> AsyncIterator[int]:
        """Its end takes longer than it may."""
        try:
            while True:
                yield 1
        finally:
            try:
                await anyio.sleep_forever()
            finally:
                self.log.append("cut off")

    async def closes_when_let(self) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            self.log.append("closing")
            await self.event.wait()
            self.log.append("closed")

    async def yields_while_it_is_closed(self) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            yield 2

    async def fails_while_it_is_closed(self) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise LookupError("at the end")

    async def fails_at(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        raise LookupError("after some")

    async def locks(self, *, catch: bool) -> AsyncIterator[Any]:
        """Yield what cannot be sent."""
        yield 1
        try:
            yield threading.Lock()
        except xsc.SerializationError:
            if not catch:
                raise
        yield 3

    async def large(self, count: int, size: int) -> AsyncIterator[bytes]:
        for number in range(count):
            self.made += 1
            yield bytes([number % 256]) * size

    async def nothing(self) -> AsyncIterator[None]:
        for _ in ():
            yield

    async def nones(self) -> AsyncIterator[None]:
        yield None
        yield None

    async def shared(self, values: list[Any]) -> AsyncIterator[list[Any]]:
        values.append("seen")
        yield values

    async def ends_itself(self, how: str) -> AsyncIterator[int]:
        try:
            yield 1
            match how:
                case "stop":
                    await self.stop()
                case "destroy":
                    await self.ref().destroy()
                case "kill":
                    await self.ref().kill()
            while True:
                yield 2
        finally:
            self.log.append("closed")

    async def relay(self, ref: Any, method: str, *args: Any) -> AsyncIterator[Any]:
        """Yield what the stream of another yields."""
        try:
            async with getattr(ref, method)(*args) as stream:
                async for value in stream:
                    yield value
        finally:
            self.log.append("closed")

    async def call_for_each(self, ref: Any, method: str, *args: Any) -> AsyncIterator[Any]:
        """Yield what the other answers."""
        for _ in range(3):
            yield await getattr(ref, method)(*args)

    async def read(self, ref: Any, method: str, *args: Any) -> list[Any]:
        """Read the stream of another to its end."""
        return [value async for value in getattr(ref, method)(*args)]

    async def read_some(self, ref: Any, method: str, count: int) -> None:
        """Read the stream of another, and then wait, holding it."""
        async with getattr(ref, method)() as stream:
            for _ in range(count):
                self.log.append(await anext(stream))
            await self.event.wait()


class Stateless(xsc.StatelessActor):
    def __init__(self) -> None:
        self.event = anyio.Event()

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def waits(self) -> AsyncIterator[int]:
        yield 1
        await self.event.wait()
        yield 2

    def let(self) -> None:
        self.event.set()


class Relay(Source):
    """Closes what it reads by itself, as a careful program does."""

    async def relay_closing(self, ref: Any, method: str, *args: Any) -> AsyncIterator[Any]:
        async with aclosing(getattr(ref, method)(*args)) as stream:
            async for value in stream:
                yield value


def tables() -> list[tuple[int, int]]:
    """For each connection of this pool: how many calls are open, from here and to here."""
    runtime = running_runtime()
    assert runtime is not None
    channels = runtime.peers._channels.values()
    return [(len(channel._calls), len(channel.serving)) for channel in channels]


async def until_logged(ref: Any, *words: Any) -> None:
    """Wait until an actor's log is this; the test's own bound is around it."""
    while (await ref.state())[1] != list(words):
        await anyio.lowlevel.checkpoint()


async def until_no_calls(ref: Any) -> None:
    """Wait until no call is open, neither here nor in the actor's pool."""
    while any(map(any, tables())) or sum(map(sum, await ref.tables())) > 1:
        await anyio.lowlevel.checkpoint()


async def some(stream: Any, count: int) -> list[Any]:
    """The next values."""
    return [await anext(stream) for _ in range(count)]
