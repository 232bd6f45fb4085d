"""What happens in a tree, as values: what :meth:`PoolNursery.events` yields, and what a monitor tells."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

ExitKind: TypeAlias = Literal["normal", "failed", "killed", "cancelled"]


class Exit(msgspec.Struct, frozen=True):
    """How an actor or a pool ended."""

    kind: ExitKind
    exit_code: int | None = None
    """What the process exited with; None for an actor, or if a signal ended the process."""
    signal: int | None = None
    """The signal that ended the process."""
    error: BaseException | None = None
    """What it failed with."""


class Event(msgspec.Struct, frozen=True):
    """The base of all events."""


class PoolStarted(Event, frozen=True):
    """A pool is ready."""

    pool: str
    pid: int
    address: str


class PoolExited(Event, frozen=True):
    """A pool's process has ended, and been reaped."""

    pool: str
    pid: int
    exit: Exit


class ActorCreated(Event, frozen=True):
    """An actor is ready."""

    uid: str
    pool: str


class ActorExited(Event, frozen=True):
    """An actor has ended, its hooks included."""

    uid: str
    pool: str
    exit: Exit


class CancelUnconfirmed(Event, frozen=True):
    """A call was cancelled, and its callee did not end in time; the caller has left all the same."""

    uid: str
    method: str
    address: str
    seconds: float
    """How long the caller waited."""


class MessageDropped(Event, frozen=True):
    """Messages that nobody waits for were not executed."""

    uid: str
    method: str
    reason: str
    count: int = 1
    """How many: the first is told at once, and those that follow it within a tenth of a second are told as one."""


class DeadLetter(Event, frozen=True):
    """A durable tell has failed too often, or cannot be read any more: it was put aside."""

    uid: str
    method: str
    id: str
    """What it is known by; see :func:`xoscar_sc.current_delivery`."""
    reason: str
    attempts: int


class SnapshotFailed(Event, frozen=True):
    """An actor's snapshot was not taken; the one before remains, and the actor goes on."""

    uid: str
    reason: str


class SnapshotDamaged(Event, frozen=True):
    """A snapshot cannot be read any more: an actor goes back to the one before."""

    uid: str
    reason: str


class ConnectionRefused(Event, frozen=True):
    """Somebody knocked and was not let in, or sent what no peer of ours sends."""

    address: str
    reason: str


class Restarting(Event, frozen=True):
    """A supervisor starts a child again."""

    child: str
    after: float
    """Seconds of back-off."""


class Restarted(Event, frozen=True):
    """An actor that had ended is there again; a monitor tells of it that was asked to."""

    uid: str
    incarnation: int
    """How often the actor has been started by now."""
    exit: Exit
    """How the one before has ended."""


class GaveUp(Event, frozen=True):
    """A supervisor has restarted too often."""

    supervisor: str
    reason: str


class HeartbeatLost(Event, frozen=True):
    """A pool's process lives, and does not show it."""

    pool: str
    missing: Literal["thread", "loop", "both"]
    """What shows no sign of life: a thread that does nothing else, the event loop, or neither does."""
    state: Literal["stopped", "running", "waiting", "unknown"] = "unknown"
    """What the system says of the process: stopped by a signal, on a CPU, or waiting for something."""
