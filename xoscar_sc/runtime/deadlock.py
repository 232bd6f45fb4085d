"""Cycles of calls that have met in the middle.

A call knows the chain of calls that wait for it, so a mailbox sees at once when one of them holds its actor's lock.
Two calls that were made apart are on no common chain: A calls B while B calls A, and each waits for the lock that the
other one's caller holds. So when a call has to wait, what its actor's lock waits for is followed, from pool to pool:
the calls of the lock's holder, what they run or wait behind over there, the calls of that, and so on. If the way comes
to a call that waits for the first one, the first one is refused.

A search goes on from each place once, as far as the pools remember: there may be many ways to one place.

Each step is taken only where a holder waits for a call of its own; a busy actor costs nothing. Whichever call comes
last to close a cycle finds all others in their places, whatever pools they are in.

Source: K. M. Chandy, J. Misra, L. M. Haas, "Distributed deadlock detection", ACM TOCS 1 (1983): probes along the edges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xoscar_sc.errors import ConnectionLost, DeadlockError, PoolDied
from xoscar_sc.protocol import Link

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell
    from xoscar_sc.runtime.runtime import Runtime
    from xoscar_sc.runtime.work import Work

_FAR = 100
"""Steps after which a way is given up."""
_REMEMBERED = 100
"""Searches of which a pool remembers where they have been."""


class Way(NamedTuple):
    """What somebody waits for: an actor, and whether it is all that the actor runs, or a call of his."""

    address: str
    uid: str
    all: bool = False
    stream: bool = False
    """It is a stream, which may have ended: then there is nothing where this way leads to."""


class Chase(NamedTuple):
    """A call that has to wait, and the way from it."""

    address: str
    uid: str
    token: int
    """Where it waits: pool, actor, and which it is in that pool."""
    number: int
    """Which search of that pool's this is."""
    chain: tuple[Link, ...]
    """The calls that wait for it."""
    trail: tuple[Link, ...]
    """What it waits for, so far: each for the next."""


class Deadlocks:
    """The part of the search that one pool sees to."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._been: dict[tuple[str, int], set[int]] = {}
        """Where the last few searches have been in this pool."""

    def blocked(self, work: Work) -> None:
        """A call has to wait for its actor's lock, or has to have it back."""
        holder = work.cell.mailbox.holder
        if holder is not None and holder.ways:
            self._follow(self._chase(work), holder)

    def ending(self, work: Work, cell: Cell) -> None:
        """The pool has been asked to end an actor, which waits for what the actor runs."""
        chase = self._chase(work)._replace(trail=((cell.uid, "destroy", work.token),))
        self._visit(chase, cell, _link(work), everything=True)

    def _chase(self, work: Work) -> Chase:
        runtime = self._runtime
        uid, token, chain = work.cell.uid, work.token, work.chain
        return Chase(runtime.address, uid, token, runtime.serial(), chain, (_link(work),))

    def visit(self, chase: Chase, uid: str, caller: Link, *, everything: bool) -> None:
        """Go on where a way leads to: to the calls that ``caller`` has made to an actor of this pool."""
        cell = self._runtime.find_cell(uid)
        if cell is not None:
            self._visit(chase, cell, caller, everything=everything)

    def _visit(self, chase: Chase, cell: Cell, caller: Link, *, everything: bool) -> None:
        mailbox = cell.mailbox
        holder = mailbox.holder
        running = mailbox.running if holder is None else mailbox.running | {holder}
        for work in list(running):
            if everything or work.chain[-1:] == (caller,):
                self._reach(chase, work)
        if holder is not None and not everything:
            for work in list(mailbox.waiting):
                if work.chain[-1:] == (caller,) and not work.answered:
                    self._reach(chase._replace(trail=(*chase.trail, _link(work))), holder)

    def _reach(self, chase: Chase, work: Work) -> None:
        """The way has come to something that runs."""
        own = work.links()[-1:]
        if own and own[0] in chase.chain:
            start = chase.chain.index(own[0])
            cycle = [*chase.chain[start:], *chase.trail, own[0]]
            self._tell(chase, [(uid, method) for uid, method, _ in cycle])
        elif work.cell.mailbox.wants_back(work):
            holder = work.cell.mailbox.holder
            assert holder is not None
            self._reach(chase._replace(trail=(*chase.trail, _link(work))), holder)
        elif work.ways:
            self._follow(chase, work)

    def _follow(self, chase: Chase, work: Work) -> None:
        """Go the ways of something that runs, and waits for calls of its own."""
        link = _link(work)
        own = work.links()[-1:]
        if not own or len(chase.trail) > _FAR or self._has_been(chase, work):
            return
        if link[0]:
            chase = chase._replace(trail=(*chase.trail, link))
        for address, uid, everything, _ in dict.fromkeys(work.ways or ()):
            if address == self._runtime.address:
                self.visit(chase, uid, own[0], everything=everything)
            else:
                self._runtime.loop.spawn(self._order, address, "chase", chase, uid, own[0], everything)

    def _has_been(self, chase: Chase, work: Work) -> bool:
        """Whether a search has come here before."""
        search = chase.address, chase.number
        if search not in self._been and len(self._been) >= _REMEMBERED:
            del self._been[next(iter(self._been))]
        been = self._been.setdefault(search, set())
        found = work.token in been
        been.add(work.token)
        return found

    # The end of the way

    def _tell(self, chase: Chase, cycle: list[tuple[str, str]]) -> None:
        if chase.address == self._runtime.address:
            self.found(chase.uid, chase.token, cycle)
        else:
            self._runtime.loop.spawn(self._order, chase.address, "deadlocked", chase.uid, chase.token, cycle)

    def found(self, uid: str, token: int, cycle: list[tuple[str, str]]) -> None:
        """A call of this pool waits for itself: it is refused, if it still waits."""
        cell = self._runtime.find_cell(uid)
        if cell is None:
            return
        way = " -> ".join(f"{uid}.{method}()" for uid, method in cycle)
        exc = DeadlockError(f"{way} would wait for itself: each of these waits for the next", cycle=cycle)
        mailbox = cell.mailbox
        # What runs by now waits for no lock, unless it has lent it. A pool's control runs what waits for an end.
        running = [work for work in mailbox.running if not uid or mailbox.wants_back(work)]
        for work in [*mailbox.waiting, *running]:
            if work.token == token:
                work.break_off(exc)

    async def _order(self, address: str, method: str, *args: object) -> None:
        try:
            await self._runtime.order(address, method, *args)
        except (ConnectionLost, PoolDied):  # then nothing there waits any more
            pass


def _link(work: Work) -> Link:
    return (work.cell.uid, work.method, work.token)
