"""What a store is asked for, by whoever keeps an actor's state in it.

A store is a value, which says where things are; a connection does the work. It blocks, and is used by one thread at a
time. What is written is a list of steps, all of which are taken or none: a snapshot and the number of the last
message that is in it cannot come apart.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol, TypeAlias


class Row(NamedTuple):
    """A message of an actor's journal."""

    number: int
    """Its place: 1 and up, with gaps."""
    method: str
    mark: str
    """The name that its sender has given it; empty if it has none."""
    body: bytes
    attempts: int = 0
    """How often it has failed."""


class Aside(NamedTuple):
    """A message that has been put aside: it is not delivered any more."""

    row: Row
    reason: str


class Past(NamedTuple):
    """What a store knows of an actor that begins."""

    state: bytes | None
    """The newest snapshot that is sound; None if there has been none."""
    number: int
    """The last message that is in that state; 0 for none."""
    last: int
    """No message has a higher number."""
    rows: tuple[Row, ...]
    """Messages that are not in the state, in order."""
    damaged: tuple[str, ...]
    """The snapshots that were passed over, each with what is wrong with it."""
    aside: tuple[Aside, ...]
    """Messages that have been put aside just now."""
    careful: bool
    """The last time, its process died before the messages had run again: see :class:`Begin`."""


# What is written


class Record(NamedTuple):
    """A message has come. If its mark is one that the journal remembers, it is not recorded again."""

    uid: str
    number: int
    method: str
    mark: str
    body: bytes


class Remove(NamedTuple):
    """A message has run, and nothing else is to be remembered of it."""

    uid: str
    number: int


class Blame(NamedTuple):
    """A message has failed, so often; ``aside``: it is put aside."""

    uid: str
    number: int
    attempts: int
    reason: str
    aside: bool


class Begin(NamedTuple):
    """A message runs again now: if the process dies, it is to blame. Those before it have run well."""

    uid: str
    number: int


class CaughtUp(NamedTuple):
    """All that had been there has run again, or its actor has ended, and its process has not died of it."""

    uid: str


class Save(NamedTuple):
    """A snapshot, in which all messages up to ``number`` are."""

    uid: str
    number: int
    state: bytes
    keep: int
    """Snapshots that remain, this one included; messages that are in the oldest of them are removed."""


Write: TypeAlias = Record | Remove | Blame | Begin | CaughtUp | Save


class Connection(Protocol):
    """A way to what a store holds. Its methods block, and are called by one thread at a time, not always the same.

    All raise :exc:`~xoscar_sc.errors.StateError` where what they are asked for cannot be done; nothing of it has been
    done then.
    """

    def open(self, uid: str, retries: int) -> Past:
        """Take an actor over: nobody else has it until :meth:`release`, or until this process ends.

        It does not wait for whoever has it: others write meanwhile.

        Args:
            uid: which.
            retries: how often a message may fail that is delivered again; see :class:`Past`.

        Raises:
            StateLocked: somebody else has it.
            StateDamaged: nothing sound is left of it.
        """

    def release(self, uid: str) -> None:
        """The actor has ended."""

    def write(self, writes: Sequence[Write]) -> list[bool]:
        """Take all of these steps, or none; they last when it returns.

        For each, False if it was a :class:`Record` of a message that is known, and True otherwise.
        """

    def aside(self, uid: str) -> list[Aside]:
        """The messages of an actor that have been put aside, oldest first."""

    def close(self) -> None:
        """No more."""


class Store(Hashable, Protocol):
    """Where the state of actors is kept. A value: it is compared, hashed, pickled, and used in the actor's pool.

    Actors of one pool whose stores are equal share a connection, and what they write goes together.
    """

    def connect(self) -> Connection:
        """Open it; may block.

        Raises:
            StateError: it cannot be opened.
        """
