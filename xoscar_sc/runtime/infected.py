"""A pool in which asyncio code runs too: its trio is a guest on an asyncio loop.

Everything of this package's own runs on trio there as well. What is awaited of it from asyncio code, a reference's
method mostly, runs in a trio task for as long as that asyncio task waits; what is awaited of an
:class:`~xoscar_sc.runtime.asyncio_actor.AsyncioActor` runs in an asyncio task for as long as its message runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import trio

from xoscar_sc.errors import XoscarError
from xoscar_sc.launch import Launcher
from xoscar_sc.loop import Host, Loop, running_library
from xoscar_sc.runtime.conversations import Opening
from xoscar_sc.runtime.current import (
    Frame,
    check_library,
    delegate,
    require_runtime,
    set_running_runtime,
    waiting_frame,
)
from xoscar_sc.runtime.outgoing import Outgoing
from xoscar_sc.runtime.place import Place
from xoscar_sc.runtime.runtime import Runtime
from xoscar_sc.runtime.streams import Source
from xoscar_sc.timeouts import Timeouts

if TYPE_CHECKING:
    from xoscar_sc.ipc import Flow
    from xoscar_sc.runtime.ref import Target
    from xoscar_sc.runtime.work import Arguments

T = TypeVar("T")


class Crossing(NamedTuple):
    """An asyncio task that trio code waits for, as the code in that task sees it."""

    task: object
    frame: Frame | None
    """What waits for it."""
    deadline: float
    """Of who waits, on trio's clock."""


_crossing: ContextVar[Crossing | None] = ContextVar("xoscar_sc.crossing", default=None)


class InfectedRuntime(Runtime):
    """See the top of this file."""

    host: Host

    @classmethod
    async def open(
        cls,
        stack: AsyncExitStack,
        host: Host,
        loop: Loop,
        place: Place,
        timeouts: Timeouts,
        launch: Callable[[], Awaitable[Launcher]],
    ) -> InfectedRuntime:
        """Make the runtime; ``stack`` ends what asyncio code runs in it."""
        runtime = cls(loop, place, timeouts, launch)
        runtime.host = host
        runtime.outgoing = InfectedOutgoing(runtime)
        await stack.enter_async_context(host.serving())

        async def set_runtime() -> None:
            set_running_runtime(runtime)

        await host.run_task(set_runtime)
        host.exited = runtime.exit_with
        return runtime

    async def run_task(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await an asyncio coroutine from trio; see :meth:`Host.run_task`."""
        return await self.host.run_task(_cross, waiting_frame(self.loop), _deadline(), fn, args)

    async def run_trio(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await a trio function from asyncio; see :meth:`Host.run_trio`. Whoever waits for this waits for that."""
        crossing = waited_crossing()
        if crossing is None:
            return await self.host.run_trio(fn, *args)
        return await self.host.run_trio(_called_for, crossing.frame, fn, args, deadline=crossing.deadline)

    async def end_actor(self, target: Target, how: str) -> None:
        if running_library() == "trio":
            await super().end_actor(target, how)
        else:
            await self.run_trio(super().end_actor, target, how)


def _deadline() -> float:
    return trio.current_effective_deadline()


async def _cross(
    frame: Frame | None, deadline: float, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]
) -> T:
    import asyncio

    _crossing.set(Crossing(asyncio.current_task(), frame, deadline))
    return await fn(*args)


async def _called_for(frame: Frame | None, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    delegate(frame)
    return await fn(*args)


def cross(crossing: Crossing | None, task: object) -> None:
    """Let the running asyncio task be waited for as another one is."""
    _crossing.set(None if crossing is None else crossing._replace(task=task))


def waited_crossing() -> Crossing | None:
    """How the running asyncio task is waited for; None if no trio code waits for it."""
    import asyncio

    crossing = _crossing.get()
    return None if crossing is None or crossing.task is not asyncio.current_task() else crossing


def infected_runtime(what: str) -> InfectedRuntime:
    """The runtime of this pool, if asyncio code may run in it.

    Raises:
        XoscarError: it may not.
    """
    runtime = require_runtime()
    if not isinstance(runtime, InfectedRuntime):
        raise XoscarError(
            f"{what} needs a pool that runs asyncio: start_pool(asyncio=True), or PoolSpec(asyncio=True);"
            f" this is {runtime.place.name!r}, which does not"
        )
    return runtime


class InfectedOutgoing(Outgoing):
    """What references call: from trio as always, from asyncio by way of trio."""

    _runtime: InfectedRuntime

    async def send(self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if running_library() == "trio":
            return await super().send(target, method, args, kwargs)
        return await self._runtime.run_trio(super().send, target, method, args, kwargs)

    async def batch(self, target: Target, method: str, calls: list[Arguments]) -> Any:
        if running_library() == "trio":
            return await super().batch(target, method, calls)
        return await self._runtime.run_trio(super().batch, target, method, calls)

    async def tell(self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if running_library() == "trio":
            await super().tell(target, method, args, kwargs)
        else:
            await self._runtime.run_trio(super().tell, target, method, args, kwargs)

    async def open_stream(
        self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Source:
        if running_library() == "trio":
            return await super().open_stream(target, method, args, kwargs)
        source = await self._runtime.run_trio(super().open_stream, target, method, args, kwargs)
        return _CrossingSource(self._runtime, source)

    async def open_dialogue(
        self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], peer: str
    ) -> Opening:
        check_library(self._runtime.loop, "a dialogue")
        return await super().open_dialogue(target, method, args, kwargs, peer)


class _CrossingFlow:
    """The values of a stream that asyncio code reads; all but waiting for them is the same."""

    def __init__(self, runtime: InfectedRuntime, flow: Flow) -> None:
        self._runtime = runtime
        self._flow = flow

    async def peek(self) -> bool:
        return await self._runtime.run_trio(self._flow.peek)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._flow, name)


class _CrossingSource:
    """A stream that asyncio code reads."""

    def __init__(self, runtime: InfectedRuntime, source: Source) -> None:
        self._runtime = runtime
        self._source = source
        self.flow: Any = _CrossingFlow(runtime, source.flow)

    def take(self) -> Any:
        value = self._source.take()
        self._runtime.loop.soon(_nothing)  # a pass of trio's sends what the reading has made to be sent
        return value

    async def end(self) -> tuple[bool, Any]:
        return await self._runtime.run_trio(self._source.end)

    async def close(self) -> None:
        await self._runtime.run_trio(self._source.close)

    def abandon(self) -> None:
        self._runtime.loop.soon(self._source.abandon)


def _nothing() -> None:
    pass
