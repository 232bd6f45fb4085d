"""Who is where: the table of uids, kept by the root of the tree.

A uid is reserved before its actor is made, so that it is unique in the whole tree; it is found only when the actor
is ready; it is free again when the actor has ended.
"""

from __future__ import annotations

from typing import NamedTuple

from xoscar_sc.errors import ActorAlreadyExist
from xoscar_sc.runtime.mailbox import DEFAULT, Capacity


class Found(NamedTuple):
    """What is known of an actor by its uid."""

    address: str
    incarnation: int
    """0 until the actor is ready."""
    capacity: Capacity = DEFAULT


class Names:
    """The table itself: no task, no clock."""

    def __init__(self) -> None:
        self._entries: dict[str, Found] = {}

    def reserve(self, uid: str, address: str) -> None:
        """Take a uid for an actor that is being made at ``address``.

        Raises:
            ActorAlreadyExist: it is taken.
        """
        entry = self._entries.get(uid)
        if entry is not None:
            raise ActorAlreadyExist(f"there is an actor {uid!r} already, at {entry.address}")
        self._entries[uid] = Found(address, 0)

    def bind(self, uid: str, found: Found) -> None:
        """The actor is ready. Ignored if the reservation is gone: the actor has ended already."""
        if self._entries.get(uid) == Found(found.address, 0):
            self._entries[uid] = found

    def release(self, uid: str, address: str) -> None:
        """The actor has ended, or was not made."""
        entry = self._entries.get(uid)
        if entry is not None and entry.address == address:
            del self._entries[uid]

    def release_pool(self, address: str) -> None:
        """The pool has ended, and its actors with it."""
        for uid in [uid for uid, entry in self._entries.items() if entry.address == address]:
            del self._entries[uid]

    def find(self, uid: str) -> Found | None:
        """The actor, if it is ready."""
        entry = self._entries.get(uid)
        return entry if entry is not None and entry.incarnation else None

    def __len__(self) -> int:
        return len(self._entries)
