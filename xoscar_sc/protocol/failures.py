"""An exception as a record: what crosses the wire in place of an exception object.

A record is made and turned back into an exception by :mod:`xoscar_sc.serialize`, which knows users' types;
here it is only what the bytes mean. Whoever cannot use ``payload`` still has the type's name, the text and the
traceback.

An exception is recorded where it is met first. Where it is met again, as both the cause and the context of
another, stands a record with an empty ``type_name``, whose ``text`` is its number: records count from 0, each
after its members, its cause and its context, in this order. Cycles are cut.
"""

from __future__ import annotations

import msgspec


class Failure(msgspec.Struct, array_like=True, gc=False):
    """One exception, with those that it was raised from and, for a group, those that it holds."""

    type_name: str
    """``module.qualname`` of its type."""
    text: str
    """``str()`` of it."""
    payload: bytes = b""
    """How to rebuild it; empty if that is not possible."""
    notes: tuple[str, ...] = ()
    traceback: str = ""
    """Its remote traceback, as the interpreter prints it; empty for all but the outermost record."""
    cause: Failure | None = None
    context: Failure | None = None
    suppress_context: bool = False
    members: tuple[Failure, ...] = ()
    """The exceptions of a group, in order; empty for any other exception."""
