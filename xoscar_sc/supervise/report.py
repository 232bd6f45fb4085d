"""How the ends of children are told to people."""

from __future__ import annotations

from xoscar_sc.errors import ActorDied
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
