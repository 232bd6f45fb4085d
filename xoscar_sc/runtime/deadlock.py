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

import enum
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

import anyio

from xoscar_sc.errors import ConnectionLost, DeadlockError, PoolDied
from xoscar_sc.protocol import Link

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell
    from xoscar_sc.runtime.current import Frame
    from xoscar_sc.runtime.runtime import Runtime
    from xoscar_sc.runtime.work import Work

ROOM = "<room>"
"""What stands for a method where somebody waits for room in a mailbox."""
_FAR = 100
"""Steps after which a way is given up."""
_REMEMBERED = 100
"""Searches of which a pool remembers where they have been."""


class Kind(enum.IntEnum):
    """What somebody waits for at an actor."""

    CALL = 0
    """A call of its own."""
    STREAM = 1
    """A stream, which may have ended: then there is nothing where this way leads to."""
    END = 2
    """The end of the actor, and so of all that it runs."""
    ROOM = 3
    """Room in the actor's mailbox, which comes when the message that has the lock has run."""


class Way(NamedTuple):
    """What somebody waits for: what, and at which actor."""

    address: str
    uid: str
    kind: Kind = Kind.CALL


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
        self._tells: dict[int, Callable[[DeadlockError], None]] = {}
        """What refuses a tell that waits for room, by the number of its search."""

    def blocked(self, work: Work) -> None:
        """A call has to wait for its actor's lock, or has to have it back."""
        holder = work.cell.mailbox.holder
        if holder is not None and holder.ways:
            self._follow(self._chase(work), holder)

    def ending(self, work: Work, cell: Cell) -> None:
        """The pool has been asked to end an actor, which waits for what the actor runs."""
        chase = self._chase(work)._replace(trail=((cell.uid, "destroy", work.token),))
        self._visit(chase, cell, _link(work), Kind.END)

    async def wait_room(self, frame: Frame, way: Way, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait for room in a mailbox, unless what makes room waits for ``frame``.

        Raises:
            DeadlockError: it does.
        """
        runtime = self._runtime
        number = runtime.serial()
        refusals: list[DeadlockError] = []
        frame.wait_for(way)
        try:
            with anyio.CancelScope() as scope:

                def refuse(exc: DeadlockError) -> None:
                    refusals.append(exc)
                    scope.cancel()

                self._tells[number] = refuse
                trail = ((way.uid, ROOM, number),)
                self._go(Chase(runtime.address, "", number, number, frame.links(), trail), frame, way)
                await wait()
        finally:
            del self._tells[number]
            frame.waited(way)
        if refusals and scope.cancelled_caught:
            raise refusals[0]

    def _chase(self, work: Work) -> Chase:
        runtime = self._runtime
        uid, token, chain = work.cell.uid, work.token, work.chain
        return Chase(runtime.address, uid, token, runtime.serial(), chain, (_link(work),))

    def visit(self, chase: Chase, uid: str, caller: Link, kind: Kind) -> None:
        """Go on where a way leads to: at an actor of this pool, for which ``caller`` waits."""
        cell = self._runtime.find_cell(uid)
        if cell is not None:
            self._visit(chase, cell, caller, kind)

    def _visit(self, chase: Chase, cell: Cell, caller: Link, kind: Kind) -> None:
        mailbox = cell.mailbox
        holder = mailbox.holder
        if kind == Kind.ROOM:
            if holder is not None:
                self._reach(chase, holder)
            return
        everything = kind == Kind.END
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
        for way in dict.fromkeys(work.ways or ()):
            self._go(chase, work, way)

    def _go(self, chase: Chase, frame: Frame, way: Way) -> None:
        """Go one way of a frame that waits."""
        address, uid, kind = way
        caller = frame.links()[-1]
        if address == self._runtime.address:
            self.visit(chase, uid, caller, kind)
        elif self._runtime.peers.is_near(address):  # the calls of another program are its own affair
            self._runtime.loop.spawn(self._order, address, "chase", chase, uid, caller, kind)

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
        """A call or a tell of this pool waits for itself: it is refused, if it still waits."""
        way = " -> ".join(
            f"room in the full mailbox of {uid!r}" if method == ROOM else f"{uid}.{method}()"
            for uid, method in cycle
        )
        exc = DeadlockError(f"{way} would wait for itself: each of these waits for the next", cycle=cycle)
        if not uid and token in self._tells:
            self._tells[token](exc)
            return
        cell = self._runtime.find_cell(uid)
        if cell is None:
            return
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
