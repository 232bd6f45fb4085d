"""What a user says about the state of an actor: where it is kept, how often, how safely."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import anyio

from xoscar_sc.events import DeadLetter

if TYPE_CHECKING:
    from xoscar_sc.state.store import Aside, Connection, Store

Fsync: TypeAlias = Literal["always", "snapshot", "never"]
LONGEST = 1024
"""Characters of a path."""


@dataclass(frozen=True, slots=True)
class SQLiteStore:
    """A file of SQLite's, in which any number of actors, of any number of pools, keep their state."""

    path: str
    """Absolute."""
    fsync: Fsync = "always"
    wait: float = 5.0
    """Seconds to wait for others who hold the file."""

    def connect(self) -> Connection:
        """See :class:`Store`."""
        # SQLite is loaded where it is used.
        from xoscar_sc.state.sqlite import SQLiteConnection

        return SQLiteConnection(self.path, self.fsync, self.wait)


@dataclass(frozen=True, slots=True, init=False)
class Snapshots:
    """Keep an actor's state where it outlives the actor's process: ``create_actor(..., snapshot=Snapshots(path))``.

    An actor that has ``__snapshot__`` and ``__restore__`` is brought back to the state of its newest snapshot
    whenever it is created under its uid: by a supervisor, or by the next run of the program. Both hooks may be sync or
    async. ``__snapshot__`` gives the state, which is pickled before the next message runs; ``__restore__`` gets it,
    after ``__init__`` and before ``__post_create__``. An actor that has neither can be told things durably all the
    same: ``await ref.method.tell.durable(...)``.

    A snapshot is taken between two messages, and when the actor ends normally, after its last message and before
    ``__pre_destroy__``. One that fails is the event :class:`~xoscar_sc.events.SnapshotFailed`; the last one is the
    error of the nursery.

    Args:
        path: a file, made if it is not there; or a :class:`Store`.
        every: messages from one snapshot to the next; None for no such limit.
        every_seconds: seconds from a message that may have changed something to the snapshot that has it.
        keep: snapshots that are kept. If the newest is damaged, the one before is taken, and all that has been told
            durably since then is done again.
        fsync: when the disk is waited for. ``"always"``: before a durable tell is acknowledged, and for each snapshot;
            what was acknowledged survives a loss of power. ``"snapshot"``: for snapshots only; ``"never"``: the system
            writes when it likes. Under all three, what was acknowledged survives any end of the process. After a loss
            of power, ``"never"`` may leave a file that cannot be read.
        retries: how often a durable tell that fails is delivered again before it is put aside.
        wait: seconds to wait for another program that holds the file, or the actor in it.
    """

    store: Store
    every: int | None
    every_seconds: float | None
    keep: int
    retries: int
    wait: float

    def __init__(
        self,
        path: str | os.PathLike[str] | Store,
        *,
        every: int | None = 100,
        every_seconds: float | None = None,
        keep: int = 2,
        fsync: Fsync = "always",
        retries: int = 3,
        wait: float = 5.0,
    ) -> None:
        _check_number(every, "every", 1, optional=True)
        _check_number(keep, "keep", 1)
        _check_number(retries, "retries", 0)
        _check_seconds(every_seconds, "every_seconds", optional=True)
        _check_seconds(wait, "wait")
        if fsync not in get_args(Fsync):
            raise ValueError(f"fsync= is {fsync!r}; it is one of {get_args(Fsync)}")
        if isinstance(path, (str, os.PathLike)):
            store: Store = SQLiteStore(_absolute(path), fsync, float(wait))
        elif callable(getattr(path, "connect", None)):
            store = path
        else:
            raise TypeError(f"{path!r} is neither a path nor a store, which has connect()")
        for name, value in (
            ("store", store),
            ("every", every),
            ("every_seconds", every_seconds),
            ("keep", keep),
            ("retries", retries),
            ("wait", float(wait)),
        ):
            object.__setattr__(self, name, value)

    async def dead_letters(self, uid: str) -> list[DeadLetter]:
        """The durable tells to an actor that have been put aside, oldest first.

        Raises:
            StateError: the store cannot be read.

        Cancellation: as soon as the store has answered.
        """
        found = await anyio.to_thread.run_sync(partial(_read_aside, self.store, uid))
        return [dead_letter(uid, each) for each in found]


def dead_letter(uid: str, aside: Aside) -> DeadLetter:
    """A message that was put aside, as an event."""
    row = aside.row
    return DeadLetter(uid, row.method, name_of(uid, row.number, row.mark), aside.reason, row.attempts)


def name_of(uid: str, number: int, mark: str) -> str:
    """What a durable tell is known by: its sender's name for it, or one that is made up, the same each time."""
    return mark or f"{uid}#{number}"


def _read_aside(store: Store, uid: str) -> list[Aside]:
    connection = store.connect()
    try:
        return connection.aside(uid)
    finally:
        connection.close()


def _absolute(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if not text or "\0" in text or len(text) > LONGEST:
        raise ValueError(f"{text[:LONGEST]!r} is no path of a file")
    if text == ":memory:" or text.startswith("file:"):
        raise ValueError(f"{text!r} is no file, so nothing in it would outlive the process")
    # A pool may be in another directory.
    return str(Path(text).absolute())


def _check_number(value: object, what: str, least: int, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what}= is {value!r}; it is a number")
    if value < least:
        raise ValueError(f"{what}= is {value}; it is {least} or more")


def _check_seconds(value: object, what: str, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what}= is {value!r}; it is a number of seconds")
    if not 0 <= value < math.inf or (optional and not value):
        raise ValueError(f"{what}= is {value!r}; it is a positive number of seconds")
