"""What takes messages for the actors of a pool that have ended and may be started again here.

An heir is the cell of an actor that has not been made: what comes for the next incarnation waits in its mailbox, in
order, within the mailbox's bounds. When the supervisor starts the actor in the same pool, the cell becomes the actor's;
when it starts it elsewhere, or not at all, it tells the pool, and the messages are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xoscar_sc.runtime.actor import StatelessActor
from xoscar_sc.runtime.lasting import Gone
from xoscar_sc.runtime.methods import intercepts, methods_of
from xoscar_sc.runtime.traits import Traits

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell, Owner
    from xoscar_sc.runtime.runtime import Runtime


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
        heir = self._cells[cell.uid] = type(cell)(
            runtime, cell.cls, cell.uid, traits.child, cell.owner, traits
        )
        return heir

    def adopt(self, cls: type[StatelessActor], uid: str, owner: Owner | None, traits: Traits) -> Cell | None:
        """The heir, as the cell of an actor that is about to be made."""
        heir = self._cells.pop(uid, None)
        if heir is None:
            return None
        if heir.incarnation != traits.child:
            self._refuse_all(heir)
            return None
        heir.cls, heir.methods, heir.intercepts = cls, methods_of(cls), intercepts(cls)
        heir.adopted = True
        heir.owner, heir.traits, heir.age = owner, traits, self._runtime.serial()
        return heir

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
