"""Which runtime, and which actor, the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import RunVar

from xoscar_sc.errors import XoscarError

if TYPE_CHECKING:
    from xoscar_sc.runtime.actor import StatelessActor
    from xoscar_sc.runtime.cell import Cell
    from xoscar_sc.runtime.runtime import Runtime

_running: RunVar[Any] = RunVar("xoscar_sc.runtime")

current_cell: ContextVar[Cell | None] = ContextVar("xoscar_sc.cell", default=None)
current_chain: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("xoscar_sc.chain", default=())
"""The calls that wait for what runs here, outermost first, as (uid, method)."""


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


def current_actor() -> StatelessActor:
    """The actor whose code is running.

    Raises:
        XoscarError: this code is no actor's.
    """
    cell = current_cell.get()
    if cell is None:
        raise XoscarError("no actor's code is running here")
    actor: StatelessActor = cell.instance
    return actor
