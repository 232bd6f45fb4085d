"""Where a new actor goes: allocation strategies.

A strategy is a value with one pure method: it sees the pools as they are, and gives the one to use. One of your own
needs nothing but that method. Whatever is random or counted comes with the request, so that the same question always
gets the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from xoscar_sc.errors import NoIdleSlot, PoolNotExist


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool, as a strategy sees it."""

    name: str
    address: str
    labels: tuple[str, ...] = ()
    load: int = 0
    """Actors, those that are being made included, and functions that are running."""
    main: bool = False
    """The nursery's own process."""
    marks: frozenset[str] = frozenset()
    """Of the strategies by which the actors that live there, or are being made, were placed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be placed."""

    serial: int = 0
    """How many requests this nursery has had before."""
    draw: float = 0.0
    """A random number, 0 or more and less than 1."""


class Strategy(Protocol):
    """Chooses a pool.

    A strategy may have an attribute ``mark``, a text or None. The pool that it chooses has it among its
    :attr:`PoolView.marks` from that moment until the actor has ended, or has not come to be.
    """

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """The pool to use, one of ``pools``.

        Args:
            pools: the nursery's own process first, then its pools, oldest first. None of them has
                ended, or has been asked to.
            request: what is to be placed.

        Raises:
            NoIdleSlot: none of them will do.
        """


def _subs(pools: Sequence[PoolView]) -> Sequence[PoolView]:
    """The pools that are processes of their own; the main one if there are no others."""
    return [pool for pool in pools if not pool.main] or pools


def _drawn(pools: Sequence[PoolView], request: Request) -> PoolView:
    return pools[int(request.draw * len(pools))]


@dataclass(frozen=True, slots=True)
class LeastLoaded:
    """The pool with the fewest actors; the oldest of several."""

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        return min(_subs(pools), key=lambda pool: pool.load)


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """One pool after the other."""

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        subs = _subs(pools)
        return subs[request.serial % len(subs)]


@dataclass(frozen=True, slots=True)
class Random:
    """Any pool, the main one included."""

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        return _drawn(pools, request)


@dataclass(frozen=True, slots=True)
class RandomSubPool:
    """Any pool but the main one."""

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        return _drawn(_subs(pools), request)


@dataclass(frozen=True, slots=True)
class MainPool:
    """The nursery's own process."""

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        return _matching(pools, lambda pool: pool.main, "is the main one")


@dataclass(frozen=True, slots=True)
class ProcessIndex:
    """The pool of this index: 0 is the main one, and 1 the oldest of the others."""

    index: int

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        if not 0 <= self.index < len(pools):
            raise NoIdleSlot(
                f"there is no pool of index {self.index}: there are {len(pools)}, the main one included"
            )
        return pools[self.index]


@dataclass(frozen=True, slots=True)
class RandomLabel:
    """Any pool that has the label."""

    label: str

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        labelled = [pool for pool in pools if self.label in pool.labels]
        if not labelled:
            raise NoIdleSlot(f"no pool has the label {self.label!r}")
        return _drawn(labelled, request)


@dataclass(frozen=True, slots=True)
class IdleLabel:
    """A pool with no other actor of this mark: the one with the fewest actors, the oldest of several.

    Args:
        label: which the pool has; None for any pool but the main one.
        mark: what the actors that are to be kept apart have in common; those of other marks, or of none, do not count.

    Raises:
        NoIdleSlot: each of the pools has an actor of this mark.
    """

    label: str | None
    mark: str

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        if self.label is None:
            able = [pool for pool in pools if not pool.main]
        else:
            able = [pool for pool in pools if self.label in pool.labels]
        idle = [pool for pool in able if self.mark not in pool.marks]
        if not idle:
            which = "sub pools" if self.label is None else f"pools with the label {self.label!r}"
            raise NoIdleSlot(f"no idle pool for the mark {self.mark!r}: there are {len(able)} {which}")
        return min(idle, key=lambda pool: pool.load)


@dataclass(frozen=True, slots=True)
class AddressSpecified:
    """The pool at this address.

    Raises:
        PoolNotExist: there is none.
    """

    address: str

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        for pool in pools:
            if pool.address == self.address:
                return pool
        raise PoolNotExist(f"no pool of this nursery is at {self.address}")


@dataclass(frozen=True, slots=True)
class SameAs:
    """The pool that an actor lives in.

    Args:
        ref: a reference to that actor.
    """

    ref: Any = field(repr=False)

    def choose(self, pools: Sequence[PoolView], request: Request) -> PoolView:
        """See :class:`Strategy`."""
        return AddressSpecified(self.ref.address).choose(pools, request)


def _matching(pools: Sequence[PoolView], wanted: Callable[[PoolView], bool], what: str) -> PoolView:
    for pool in pools:
        if wanted(pool):
            return pool
    raise NoIdleSlot(f"no pool {what}")
