"""Which runtime, and which actor, the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import RunVar

from xoscar_sc.errors import XoscarError
from xoscar_sc.loop import Loop, running_library
from xoscar_sc.protocol import Link

if TYPE_CHECKING:
    from xoscar_sc.runtime.actor import StatelessActor
    from xoscar_sc.runtime.cell import Cell
    from xoscar_sc.runtime.deadlock import Way
    from xoscar_sc.runtime.runtime import Runtime

_running: RunVar[Any] = RunVar("xoscar_sc.runtime")

current_frame: ContextVar[Frame | None] = ContextVar("xoscar_sc.frame", default=None)


class Frame:
    """What an actor's code runs for: nothing in particular, unless it is a message (:class:`Work`)."""

    __slots__ = ("cell", "task", "ways")

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.task: object = None
        """The task that waits for what the code calls; None if none does."""
        self.ways: list[Way] | None = None
        """What the code waits for: an entry for each of its open calls."""

    def wait_for(self, way: Way) -> None:
        """The code has made a call."""
        if self.ways is None:
            self.ways = [way]
        elif way.kind != 1 or way not in self.ways:  # a stream is told of once
            self.ways.append(way)

    def waited(self, way: Way) -> None:
        """The call has ended."""
        assert self.ways is not None
        self.ways.remove(way)

    def links(self) -> tuple[Link, ...]:
        """The calls that wait for what the code calls, outermost first, its own last."""
        return ()


def waiting_frame(loop: Loop) -> Frame | None:
    """What waits for what the running task does now, if anything does."""
    frame = current_frame.get()
    # A task of the actor's nursery has the context of the message that started it, but no message waits for it.
    if frame is None or frame.task is None or not loop.within(frame.task):
        return None
    return frame


def waiting_chain(loop: Loop) -> tuple[Link, ...]:
    """The calls that wait for what the running task does now, outermost first."""
    frame = waiting_frame(loop)
    return () if frame is None else frame.links()


def running_runtime() -> Runtime | None:
    """The runtime of this event loop, if there is one."""
    found: Runtime | None = _running.get(None)
    return found


def set_running_runtime(runtime: Runtime | None) -> None:
    """Make ``runtime`` that of this event loop."""
    _running.set(runtime)


def require_runtime() -> Runtime:
    """The runtime of this event loop.

    Raises:
        XoscarError: there is none.
    """
    runtime = running_runtime()
    if runtime is None:
        raise XoscarError("no pool nursery is open in this program; open one with open_pool_nursery()")
    return runtime


def check_library(loop: Loop, what: str) -> None:
    """In a pool where asyncio code runs too, what is the pool's own is opened by trio code.

    Raises:
        XoscarError: this is asyncio code.
    """
    if loop.library != running_library():
        raise XoscarError(
            f"{what} is opened by trio code: put it into a function, and await xsc.to_asyncio.run_trio(function)"
        )


def current_actor() -> StatelessActor:
    """The actor whose code is running.

    Raises:
        XoscarError: this code is no actor's.
    """
    frame = current_frame.get()
    if frame is None or not frame.cell.uid:
        raise XoscarError("no actor's code is running here")
    actor: StatelessActor = frame.cell.instance
    return actor


class Delegate(Frame):
    """A task that calls for somebody else, who waits for it: one that the loop cannot tell to be waited for."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Frame, task: object) -> None:
        super().__init__(reader.cell)
        self._reader = reader
        self.task = task

    def links(self) -> tuple[Link, ...]:
        return self._reader.links()

    def wait_for(self, way: Way) -> None:
        self._reader.wait_for(way)

    def waited(self, way: Way) -> None:
        self._reader.waited(way)


def delegate(reader: Frame | None) -> None:
    """Let the running task call for ``reader``."""
    runtime = running_runtime()
    if reader is not None and runtime is not None:
        current_frame.set(Delegate(reader, runtime.loop.task()))
