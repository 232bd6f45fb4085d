"""How the actors of a pool have ended: told to those who watch, and remembered for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from xoscar_sc.events import Exit

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell

REMEMBERED = 1024
"""Ends that a pool remembers."""


class Exits:
    """The ends of one pool's actors, by uid and incarnation; the last few."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Exit] = {}

    def add(self, uid: str, incarnation: int, exit_: Exit) -> None:
        """An actor has ended."""
        self._known[uid, incarnation] = exit_
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def find(self, uid: str, incarnation: int) -> Exit | None:
        """How an actor has ended, the last of that uid if the incarnation is 0; None if it is not known."""
        for known in reversed(self._known):
            if known[0] == uid and incarnation in (0, known[1]):
                return self._known[known]
        return None

    def __len__(self) -> int:
        return len(self._known)


async def wait_exit(cell: Cell) -> Exit:
    """Wait until an actor has ended; how."""
    slot = cell.runtime.loop.slot()
    cell.watchers.append(slot)
    try:
        return cast("Exit", await slot.wait())
    finally:
        cell.watchers.remove(slot)
        cell.check_gone()


def without_cancelled(exc: BaseException, cancelled: type[BaseException]) -> BaseException | None:
    """An exception out of a nursery, as itself if it is the only one; None if all there is is a cancellation."""
    if isinstance(exc, cancelled):
        return None
    if isinstance(exc, BaseExceptionGroup):
        others = exc.split(cancelled)[1]
        if others is not None and len(others.exceptions) == 1:
            return others.exceptions[0]
        return others
    return exc
