"""The messages that only a kept actor has: a durable tell, and the taking of a snapshot."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from xoscar_sc.runtime.current import current_frame
from xoscar_sc.runtime.work import Arguments
from xoscar_sc.runtime.work_local import LocalWork
from xoscar_sc.serialize import loads_call
from xoscar_sc.state import Row, name_of

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell
    from xoscar_sc.runtime.kept import KeptCell


class Delivery(NamedTuple):
    """A durable tell, as the method sees it that it is for."""

    id: str
    """Its teller's name for it, or one that is made up; the same each time it is delivered."""
    redelivered: bool
    """It was there when the actor was created: it may have run before, with effects outside of the actor."""
    attempts: int
    """How often it has failed."""


class DurableWork(LocalWork):
    """A durable tell, from the journal."""

    __slots__ = ("again", "careful", "kept", "row")

    def __init__(self, cell: KeptCell, row: Row, calls: Arguments | None, *, careful: bool = False) -> None:
        super().__init__(cell, row.method, calls, None, (), None, batch=False)
        self.kept = cell
        self.row = row
        self.again = calls is None
        """It was there when the actor was created."""
        self.careful = careful
        """Before it runs, it is written down that it does."""

    def delivery(self) -> Delivery:
        """What its method may know of it."""
        row = self.row
        return Delivery(name_of(self.cell.uid, row.number, row.mark), self.again, row.attempts)

    def arguments(self) -> Arguments:
        return loads_call(self.row.body) if self.again else super().arguments()

    def _begin(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        return self._begin_carefully() if self.careful else super()._begin(cell)

    async def _begin_carefully(self) -> None:
        rest: Coroutine[Any, Any, None] | None = None
        try:
            await self.kept.begins(self.row)
            rest = super()._begin(self.cell)
        except BaseException as exc:  # of the user's method, or a cancellation
            if isinstance(exc, self.cell.runtime.loop.cancelled):
                self._cancelled(exc)
            else:
                self._raised(exc)
        finally:
            if rest is None:
                self.scope = None  # the next turn's now
                self.cell.finished(self)
        if rest is not None:
            await rest

    def answer_value(self, value: object) -> None:
        self.kept.applied(self)

    def answer_error(self, exc: BaseException) -> None:
        self.kept.durable_failed(self, exc)

    def pass_on(self, heir: Cell) -> None:
        # The next incarnation has it from the journal.
        self.refuse(self.cell.died(maybe_executed=False))
        self.executed()

    def not_executed(self, exc: Exception) -> None:
        if not self.answered:
            self._never_runs()
            self.kept.put_aside(self, exc)


class SnapshotWork(LocalWork):
    """The taking of a snapshot, which is a message: nothing else runs meanwhile, and errors have their place."""

    __slots__ = ("kept",)

    def __init__(self, cell: KeptCell) -> None:
        super().__init__(cell, "__snapshot__", ((), {}), None, (), None, batch=False)
        self.kept = cell

    def _begin(self, cell: Cell) -> Coroutine[Any, Any, None]:
        return self._finish(self.kept.take())

    def answer_value(self, value: object) -> None:
        pass

    def answer_error(self, exc: BaseException) -> None:
        if not (self.cell.ending or self.cell.abandoned):
            self.kept.snapshot_failed(exc)

    def pass_on(self, heir: Cell) -> None:
        # It was to be of a state that is gone.
        self.refuse(self.cell.died(maybe_executed=False))
        self.executed()

    def not_executed(self, exc: Exception) -> None:
        self.answer_error(exc)


def current_delivery() -> Delivery | None:
    """The durable tell that is running; None if what is running is anything else."""
    frame = current_frame.get()
    return frame.delivery() if isinstance(frame, DurableWork) else None


def check_snapshot(cls: type, uid: str | None, snapshot: object) -> None:
    """Raise :exc:`TypeError` or :exc:`ValueError` if an actor's state cannot be kept like that."""
    from xoscar_sc.runtime.actor import Actor
    from xoscar_sc.state import Snapshots

    if not isinstance(snapshot, Snapshots):
        raise TypeError(f"snapshot= is {snapshot!r}; it is xsc.Snapshots(path)")
    if not issubclass(cls, Actor):
        raise TypeError(f"{cls.__name__} is a StatelessActor: it has no state that snapshot= could keep")
    if uid is None:
        raise ValueError("snapshot= goes with uid=: under that name the state is found again")
    takes_snapshots(cls)


def takes_snapshots(cls: type) -> bool:
    """Whether a class has the hooks of snapshots.

    Raises:
        TypeError: it has one of them.
    """
    takes, restores = hasattr(cls, "__snapshot__"), hasattr(cls, "__restore__")
    if takes is not restores:
        has, lacks = ("__snapshot__", "__restore__") if takes else ("__restore__", "__snapshot__")
        raise TypeError(f"{cls.__name__} has {has}() and no {lacks}(): one is of no use without the other")
    return takes
