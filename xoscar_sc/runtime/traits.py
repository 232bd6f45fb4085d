"""What a reference has to know of its actor before it sends anything."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from xoscar_sc.runtime.methods import methods_of

Overflow: TypeAlias = Literal["wait", "raise", "drop_oldest", "drop_newest"]

FIRST_CHILD = 2**52
"""The numbers of those that are restarted begin here: none is the incarnation of one that is not."""

BOUND = 1000
"""Messages that a mailbox holds, unless it is told otherwise."""


class Traits(NamedTuple):
    """What is told of an actor wherever a reference to it goes."""

    bound: int = BOUND
    """Messages that its mailbox holds."""
    overflow: Overflow = "wait"
    """What becomes of one more."""
    streams: tuple[str, ...] = ()
    """The methods whose calls give streams."""
    retries: tuple[tuple[str, int, float], ...] = ()
    """The methods whose calls are repeated when the pool dies: how often, and after how many seconds."""
    child: int = 0
    """What its supervisor knows it by, however often it is started again; 0 if nobody does that."""
    waits: bool = True
    """Calls wait while it is being restarted; else they raise :exc:`ActorUnavailable`."""
    keeps: bool = False
    """What waits in its mailbox when it ends is for the next one; else it fails."""


DEFAULT = Traits()


def traits_of(cls: type, bound: int, overflow: Overflow) -> Traits:
    """What is told of an actor of this class with such a mailbox."""
    methods = methods_of(cls)
    streams = tuple(name for name, method in methods.items() if method.streams)
    retries = tuple((name, *method.retry) for name, method in methods.items() if method.retry is not None)
    return Traits(bound, overflow, streams, retries)
