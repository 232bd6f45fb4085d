"""Actors whose code is asyncio's, in pools that run both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from xoscar_sc.errors import AsyncioCancelled, XoscarError
from xoscar_sc.loop import running_library
from xoscar_sc.runtime.actor import Actor, Message, StatelessActor
from xoscar_sc.runtime.current import current_frame, running_runtime
from xoscar_sc.runtime.gathering import awaited
from xoscar_sc.runtime.generators import Done
from xoscar_sc.runtime.infected import Crossing, InfectedRuntime, cross, waited_crossing
from xoscar_sc.runtime.methods import dispatches
from xoscar_sc.runtime.work import Work

if TYPE_CHECKING:
    import asyncio

    from xoscar_sc.runtime.cell import Cell
    from xoscar_sc.runtime.runtime import Runtime


class AsyncioStatelessActor(StatelessActor):
    """A :class:`StatelessActor` whose async methods, hooks and generators are asyncio code.

    It lives in a pool with ``asyncio=True``. Each message runs in an asyncio task of its own, which is cancelled when
    the call is; references are awaited there as anywhere. Tasks that it starts beside are cancelled when the pool ends.
    What is marked with :func:`context` is trio code in these actors too.
    """

    @staticmethod
    def __xsc_prepare__(runtime: Runtime) -> Callable[[Cell], None]:
        """What makes its cell run asyncio code.

        Raises:
            XoscarError: this pool does not run asyncio.
        """
        if isinstance(runtime, InfectedRuntime):
            return partial(_prepare, runtime)
        if running_library() == "asyncio":  # actors of a program on asyncio, in itself
            return _as_it_is
        raise XoscarError(
            f"an AsyncioActor lives in a pool that runs asyncio, and pool {runtime.place.name!r} does not:"
            " start_pool(asyncio=True), or PoolSpec(asyncio=True), and create_actor(..., pool=...)"
        )

    @dispatches
    async def __on_receive__(self, message: Message) -> Any:
        runtime = running_runtime()
        if isinstance(runtime, InfectedRuntime) and running_library() == "asyncio":
            return await runtime.host.run_trio(self._cell().dispatch, message)
        return await super().__on_receive__(message)

    def unlocked(self) -> AbstractAsyncContextManager[None]:
        if running_library() == "asyncio" and isinstance(self._cell().runtime, InfectedRuntime):
            return _UnlockedFromAsyncio(self._cell())
        return super().unlocked()


class AsyncioActor(AsyncioStatelessActor, Actor):
    """An :class:`Actor` whose async methods, hooks and generators are asyncio code.

    See :class:`AsyncioStatelessActor` for what that means.
    """


def _as_it_is(_cell: Cell) -> None:
    pass


def _prepare(runtime: InfectedRuntime, cell: Cell) -> None:
    cell.undergo = partial(runtime.run_task, awaited)
    cell.steps = partial(_AsyncioSteps, runtime)


class _UnlockedFromAsyncio(AbstractAsyncContextManager[None]):
    """What ``unlocked()`` is in the asyncio task of a message."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._work: Work | None = None

    async def __aenter__(self) -> None:
        work = self._cell.mailbox.holder
        if work is not None and current_frame.get() is work and waited_crossing() is not None:
            await self._host().run_trio(self._lend, work)
            self._work = work

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        work, self._work = self._work, None
        if work is not None:
            await self._host().run_trio(self._cell.take_back, work)

    def _host(self) -> Any:
        runtime = self._cell.runtime
        assert isinstance(runtime, InfectedRuntime)
        return runtime.host

    async def _lend(self, work: Work) -> None:
        self._cell.lend_by(work)


class _AsyncioSteps:
    """A generator of asyncio code: all of its steps run in one asyncio task, as its time-outs and groups demand."""

    def __init__(self, runtime: InfectedRuntime, generator: Any) -> None:
        self._runtime = runtime
        self._generator = generator
        self._driver: asyncio.Task[None] | None = None
        self._step: _Step | None = None
        """The one that is to be made, or is being made."""
        self._wanted: asyncio.Event

    async def send(self, value: Any) -> Any:
        return await self._make(partial(self._generator.asend, value))

    async def throw(self, exc: BaseException) -> Any:
        if not isinstance(exc, self._runtime.loop.cancelled):
            return await self._make(partial(self._generator.athrow, exc))
        import asyncio

        # asyncio tells of a cancellation once; what follows in the generator may wait.
        with anyio.CancelScope(shield=True):
            try:
                return await self._make(partial(self._generator.athrow, asyncio.CancelledError()))
            except AsyncioCancelled:
                pass
        raise exc

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._make(self._generator.aclose)

    async def _make(self, step: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await self._runtime.run_task(self._ask, step)
        except StopAsyncIteration:
            raise Done(None) from None

    # On asyncio's side

    async def _ask(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Have a step made, and wait for it."""
        import asyncio

        loop = asyncio.get_running_loop()
        if self._driver is None:
            self._wanted = asyncio.Event()
            self._driver = loop.create_task(self._drive())
        if self._driver.done():
            return await step()  # the generator has ended, and says so
        self._step = made = _Step(step, loop.create_future(), waited_crossing())
        self._wanted.set()
        while not made.answer.done():
            try:
                await asyncio.wait([made.answer])
            except asyncio.CancelledError:
                if not made.answer.done():
                    self._driver.cancel()
        value, exc = made.answer.result()
        if exc is not None:
            raise exc
        return value

    async def _drive(self) -> None:
        import asyncio

        task = asyncio.current_task()
        assert task is not None
        while self._step is None or self._generator.ag_frame is not None:
            result: tuple[Any, BaseException | None]
            step: _Step | None = None
            try:
                await self._wanted.wait()
                step = self._step
                assert step is not None
                cross(step.crossing, task)
                result = await step.function(), None
            except BaseException as exc:  # it is the step's
                step = step or self._step
                if step is None or step.answer.done():  # the pool is ending
                    raise
                result = None, exc
            self._wanted.clear()
            step.answer.set_result(result)
            while task.cancelling():
                task.uncancel()


class _Step(NamedTuple):
    """One step of a generator."""

    function: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[tuple[Any, BaseException | None]]
    crossing: Crossing | None
