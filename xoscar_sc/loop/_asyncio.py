"""The seam on asyncio: plain callbacks, futures and tasks."""

from __future__ import annotations

import asyncio
import contextvars
import math
import select
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from xoscar_sc.loop._base import Slot, Turn

T = TypeVar("T")


class AsyncioSlot:
    """See :class:`xoscar_sc.loop.Slot`."""

    __slots__ = ("_future", "filled", "value")

    def __init__(self) -> None:
        self.filled = False
        self._future: asyncio.Future[None] | None = None
        self.value: Any = None

    def set(self, value: object) -> None:
        if self.filled:
            return
        self.filled = True
        self.value = value
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> Any:
        if self.filled:
            await asyncio.sleep(0)
        else:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        return self.value


class AsyncioLoop:
    """See :class:`xoscar_sc.loop.Loop`. Also serves under uvloop."""

    library = "asyncio"
    cancelled: type[BaseException] = asyncio.CancelledError
    filters_groups = False

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self.crashed: Callable[[BaseException], None] = traceback.print_exception
        self._tasks: set[asyncio.Task[None]] = set()
        self._watched: dict[int, select.poll | None] = {}

    async def open(self) -> None:
        pass

    async def aclose(self) -> None:
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await self.run_shielded(self._wait_for_tasks)

    async def _wait_for_tasks(self) -> None:
        if self._tasks:  # what was still there may have ended meanwhile
            await asyncio.wait(list(self._tasks))

    def now(self) -> float:
        return self._loop.time()

    def seconds_left(self) -> float | None:
        deadline = anyio.current_effective_deadline()
        return None if deadline == math.inf else max(deadline - self._loop.time(), 0.0)

    def watch(self, fd: int, readable: Callable[[], None]) -> None:
        self._watched[fd] = None
        if type(self._loop).__module__ == "uvloop":
            readable = self._to_the_end(fd, readable)
        self._loop.add_reader(fd, readable)

    def _to_the_end(self, fd: int, readable: Callable[[], None]) -> Callable[[], None]:
        """Go on calling once the peer has gone: uvloop tells of a reset connection once, however much is to be read."""
        poll = select.poll()
        poll.register(fd, 0)

        def read() -> None:
            if self._watched.get(fd) is poll:
                readable()
                if self._watched.get(fd) is poll and poll.poll(0):
                    self._loop.call_soon(read)

        self._watched[fd] = poll
        return read

    def unwatch(self, fd: int) -> None:
        if fd in self._watched:
            del self._watched[fd]
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)

    def watch_writable(self, fd: int, writable: Callable[[], None]) -> None:
        def once() -> None:
            self._loop.remove_writer(fd)
            writable()

        self._loop.add_writer(fd, once)

    def at_end_of_pass(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback, context=self._context)

    def soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def task(self) -> object:
        return asyncio.current_task()

    def within(self, task: object) -> bool:
        return asyncio.current_task() is task

    def slot(self) -> AsyncioSlot:
        return AsyncioSlot()

    def wait_reading(self, slot: Slot, fd: int) -> Awaitable[Any]:
        return slot.wait()

    def fresh_context(self) -> contextvars.Context:
        return self._context.copy()

    def breathe(self) -> Awaitable[None]:
        return asyncio.sleep(0)

    def open_nursery(self) -> AbstractAsyncContextManager[TaskGroup]:
        return anyio.create_task_group()

    def submit(self, turn: Turn) -> None:
        self.spawn(self._run, turn)

    async def _run(self, turn: Turn) -> None:
        with anyio.CancelScope() as scope:
            coroutine = turn.start(scope)
            if coroutine is not None:
                await coroutine

    def spawn(self, fn: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        task = self._loop.create_task(fn(*args), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        exc = None if task.cancelled() else task.exception()
        if exc is not None:  # a bug, which must not go unseen
            self.crashed(exc)

    async def run_shielded(self, fn: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await fn()

        task = self._loop.create_task(run())
        interrupted: BaseException | None = None
        while not task.done():
            try:
                # A shield of anyio's keeps anyio's cancellations out; asyncio's own are caught, and kept for later.
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                interrupted = exc
        result = task.result()
        if interrupted is not None:
            raise interrupted
        return result
