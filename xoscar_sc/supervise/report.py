"""How the ends of children are told to people."""

from __future__ import annotations

from collections.abc import Sequence

from xoscar_sc.errors import ActorDied, PoolDied
from xoscar_sc.events import Exit
from xoscar_sc.supervise.child import Child


def described(exit_: Exit) -> str:
    """How something has ended, in a few words."""
    if exit_.error is not None:
        return f"{type(exit_.error).__name__}: {exit_.error}"
    return {"normal": "normally", "cancelled": "cancelled"}.get(exit_.kind, exit_.kind)


def as_exception(exit_: Exit, child: Child) -> Exception:
    """How a child has ended, as what a report may hold."""
    if isinstance(exit_.error, Exception):
        return exit_.error
    return ActorDied(f"{child.kind} {child.name!r} ended: {described(exit_)}", uid=child.name)


def is_known(error: Exception, seen: Sequence[tuple[float, Exception]]) -> bool:
    """Whether an end is the death of a pool that has been counted: of one that lived there, or was being made.

    Of a pool that ended under an actor that was being made there, the process is not known.
    """
    return isinstance(error, PoolDied) and any(
        isinstance(exc, PoolDied)
        and exc.pool == error.pool
        and (exc.pid == error.pid or not (exc.pid and error.pid))
        for _, exc in seen
    )
