"""What takes messages for the actors of a pool that have ended and may be started again here.

An heir is the cell of an actor that is never made: what comes for the next incarnation waits in its mailbox, in order,
within the mailbox's bounds. When the supervisor has started the actor in the same pool, and it is ready, it gets them;
when it is started elsewhere, or not at all, the supervisor tells the pool, and the messages are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xoscar_sc.runtime.lasting import Gone
from xoscar_sc.runtime.traits import FIRST_CHILD

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell
    from xoscar_sc.runtime.runtime import Runtime


_UNBORN = FIRST_CHILD - 1
"""The incarnation of an actor that is being made: no message is for it yet."""


class Heirs:
    """Those of one pool."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._cells: dict[str, Cell] = {}

    def find(self, uid: str, incarnation: int) -> Cell | None:
        """The heir of an actor, if it is what a message is for."""
        cell = self._cells.get(uid)
        return cell if cell is not None and incarnation in (0, cell.incarnation) else None

    def make(self, cell: Cell) -> Cell | None:
        """One for an actor that is about to end; None if nobody restarts it here, or its callers are not to wait."""
        traits, runtime = cell.traits, self._runtime
        if not (traits.child and traits.waits) or runtime.stopping.filled or runtime.closed:
            return None
        heir = self._cells.get(cell.uid)
        if heir is None or heir.incarnation != traits.child:
            heir = self._new(cell.uid, traits.child, cell)
        return heir

    def _new(self, uid: str, child: int, cell: Cell) -> Cell:
        from xoscar_sc.runtime.cell import Cell

        heir = self._cells[uid] = Cell(self._runtime, cell.cls, uid, child, cell.owner, cell.traits)
        return heir

    def await_birth(self, cell: Cell) -> None:
        """An actor is about to be made; up to its birth messages still go to the heir, if there is one."""
        heir = self._cells.get(cell.uid)
        if heir is None:
            return
        if heir.incarnation != cell.incarnation:
            del self._cells[cell.uid]
            self._refuse_all(heir)
            return
        cell.adopted = True
        cell.incarnation = _UNBORN

    def hand_over(self, cell: Cell) -> None:
        """An actor is ready: what has come for it is its own from now on."""
        if cell.incarnation != _UNBORN:
            return
        cell.incarnation = cell.traits.child
        heir = self._cells.pop(cell.uid, None)
        if heir is not None:
            heir.end_unborn()
            heir.heir = cell  # for those who wait for room
            for work in heir.mailbox.clear():
                work.pass_on(cell)
            heir.let_senders_go()

    def disown(self, uid: str, child: int) -> None:
        """The child is not started again in this pool."""
        heir = self.find(uid, child)
        if heir is not None:
            del self._cells[uid]
            self._refuse_all(heir)

    def clear(self) -> None:
        """None is started again here."""
        heirs, self._cells = self._cells, {}
        for heir in heirs.values():
            self._refuse_all(heir)

    @staticmethod
    def _refuse_all(heir: Cell) -> None:
        heir.end_unborn()
        for work in heir.mailbox.clear():
            work.refuse(Gone(heir.uid, heir.incarnation))
            work.executed()
        heir.let_senders_go()

    def __len__(self) -> int:
        return len(self._cells)
