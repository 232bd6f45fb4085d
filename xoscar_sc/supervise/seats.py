"""Who is in a pool: one seat for each actor, and for each function that runs.

A seat is taken in the step that chooses the pool, so that the next to choose sees it, and is given back when what has
it is gone. Seats belong to one pool and end with it: whoever has another at the same address has another seat.
"""

from __future__ import annotations


class Seats:
    """The seats of one pool, as many as are asked for.

    Args:
        pool: the pool's name.
        address: where it is reached.
    """

    def __init__(self, pool: str, address: str) -> None:
        self.pool = pool
        self.address = address
        self.closed = False
        """The pool has ended."""
        self._taken: set[Seat] = set()

    def __len__(self) -> int:
        return len(self._taken)

    @property
    def marks(self) -> frozenset[str]:
        """The marks of the seats that are taken."""
        return frozenset(seat.mark for seat in self._taken if seat.mark is not None)

    def take(self, mark: str | None = None) -> Seat:
        """A seat; in a pool that has ended it does not count."""
        seat = Seat(self, mark)
        if not self.closed:
            self._taken.add(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Give a seat back."""
        self._taken.discard(seat)

    def close(self) -> None:
        """The pool has ended: nobody is in it any more."""
        self.closed = True
        self._taken.clear()


class Seat:
    """A place in a pool, until it is left.

    Attributes:
        seats: the pool's.
        mark: what a strategy wanted it to be known by.
    """

    __slots__ = ("mark", "seats")

    def __init__(self, seats: Seats, mark: str | None) -> None:
        self.seats = seats
        self.mark = mark

    @property
    def address(self) -> str:
        """Of the pool."""
        return self.seats.address

    def leave(self) -> None:
        """Give it back; again, it does nothing."""
        self.seats.leave(self)
