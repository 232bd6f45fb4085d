"""Who is where: the table of uids, kept by the root of the tree.

A uid is reserved before its actor is made, so that it is unique in the whole tree; it is found only when the actor
is ready; it is free again when the actor has ended.

Each reservation has a token, chosen by whoever makes the actor and unique in the tree. Only who has the token can
bind the uid or release it, so that both may be asked for too late, or twice, and nobody else is harmed.

The uid of an actor that a supervisor restarts stays taken when the actor ends: it is kept under the number of the
child, until the supervisor binds it to the next incarnation, or drops it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from xoscar_sc.errors import ActorAlreadyExist
from xoscar_sc.events import Exit
from xoscar_sc.protocol import Failure
from xoscar_sc.runtime.traits import DEFAULT, Traits


class Found(NamedTuple):
    """What is known of an actor by its uid."""

    address: str
    incarnation: int
    traits: Traits = DEFAULT
    life: int = 1
    """How often it has been started."""


class Ending(NamedTuple):
    """How an actor has ended, in a form that can be sent."""

    exit: Exit
    failure: Failure | None
    """Its error, which is not in ``exit``."""


_REMEMBERED = 1024
"""Ends of children that are remembered."""


def found_from(value: Any) -> Found | None:
    """What another program has said of an actor: as it was, or as msgpack gives it back."""
    return value if value is None or isinstance(value, Found) else msgspec.convert(value, Found)


def ending_from(value: Any) -> Ending:
    """How an actor has ended, as another program has said it; see :func:`found_from`."""
    exit_, failure = value
    if not isinstance(exit_, Exit):
        exit_, failure = Exit(**exit_), msgspec.convert(failure, Failure | None)
    return Ending(exit_, failure)


@dataclass(slots=True)
class _Entry:
    """A uid that is taken."""

    address: str
    token: str
    makers: tuple[str, ...]
    """The addresses of the pool that makes the actor, and of those above it: it dies with each of them."""
    found: Found | None = None
    """None until the actor is ready."""
    kept: int = 0
    """The number of the child that the uid is kept for; 0 if it is free as soon as the actor has ended."""
    up: bool = False
    """The actor is ready, and has not ended."""
    last: Ending | None = None
    """How the incarnation before this one has ended."""


class Names:
    """The table itself: no task, no clock."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._endings: dict[tuple[str, int], Ending] = {}
        """How children have ended for good, by uid and number; the last few."""

    def reserve(self, uid: str, address: str, token: str, makers: tuple[str, ...] = ()) -> None:
        """Take a uid for an actor that is being made at ``address``.

        Args:
            uid: free until now.
            address: where the actor will live.
            token: whoever has it may bind the uid, and release it.
            makers: the addresses of the pool that makes the actor, and of those above it.

        Raises:
            ActorAlreadyExist: it is taken.
        """
        entry = self._entries.get(uid)
        if entry is not None:
            raise ActorAlreadyExist(f"there is an actor {uid!r} already, at {entry.address}")
        self._entries[uid] = _Entry(address, token, makers)

    def bind(self, uid: str, token: str, found: Found) -> None:
        """The actor is ready. Ignored if the reservation is gone: the actor has ended already."""
        entry = self._entries.get(uid)
        if entry is not None and entry.token == token:
            entry.kept = found.traits.child
            entry.found = found
            entry.up = True

    def release(self, uid: str, token: str) -> None:
        """The actor has ended, or was not made. Ignored if the reservation is gone."""
        entry = self._entries.get(uid)
        if entry is not None and entry.token == token:
            if entry.kept:
                entry.up = False
            else:
                del self._entries[uid]

    def release_pool(self, address: str) -> list[str]:
        """The pool has ended: its actors with it, and the pools that it had started, and theirs.

        Returns:
            the uids that are free now.
        """
        freed = []
        for uid, entry in list(self._entries.items()):
            if address in entry.makers or (entry.address == address and not entry.kept):
                del self._entries[uid]
                freed.append(uid)
            elif entry.address == address:
                entry.up = False
        return freed

    def find(self, uid: str, *, ready: bool = False) -> Found | None:
        """The actor, if it is ready; unless only that will do, also one that is being restarted."""
        entry = self._entries.get(uid)
        return None if entry is None or (ready and not entry.up) else entry.found

    # Children

    def renew(
        self, uid: str, child: int, address: str, token: str, makers: tuple[str, ...], last: Ending
    ) -> None:
        """A child is about to be started again, at ``address``; its last incarnation has ended like this.

        Raises:
            ActorAlreadyExist: the uid was dropped, and somebody else has it.
        """
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries[uid] = _Entry(address, token, makers, kept=child)
        elif entry.kept != child:
            raise ActorAlreadyExist(f"there is an actor {uid!r} already, at {entry.address}")
        entry.address, entry.token, entry.makers, entry.last, entry.up = address, token, makers, last, False

    def drop(self, uid: str, child: int, last: Ending) -> None:
        """A child does not come back; that is how it has ended. Ignored if the uid is not kept for it."""
        entry = self._entries.get(uid)
        if entry is not None and entry.kept == child:
            del self._entries[uid]
            self._endings[uid, child] = last
            if len(self._endings) > _REMEMBERED:
                del self._endings[next(iter(self._endings))]

    def look(self, uid: str, child: int, seen: int) -> tuple[Found | None, Ending | None] | None:
        """A child in a later life than ``seen``, and how the one before has ended; None while there is none yet.

        Without a place: it does not come back.
        """
        entry = self._entries.get(uid)
        if entry is None or entry.kept != child:
            return None, self._endings.get((uid, child))
        if entry.up and entry.found is not None and entry.found.life > seen:
            return entry.found, entry.last
        return None

    def waits(self, uid: str) -> bool:
        """Whether those who look for a child that is being restarted are to wait."""
        entry = self._entries.get(uid)
        return entry is None or entry.found is None or entry.found.traits.waits

    def __len__(self) -> int:
        return len(self._entries)
