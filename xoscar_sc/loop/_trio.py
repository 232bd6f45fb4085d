"""The seam on trio.

Three things are unlike a plain trio program, and each is worth several scheduler passes a message:

- **Readiness is a callback.** All watched descriptors are in an epoll object of our own, whose descriptor is
  itself waited for, by one task. So a connection needs no task, and leaving a descriptor alone for a while is a
  system call, not a wake-up.
- **Workers.** A turn is run by whichever task is at hand, mostly the one that has just read its message. If it
  ends without waiting, no task was needed for it. If it waits, it keeps that task, since scopes and locks have
  recorded it, and another worker takes over the reading. A worker's cancel scope serves many turns, until it has
  been used.
- **Leading.** A task that waits for an answer reads the connection itself (:meth:`TrioLoop.wait_reading`).

Invariant: while the loop is open, one worker waits for the epoll object, or at least one is draining turns, or on its
way to.
"""

from __future__ import annotations

import contextvars
import math
import select
import traceback
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

import trio
from trio.lowlevel import Abort, enable_ki_protection, reschedule, wait_task_rescheduled

from xoscar_sc.loop._base import Slot, Turn
from xoscar_sc.loop._trio_scope import WorkerScope
from xoscar_sc.loop._trio_slot import TrioSlot

T = TypeVar("T")
_Begun: TypeAlias = tuple[Callable[..., Any], Coroutine[Any, Any, None], Any]
"""A turn that waits: how to run something in its context, what is left of it, and what it waits for."""

_SLICE = 0.005
"""Seconds of turns on end before other tasks have their turn."""
_BREATHS = 64
"""One in so many breaths is a true checkpoint."""
_SPARE = 32
"""Idle workers kept."""


class _Watch:
    """One watched descriptor."""

    __slots__ = ("fd", "led", "mask", "open", "readable", "wanted", "writable")

    def __init__(self, fd: int, readable: Callable[[], None]) -> None:
        self.fd = fd
        self.readable = readable
        self.writable: Callable[[], None] | None = None
        self.open = True
        """It has not been unwatched."""
        self.led = False
        """A task in :meth:`TrioLoop.wait_reading` reads it, or a worker in :meth:`TrioLoop._lead`."""
        self.wanted = False
        """A task that waits for an answer found a worker reading it: the next one is to find it free."""
        self.mask = select.EPOLLIN
        """What epoll has been told."""


class _EndOfPass(trio.abc.Instrument):
    def __init__(self, loop: TrioLoop) -> None:
        self._loop = loop

    def before_io_wait(self, timeout: float) -> None:
        self._loop.end_pass()


class TrioLoop:
    """See :class:`xoscar_sc.loop.Loop`."""

    library = "trio"
    cancelled: type[BaseException] = trio.Cancelled
    filters_groups = True

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watches: dict[int, _Watch] = {}
        self._left: list[_Watch] = []
        """Watches whose leader has gone: to be read by the workers again, unless led anew in this pass."""
        self._ends: list[Callable[[], None]] = []
        self._ready: deque[Turn] = deque()
        self._idle: list[trio.lowlevel.Task] = []
        self.crashed: Callable[[BaseException], None] = traceback.print_exception
        self._breaths = 0
        self._draining = 0
        self._polling = False
        self._hot: _Watch | None = None
        """The descriptor that was the only one to be ready; a worker reads it directly as long as that lasts."""
        self._token = trio.lowlevel.current_trio_token()
        self._context = contextvars.copy_context()
        self._nursery: trio.Nursery
        self._instrument = _EndOfPass(self)
        self._closing = trio.Event()
        self._closed = trio.Event()

    # Opening and closing

    async def open(self) -> None:
        """Start serving. The workers are in a system task: out of reach of the user's cancel scopes."""
        started = trio.Event()
        trio.lowlevel.add_instrument(self._instrument)
        trio.lowlevel.spawn_system_task(self._host, started)
        with trio.CancelScope(shield=True):
            await started.wait()

    async def aclose(self) -> None:
        """Cancel what still runs, and wait for it. No descriptor may be watched any more."""
        self._closing.set()
        with trio.CancelScope(shield=True):
            await self._closed.wait()

    async def _host(self, started: trio.Event) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                self._wake()
                started.set()
                await self._closing.wait()
                self._nursery.cancel_scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(self._instrument)
            self._epoll.close()
            self._closed.set()

    # Time, slots, tasks

    def now(self) -> float:
        return trio.current_time()

    def seconds_left(self) -> float | None:
        deadline = trio.current_effective_deadline()
        return None if deadline == math.inf else max(deadline - trio.current_time(), 0.0)

    def task(self) -> trio.lowlevel.Task:
        return trio.lowlevel.current_task()

    def within(self, task: object) -> bool:
        running = trio.lowlevel.current_task()
        while running is not task:
            nursery = running.parent_nursery
            if nursery is None:
                return False
            running = nursery.parent_task
        return True

    slot = TrioSlot

    def soon(self, callback: Callable[[], None]) -> None:
        self._token.run_sync_soon(callback)

    def spawn(self, fn: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self._nursery.start_soon(self._guard, fn, *args)

    @enable_ki_protection
    async def _guard(self, fn: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Run a task of the package's own: Ctrl-C is for the program's."""
        try:
            await fn(*args)
        except trio.Cancelled:
            raise
        except BaseException as exc:  # a bug, which must not end the others
            # A nursery may have put the cancellation into a group.
            if isinstance(exc, BaseExceptionGroup) and exc.split(trio.Cancelled)[1] is None:
                raise
            self.crashed(exc)

    def fresh_context(self) -> contextvars.Context:
        return self._context.copy()

    def breathe(self) -> Awaitable[None]:
        self._breaths = (self._breaths + 1) % _BREATHS
        breath = trio.lowlevel.checkpoint_if_cancelled if self._breaths else trio.lowlevel.checkpoint
        return breath()

    def open_nursery(self) -> AbstractAsyncContextManager[trio.Nursery]:
        return trio.open_nursery()

    async def run_shielded(self, fn: Callable[[], Awaitable[T]]) -> T:
        with trio.CancelScope(shield=True):
            return await fn()
        raise AssertionError("nobody cancels this scope")

    # Descriptors

    def watch(self, fd: int, readable: Callable[[], None]) -> None:
        self._watches[fd] = watch = _Watch(fd, readable)
        self._epoll.register(fd, watch.mask)

    def unwatch(self, fd: int) -> None:
        watch = self._watches.pop(fd, None)
        if watch is not None:
            self._epoll.unregister(fd)
            watch.open = False
            if watch is self._hot:
                self._hot = None
            if watch.led:
                trio.lowlevel.notify_closing(fd)

    def watch_writable(self, fd: int, writable: Callable[[], None]) -> None:
        watch = self._watches[fd]
        watch.writable = writable
        self._attend(watch)

    def _attend(self, watch: _Watch) -> None:
        """Tell epoll what is wanted of a descriptor, if that has changed."""
        mask = (0 if watch.led else select.EPOLLIN) | (select.EPOLLOUT if watch.writable else 0)
        if mask != watch.mask and watch.open:
            watch.mask = mask
            self._epoll.modify(watch.fd, mask)

    def _serve_descriptors(self) -> None:
        found = self._epoll.poll(0)
        if len(found) == 1:
            hot = self._watches.get(found[0][0])
            if hot is not None:
                self._hot = None if hot.wanted else hot
                hot.wanted = False
        for fd, events in found:
            watch = self._watches.get(fd)
            if watch is None:
                continue
            if events & select.EPOLLOUT and watch.writable is not None:
                writable, watch.writable = watch.writable, None
                writable()
                self._attend(watch)
            if events & ~select.EPOLLOUT and watch.open:
                watch.readable()

    def wait_reading(self, slot: Slot, fd: int) -> Awaitable[Any]:
        # No coroutine function: for all that do not lead, that would be one object more for each open call.
        watch = self._watches.get(fd)
        if watch is None or watch.led or slot.filled:
            if watch is not None and watch is self._hot:
                watch.wanted = True
                self._hot = None
            return slot.wait()
        return self._read_for_all(slot, watch)

    @enable_ki_protection
    async def _read_for_all(self, slot: Slot, watch: _Watch) -> Any:
        watch.led = True
        if watch.mask & select.EPOLLIN:
            self._attend(watch)
        try:
            while watch.open and not slot.filled:  # if it is closed, the value will come otherwise
                await trio.lowlevel.wait_readable(watch.fd)
                if watch.open:
                    watch.readable()
        except trio.ClosedResourceError:
            pass
        finally:
            watch.led = False
            self._left.append(watch)
        return slot.value if slot.filled else await slot.wait()

    # The end of a pass

    def at_end_of_pass(self, callback: Callable[[], None]) -> None:
        self._ends.append(callback)

    def end_pass(self) -> None:
        """Called by trio before it waits for events."""
        while self._ends:
            ends, self._ends = self._ends, []
            for callback in ends:
                callback()
        if self._left:
            for watch in self._left:
                if not watch.led:
                    self._attend(watch)
            self._left.clear()

    # Workers

    def submit(self, turn: Turn) -> None:
        self._ready.append(turn)
        if not self._draining:
            self._wake()

    def _wake(self) -> None:
        self._draining += 1
        if self._idle:
            reschedule(self._idle.pop())
        else:
            self._nursery.start_soon(self._work)

    @enable_ki_protection
    async def _work(self) -> None:
        busy = True
        while busy:
            with trio.CancelScope() as scope:
                busy = await self._drain(WorkerScope(scope))

    async def _drain(self, scope: WorkerScope) -> bool:
        """Run turns, and read in between; until ``scope`` has been used (True) or the worker is one too many."""
        ready = self._ready
        while True:
            begun = self._run_ready(scope)
            if begun is not None:
                await self._go_on(*begun)
            if scope.touched and scope.used():
                return True
            if ready:
                if begun is None:
                    await trio.lowlevel.checkpoint()
                    if not self._polling:
                        self._serve_descriptors()
            elif self._hot is not None and not self._hot.led:
                if not self._polling and self._draining == 1:
                    self._wake()
                await self._lead(self._hot)
            elif not self._polling:
                await self._poll()
            elif len(self._idle) < _SPARE:
                await self._park()
            else:
                self._draining -= 1
                return False

    def _run_ready(self, scope: WorkerScope) -> _Begun | None:
        """Run turns: for a slice of time, until ``scope`` has been used, or until one waits, which is given."""
        ready, context = self._ready, self._context
        until = perf_counter() + _SLICE
        while ready:
            run = context.copy().run
            try:
                coroutine = run(ready.popleft().start, scope)
                if coroutine is not None:
                    return run, coroutine, run(coroutine.send, None)
            except StopIteration:
                pass
            except trio.Cancelled:
                raise
            except BaseException as exc:  # as above
                self.crashed(exc)
            if scope.touched and scope.used():
                break
            if perf_counter() > until:
                break
        return None

    @types.coroutine
    def _go_on(
        self, run: Callable[..., Any], coroutine: Coroutine[Any, Any, None], trap: Any
    ) -> Generator[Any, Any, None]:
        """The rest of a turn that waits; another worker goes on with the other turns."""
        self._draining -= 1
        if not self._draining and (self._ready or not self._polling):
            self._wake()
        try:
            while True:
                try:
                    value = yield trap
                except BaseException as exc:  # whatever it is, it is the turn's
                    trap = run(coroutine.throw, exc)
                else:
                    trap = run(coroutine.send, value)
        except StopIteration:
            return
        except trio.Cancelled:
            raise
        except BaseException as exc:  # as above
            self.crashed(exc)
        finally:
            self._draining += 1

    async def _poll(self) -> None:
        self._polling = True
        self._draining -= 1
        try:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
        finally:
            self._polling = False
            self._draining += 1
        self._serve_descriptors()

    async def _lead(self, watch: _Watch) -> None:
        """Wait for one descriptor and nothing else, which spares the way through our own epoll."""
        watch.led = True
        if watch.mask & select.EPOLLIN:
            self._attend(watch)
        self._draining -= 1
        try:
            await trio.lowlevel.wait_readable(watch.fd)
        except trio.ClosedResourceError:
            return
        finally:
            self._draining += 1
            watch.led = False
            self._left.append(watch)
        if watch.open:
            watch.readable()

    async def _park(self) -> None:
        task = trio.lowlevel.current_task()

        def abort(_raise_cancel: Callable[[], None]) -> Abort:
            self._idle.remove(task)
            return Abort.SUCCEEDED

        self._draining -= 1
        self._idle.append(task)
        await wait_task_rescheduled(abort)
