"""trio as a guest on an asyncio loop, and the ways between the two.

Both run in one thread, and neither ever waits in a call to the other: a task on one side waits, as its own kind of
task, for one on the other. A cancellation crosses by cancelling the other side and waiting for its end.

Invariant: the asyncio loop runs until trio has ended, whoever stops it, cancels all of its tasks, or exits in one of
them. A guest that is left behind would make every later run in its thread fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import trio
from outcome import Outcome
from trio.lowlevel import Abort, reschedule, wait_task_rescheduled

from xoscar_sc.errors import AsyncioCancelled, XoscarError
from xoscar_sc.loop._asyncio import AsyncioSlot

T = TypeVar("T")

_PATIENCE = 1.0
"""Seconds that a cancellation may take from a deadline on trio's side to the asyncio task that has it."""


class AsyncioHost:
    """See :class:`xoscar_sc.loop.Host`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.exited: Callable[[BaseException], None] | None = None
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken

    # On trio's side

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                with trio.CancelScope(shield=True):
                    await self.run_task(_close_tasks)
                self._nursery = None
                nursery.cancel_scope.cancel()

    async def run_task(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        waiting = trio.lowlevel.current_task()
        task = self.loop.create_task(_outcome(fn, args), context=contextvars.copy_context())
        cancelled: list[Callable[[], None]] = []

        def abort(raise_cancel: Callable[[], None]) -> Abort:
            cancelled.append(raise_cancel)
            task.cancel()
            return Abort.FAILED

        task.add_done_callback(lambda _: reschedule(waiting))
        await wait_task_rescheduled(abort)
        value: Any
        value, exc = (None, asyncio.CancelledError()) if task.cancelled() else task.result()
        try:
            if exc is None:
                return value  # type: ignore[no-any-return]
            if not isinstance(exc, asyncio.CancelledError):
                raise exc
            if cancelled:
                cancelled[0]()
            name = getattr(fn, "__qualname__", repr(fn))
            raise AsyncioCancelled(f"the asyncio task of {name}() was cancelled from inside asyncio") from exc
        finally:
            del exc

    # On asyncio's side

    async def run_trio(self, fn: Callable[..., Awaitable[T]], *args: Any, deadline: float = math.inf) -> T:
        if self._nursery is None:
            raise XoscarError("this pool is ending: it runs no more trio code for asyncio")
        slot = AsyncioSlot()
        scope = trio.CancelScope(deadline=deadline)
        self._nursery.start_soon(partial(_serve, scope, slot, fn, args))
        interrupted: BaseException | None = None
        while not slot.filled:
            try:
                await slot.wait()
            except asyncio.CancelledError as exc:
                interrupted = exc
                scope.cancel()
        succeeded, value = slot.value
        slot.value = None
        try:
            if succeeded is False:
                raise value
            if interrupted is not None:
                raise interrupted
            if succeeded:
                return value  # type: ignore[no-any-return]
        finally:
            del value, interrupted
        if deadline < math.inf:
            await asyncio.sleep(_PATIENCE)  # whoever has that deadline on trio's side cancels this task
            raise TimeoutError("the deadline that this asyncio task was started with has passed")
        raise asyncio.CancelledError("the pool is ending")

    # From outside of both

    def exit(self, exc: BaseException) -> None:
        """An asyncio task that nobody awaits wants the process to end."""
        if self.exited is None:
            raise exc
        self._token.run_sync_soon(self.exited, exc)


async def _outcome(fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> Any:
    """What a coroutine gives, and what it raises: an exit must not leave through the loop."""
    try:
        return await fn(*args), None
    except BaseException as exc:  # it is the awaiter's
        return None, exc


async def _serve(
    scope: trio.CancelScope, slot: AsyncioSlot, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
) -> None:
    result: tuple[bool | None, Any] = (None, None)
    try:
        with scope:
            result = (True, await fn(*args))
    except trio.Cancelled:
        raise
    except BaseException as exc:  # it is the awaiter's
        result = (False, exc)
    finally:
        slot.set(result)


async def _close_tasks() -> None:
    """Cancel what still runs on the loop, and wait for it; close asynchronous generators."""
    loop = asyncio.get_running_loop()
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        for task in others:
            if not task.cancelled() and task.exception() is not None:
                loop.call_exception_handler(
                    {
                        "message": "an asyncio task failed while its pool was ending",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
    await loop.shutdown_asyncgens()


def run_as_guest(fn: Callable[[AsyncioHost], Coroutine[Any, Any, T]], *, uvloop: bool) -> T:
    """Run trio on a new asyncio loop, or one of uvloop's; what ``fn`` gives."""
    loop = _new_loop(uvloop=uvloop)
    host = AsyncioHost(loop)
    done: asyncio.Future[Outcome[T]] = loop.create_future()

    hooks = sys.get_asyncgen_hooks()

    def start() -> None:
        nonlocal hooks
        try:
            trio.lowlevel.start_guest_run(
                fn,
                host,
                run_sync_soon_threadsafe=loop.call_soon_threadsafe,
                run_sync_soon_not_threadsafe=loop.call_soon,
                done_callback=done.set_result,
                host_uses_signal_set_wakeup_fd=True,
            )
        except BaseException as exc:
            done.set_exception(exc)
        hooks = sys.get_asyncgen_hooks()

    try:
        loop.call_soon(start)
        while not done.done():
            try:
                loop.run_until_complete(done)
            except (SystemExit, KeyboardInterrupt) as exc:
                if not done.done():
                    host.exit(exc)
            except RuntimeError:  # somebody has stopped the loop
                if done.done():
                    raise
            # A loop that runs again installs hooks of its own, over trio's.
            loop.call_soon(lambda: sys.set_asyncgen_hooks(*hooks))
        return done.result().unwrap()
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _new_loop(*, uvloop: bool) -> asyncio.AbstractEventLoop:
    if not uvloop:
        return asyncio.new_event_loop()
    from importlib import import_module

    loop: asyncio.AbstractEventLoop = import_module("uvloop").new_event_loop()
    return loop
