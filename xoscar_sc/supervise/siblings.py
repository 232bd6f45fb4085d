"""The children of one supervisor: how far each is, and what is to be done next. Pure: no task, no process, no clock.

A child is in one of these phases::

    UP ─────► DOOMED ──────► STOPPING ──────┬──► DOWN      until somebody restarts it
    │ ended   it will be     its end is     │
    │         stopped        waited for     │ if it is to come back
    │                                       ▼
    └────────────────────────────────────► WAITING ──────► STARTING ──────► UP
              it failed                     until it is     ready
                                  ▲         its turn        │
                                  └─────────────────────────┘ it could not be started

:meth:`Siblings.steps` says what to do now; whoever does it tells of the outcome by the other methods, and asks again.
Under ``one_for_one`` each child goes its own way. Under the other strategies there is an order: while a child is to be
stopped, none is started; they are stopped one after the other from right to left, and started from left to right.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from xoscar_sc.supervise.strategy import STRATEGIES, RestartStrategy, Start, Step, Stop


class Phase(enum.Enum):
    """How far a child is."""

    UP = "up"
    DOOMED = "doomed"
    STOPPING = "stopping"
    WAITING = "waiting"
    STARTING = "starting"
    DOWN = "down"


_RUNS = frozenset({Phase.UP, Phase.STARTING, Phase.DOOMED, Phase.STOPPING})


@dataclass(slots=True)
class _Sibling:
    lasts: bool
    """It comes back when it was stopped because of another; else it is forgotten."""
    phase: Phase = Phase.UP
    due: float = 0.0
    """When it may be started; of one that is WAITING."""
    again: bool = True
    """Whether it is to be started when it has stopped."""


class Siblings:
    """See the top of this file.

    Args:
        strategy: who is restarted with whom.
    """

    def __init__(self, strategy: RestartStrategy) -> None:
        self._decide = STRATEGIES[strategy]
        self._ordered = strategy != "one_for_one"
        self._all: dict[str, _Sibling] = {}

    # What there is

    @property
    def order(self) -> tuple[str, ...]:
        """The children, oldest first."""
        return tuple(self._all)

    def __contains__(self, child: str) -> bool:
        return child in self._all

    def phase(self, child: str) -> Phase:
        """How far a child is."""
        return self._all[child].phase

    def again(self, child: str) -> bool:
        """Whether a child that is being stopped will be started again."""
        return self._all[child].again

    @property
    def settled(self) -> bool:
        """Whether nothing is under way, and nothing is to be done."""
        return all(each.phase in (Phase.UP, Phase.DOWN) for each in self._all.values())

    # What has happened

    def add(self, child: str, *, lasts: bool = True) -> None:
        """A child has been started, the newest."""
        if child in self._all:
            raise ValueError(f"there is a child {child!r} already")
        self._all[child] = _Sibling(lasts)

    def forget(self, child: str) -> None:
        """A child has gone for good."""
        del self._all[child]

    def failed(self, due: Mapping[str, float]) -> None:
        """These have ended, or could not be started, and are to come back when due; who else, the strategy says.

        Of one that was to be stopped anyway that is the end of it.
        """
        children = [child for child in due if not self._was_unwanted(child)]
        for child in children:
            sibling = self._all[child]
            sibling.phase, sibling.due, sibling.again = Phase.WAITING, due[child], True
        taking_part = [child for child, each in self._all.items() if self._takes_part(each)]
        for step in self._decide(taking_part, children):
            if isinstance(step, Stop) and self._all[step.child].phase in (Phase.UP, Phase.STARTING):
                self._doom(step.child, again=self._all[step.child].lasts)

    def _was_unwanted(self, child: str) -> bool:
        phase = self._all[child].phase
        if phase is Phase.DOOMED:
            self.stopped(child)
        return phase in (Phase.DOOMED, Phase.STOPPING)

    @staticmethod
    def _takes_part(sibling: _Sibling) -> bool:
        return sibling.phase is not Phase.DOWN and (sibling.again or sibling.phase is Phase.UP)

    def ended(self, child: str) -> None:
        """A child has ended and does not come back by itself; it is known all the same."""
        if not self._was_unwanted(child):
            self._all[child].phase = Phase.DOWN

    def started(self, child: str) -> None:
        """A start has succeeded. It may have been revoked: then the child is stopped all the same."""
        if self._all[child].phase is Phase.STARTING:
            self._all[child].phase = Phase.UP

    def stopped(self, child: str) -> None:
        """A stop has been carried out."""
        sibling = self._all[child]
        if sibling.again:
            sibling.phase, sibling.due = Phase.WAITING, 0.0
        elif sibling.lasts:
            sibling.phase = Phase.DOWN
        else:
            del self._all[child]

    # What somebody wants

    def terminate(self, child: str) -> None:
        """Stop a child; it stays known, unless it is temporary."""
        sibling = self._all[child]
        if sibling.phase in _RUNS:
            self._doom(child, again=False)
        else:
            sibling.phase = Phase.DOWN

    def restart(self, child: str) -> None:
        """Start a child that is down, or that waits, at once."""
        sibling = self._all[child]
        if sibling.phase in (Phase.DOWN, Phase.WAITING):
            sibling.phase, sibling.due, sibling.again = Phase.WAITING, -math.inf, True

    def _doom(self, child: str, *, again: bool) -> None:
        sibling = self._all[child]
        sibling.again = again
        if sibling.phase is not Phase.STOPPING:
            sibling.phase = Phase.DOOMED

    # What is to be done

    def steps(self, now: float) -> tuple[list[Step], float]:
        """What is to be done now, and at what time to ask again if nothing happens meanwhile."""
        steps: list[Step] = self._stops()
        if self._ordered and any(each.phase in (Phase.DOOMED, Phase.STOPPING) for each in self._all.values()):
            return steps, math.inf
        starts, wake = self._starts(now)
        return [*steps, *starts], wake

    def _stops(self) -> list[Step]:
        if self._ordered and any(each.phase is Phase.STOPPING for each in self._all.values()):
            return []
        doomed = [child for child in reversed(self._all) if self._all[child].phase is Phase.DOOMED]
        if self._ordered:
            del doomed[1:]
        for child in doomed:
            self._all[child].phase = Phase.STOPPING
        return [Stop(child) for child in doomed]

    def _starts(self, now: float) -> tuple[list[Step], float]:
        if self._ordered and any(each.phase is Phase.STARTING for each in self._all.values()):
            return [], math.inf
        steps: list[Step] = []
        wake = math.inf
        for child, sibling in self._all.items():
            if sibling.phase is not Phase.WAITING:
                continue
            if sibling.due <= now:
                sibling.phase = Phase.STARTING
                steps.append(Start(child))
            else:
                wake = min(wake, sibling.due)
            if self._ordered:
                break
        return steps, wake
