"""What the turns of one worker share on trio."""

from __future__ import annotations

import math

import trio


class WorkerScope:
    """A worker's cancel scope, as the turns see it; it knows whether one of them has touched it."""

    __slots__ = ("_scope", "touched")

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self.touched = False

    @property
    def deadline(self) -> float:
        return self._scope.deadline

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self.touched = True
        self._scope.deadline = deadline

    @property
    def cancel_called(self) -> bool:
        return self._scope.cancel_called

    def cancel(self) -> None:
        self.touched = True
        self._scope.cancel()

    def used(self) -> bool:
        """Whether it is of no use to the next turn; if not, the next turn finds it as new."""
        if self._scope.cancel_called:
            return True
        self._scope.deadline = math.inf
        self.touched = False
        return False
