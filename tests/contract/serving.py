"""A program that others connect to: its actors, and what the tests tell it.

Run with keyword arguments for ``open_pool_nursery`` as JSON; it prints its address, and serves until it is ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio

import xoscar_sc as xsc
from tests.contract.driving import Program, program


class Service(xsc.Actor):
    """One in each pool."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.told: list[int] = []
        self.seen: list[str] = []
        self.held = anyio.Event()

    @xsc.no_lock
    def pid(self) -> int:
        return os.getpid()

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return (args, kwargs) if kwargs else args[0] if len(args) == 1 else args

    async def add(self, one: int, other: int = 0) -> int:
        await anyio.lowlevel.checkpoint()
        return one + other

    def boom(self) -> None:
        try:
            raise KeyError("beneath")
        except KeyError as exc:
            raise ValueError("boom", 7) from exc

    def note(self, number: int) -> None:
        self.told.append(number)

    def notes(self) -> list[int]:
        return self.told

    async def numbers(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                yield number
        finally:
            self.seen.append("generator closed")

    @xsc.no_lock
    async def hold(self) -> str:
        """Wait until it is cancelled."""
        try:
            self.held.set()
            await anyio.sleep_forever()
        finally:
            self.seen.append("cancelled")
            self.held = anyio.Event()

    @xsc.no_lock
    async def wait_held(self) -> None:
        await self.held.wait()

    @xsc.no_lock
    async def wait_seen(self, what: str) -> None:
        while what not in self.seen:  # noqa: ASYNC110 - the loop ends at once, as a rule
            await anyio.sleep(0.005)

    @xsc.no_lock
    async def left(self) -> float:
        return anyio.current_effective_deadline() - anyio.current_time()

    @xsc.context
    async def double(self, ctx: xsc.Context, first: int) -> str:
        await ctx.started(first + 1)
        async with ctx.open_stream() as stream:
            async for value in stream:
                await stream.send(value * 2)
        return "done"

    async def other(self, uid: str) -> xsc.ActorRef[Any] | None:
        return await xsc.find_actor(uid)

    async def same(self, one: Any, uid: str) -> bool:
        """Whether a reference is that of the actor that is known here by its uid, and works here."""
        mine = await xsc.find_actor(uid)
        return one == mine and await one.pid() == await mine.pid()

    def exit(self, code: int) -> None:
        os._exit(code)


async def serve(options: dict[str, Any]) -> None:
    actors = options.pop("actors", 2)
    door = options.pop("door", None)
    timeouts = xsc.Timeouts(**options.pop("timeouts", {}))
    secret = options.pop("secret", None)
    auth = None if secret is None else xsc.Secret.from_file(secret)
    expose = options.pop("expose", None)
    known: dict[str, Any] = {"Service": Service, "triple": triple, "talk": talk}
    restarts = options.pop("restarts", False)
    exposed = None if expose is None else [known.get(each, each) for each in expose]
    async with (
        xsc.open_pool_nursery(timeouts=timeouts, auth=auth, expose=exposed, **options) as n,
        AsyncExitStack() as stack,
    ):
        pools = list(n.pools.values())
        for i in range(actors):
            where = pools[i % len(pools)] if pools else None
            await n.create_actor(Service, str(i), uid=f"service-{i}", pool=where)
        if door is not None:
            pool = await n.start_pool("with-a-door", address=door)
            await n.create_actor(Service, uid="inside", pool=pool)
            print(pool.door, flush=True)
        if restarts:
            sup = await stack.enter_async_context(xsc.open_supervisor(intensity=1000))
            for i in range(2):
                backoff = xsc.Backoff(min=0.3 * i)
                await sup.create_actor(
                    Service, uid=f"comes-back-{i}", on_restart=["wait", "raise"][i], backoff=backoff
                )
        print(n.address, flush=True)
        async for event in n.events():
            print(type(event).__name__, flush=True)


def triple(value: int) -> int:
    return 3 * value


@xsc.context
async def talk(ctx: xsc.Context, first: int) -> int:
    await ctx.started(first)
    total = 0
    async with ctx.open_stream() as stream:
        async for value in stream:
            total += value
    return total


PROGRAM = "from tests.contract.serving import main\n\nmain()\n"


@contextmanager
def server(
    directory: Path, *, preexec_fn: Callable[[], None] | None = None, **options: Any
) -> Iterator[tuple[Program, str]]:
    """A program that serves, and its address. It ends in good order."""
    options = {"pools": 2, "address": "127.0.0.1:0", **options}
    with program(directory, PROGRAM, json.dumps(options), preexec_fn=preexec_fn) as running:
        try:
            yield running, running.line()
        finally:
            running.signal(signal.SIGCONT)
            running.signal(signal.SIGTERM)
            running.wait()


def main() -> None:
    anyio.run(serve, json.loads(sys.argv[1]), backend="trio")
