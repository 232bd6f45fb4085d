"""Who is where: the table of uids, kept by the root of the tree.

A uid is reserved before its actor is made, so that it is unique in the whole tree; it is found only when the actor
is ready; it is free again when the actor has ended.

Each reservation has a token, chosen by whoever makes the actor and unique in the tree. Only who has the token can
bind the uid or release it, so that both may be asked for too late, or twice, and nobody else is harmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from xoscar_sc.errors import ActorAlreadyExist
from xoscar_sc.runtime.traits import DEFAULT, Traits


class Found(NamedTuple):
    """What is known of an actor by its uid."""

    address: str
    incarnation: int
    traits: Traits = DEFAULT


def found_from(value: Any) -> Found | None:
    """What another program has said of an actor: as it was, or as msgpack gives it back."""
    return value if value is None or isinstance(value, Found) else msgspec.convert(value, Found)


@dataclass(slots=True)
class _Entry:
    """A uid that is taken."""

    address: str
    token: str
    makers: tuple[str, ...]
    """The addresses of the pool that makes the actor, and of those above it: it dies with each of them."""
    found: Found | None = None
    """None until the actor is ready."""


class Names:
    """The table itself: no task, no clock."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

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
            entry.found = found

    def release(self, uid: str, token: str) -> None:
        """The actor has ended, or was not made. Ignored if the reservation is gone."""
        entry = self._entries.get(uid)
        if entry is not None and entry.token == token:
            del self._entries[uid]

    def release_pool(self, address: str) -> None:
        """The pool has ended: its actors with it, and the pools that it had started, and theirs."""
        for uid, entry in list(self._entries.items()):
            if entry.address == address or address in entry.makers:
                del self._entries[uid]

    def find(self, uid: str) -> Found | None:
        """The actor, if it is ready."""
        entry = self._entries.get(uid)
        return None if entry is None else entry.found

    def __len__(self) -> int:
        return len(self._entries)
