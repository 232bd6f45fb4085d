"""What a supervisor is told of a child, and of itself; and what an end means by that. Pure values and functions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from xoscar_sc.events import ExitKind
from xoscar_sc.supervise.backoff import Backoff
from xoscar_sc.supervise.intensity import Intensity
from xoscar_sc.supervise.spec import check_seconds
from xoscar_sc.supervise.strategy import RestartStrategy

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
OnRestart: TypeAlias = Literal["wait", "raise"]
Queued: TypeAlias = Literal["keep", "fail"]
OnHeartbeatLost: TypeAlias = Literal["report", "restart"]


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one child is treated.

    Raises:
        TypeError, ValueError: what is wrong with it.
    """

    restart: Restart = "permanent"
    """When it comes back: always, after a failure, never."""
    significant: bool = False
    """Its normal end counts for ``auto_shutdown``."""
    shutdown: float | Literal["kill"] | None = None
    """Seconds from asking it to end until it is killed; ``math.inf`` waits for ever, ``"kill"`` asks nothing, None is
    the supervisor's."""
    backoff: Backoff | None = None
    """None: at once; only if a start fails, the next ones are after 0.05 s, 0.1 s and so on, up to 5."""
    on_restart: OnRestart = "wait"
    """What becomes of a call while it is being restarted: it waits, or raises :exc:`ActorUnavailable`."""
    queued: Queued = "keep"
    """What becomes of the messages that wait in its mailbox when it ends: they wait for the next one, or fail."""

    def __post_init__(self) -> None:
        check_one_of(self.restart, Restart, "restart")
        check_one_of(self.on_restart, OnRestart, "on_restart")
        check_one_of(self.queued, Queued, "queued")
        if not isinstance(self.significant, bool):
            raise TypeError(f"significant= is {self.significant!r}; it is True or False")
        if self.significant and self.restart == "permanent":
            raise ValueError("significant= goes with transient and temporary: a permanent child has no end")
        given: object = self.backoff
        if given is not None and not isinstance(given, Backoff):
            raise TypeError(f"backoff= is {given!r}; it is a Backoff")
        if isinstance(self.shutdown, str):
            if self.shutdown != "kill":
                raise ValueError(f"shutdown= is {self.shutdown!r}; it is a number of seconds, or 'kill'")
        elif self.shutdown is not None:
            check_seconds(self.shutdown, "shutdown")

    def grace(self, default: float) -> float:
        """Seconds from asking it to end until it is killed."""
        if self.shutdown is None:
            return default
        return 0.0 if isinstance(self.shutdown, str) else self.shutdown


@dataclass(frozen=True, slots=True)
class Supervision:
    """How a supervisor treats its children: ``open_pool_nursery(supervise=Supervision(...))``.

    Raises:
        TypeError, ValueError: what is wrong with it.
    """

    strategy: RestartStrategy = "one_for_one"
    """Who is restarted with a child that has failed: nobody else, all others, those started after it."""
    intensity: int = 3
    """Restarts admitted within ``period``; one more, and the supervisor gives up."""
    period: float = 5.0
    """In seconds."""
    auto_shutdown: AutoShutdown = "never"
    """Which normal ends of significant children end the supervisor."""
    heartbeat: float | None = None
    """Seconds for which a pool may show no sign of life; None looks for none."""
    on_heartbeat_lost: OnHeartbeatLost = "report"
    """Whether a pool that shows no sign of life is only told of, or killed and restarted."""

    def __post_init__(self) -> None:
        check_one_of(self.strategy, RestartStrategy, "strategy")
        check_one_of(self.auto_shutdown, AutoShutdown, "auto_shutdown")
        check_one_of(self.on_heartbeat_lost, OnHeartbeatLost, "on_heartbeat_lost")
        self.admission()
        check_heartbeat(self.heartbeat)

    def admission(self) -> Intensity:
        """Its intensity and period, as a rule."""
        return Intensity(self.intensity, self.period)


def check_heartbeat(seconds: object) -> None:
    """A heartbeat has some time between two beats."""
    if seconds is None:
        return
    check_seconds(seconds, "heartbeat")
    if not seconds or seconds == math.inf:
        raise ValueError(f"heartbeat= is {seconds!r}; it is a number of seconds, or None")


def check_one_of(given: object, known: object, what: str) -> None:
    """One of a few words."""
    words = get_args(known)
    if given not in words:
        raise ValueError(f"{what}= is {given!r}; it is one of {', '.join(words)}")


def comes_back(restart: Restart, kind: ExitKind) -> bool:
    """Whether a child that has ended is to be started again."""
    return restart == "permanent" or (restart == "transient" and kind != "normal")


def ends_all(auto_shutdown: AutoShutdown, *, significant: bool, left: Iterable[bool]) -> bool:
    """Whether the end of a child, which does not come back, ends its supervisor.

    Args:
        auto_shutdown: the supervisor's.
        significant: whether that child was.
        left: of each of its siblings that has not ended, whether it is.
    """
    if auto_shutdown == "never" or not significant:
        return False
    return auto_shutdown == "any_significant" or not any(left)
