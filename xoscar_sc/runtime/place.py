"""Where a pool stands in its tree, and what those who own pools and actors want to hear."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import msgspec

from xoscar_sc.events import ActorExited, Event


class Place(msgspec.Struct, frozen=True):
    """Where a pool stands in its tree."""

    tree: str
    """Unique among the trees of this host."""
    directory: str
    """Of the tree's sockets."""
    name: str
    pool_id: str
    """Unique in the tree."""
    root: str
    """The address of the root."""
    parent: str = ""
    """The address of the pool that started this one; empty at the root."""
    above: tuple[str, ...] = ()
    """The addresses of the pools above, the root first."""
    nursery: int = 0
    """Which of the parent's nurseries this pool belongs to."""
    labels: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Where the pool can be reached."""
        return f"unix://{self.directory}/{self.pool_id}.sock"


Wish: TypeAlias = Literal["", "actor", "pool"]
"""Whose end was wanted, if an actor's end was no surprise: its own, or that of its pool."""


class Listening(Protocol):
    """What a nursery wants to hear."""

    def happened(self, event: Event) -> None:
        """Something happened."""

    def unreachable(self, address: str) -> None:
        """The connection to a pool was lost, and its process has not ended."""

    def actor_ended(
        self, event: ActorExited, unclaimed: BaseException | None, token: str, wish: Wish
    ) -> None:
        """An actor of this nursery's ended; ``unclaimed`` is an exception that nobody has waited for.

        ``token`` says by which creation it had come to be, ``wish`` whether somebody wanted its end.
        """

    def interrupted(self, exc: BaseException) -> None:
        """Something in this process wants it to end."""
