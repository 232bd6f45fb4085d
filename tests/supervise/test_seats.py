from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from xoscar_sc.supervise.seats import Seat, Seats


def test_a_seat_is_left_once_however_often_it_is_said() -> None:
    seats = Seats("pool-1", "unix:///1")
    first, second = seats.take(), seats.take()
    assert len(seats) == 2
    first.leave()
    first.leave()
    assert len(seats) == 1
    second.leave()
    assert len(seats) == 0


def test_a_mark_is_held_as_long_as_somebody_has_it() -> None:
    seats = Seats("pool-1", "unix:///1")
    first, second, other = seats.take("store"), seats.take("store"), seats.take()
    assert seats.marks == {"store"}
    first.leave()
    assert seats.marks == {"store"}
    second.leave()
    assert seats.marks == set()
    other.leave()


def test_seats_end_with_their_pool_and_are_not_those_of_the_next_at_its_address() -> None:
    old, new = Seats("pool-1", "unix:///1"), Seats("pool-1", "unix:///1")
    seat = old.take("store")
    old.close()
    new.take()
    late = old.take("store")
    assert (len(old), len(new)) == (0, 1)
    assert old.marks == set()
    seat.leave()
    late.leave()
    assert (len(old), len(new)) == (0, 1)
    assert seat.address == "unix:///1"


class Sitting(RuleBasedStateMachine):
    """Seats are counted, whatever the order in which they are taken and left."""

    seats = Bundle("seats")

    def __init__(self) -> None:
        super().__init__()
        self.pool = Seats("pool-1", "unix:///1")
        self.taken: list[Seat] = []

    @rule(target=seats, mark=st.sampled_from([None, "store", "cache"]))
    def take(self, mark: str | None) -> Seat:
        seat = self.pool.take(mark)
        if not self.pool.closed:
            self.taken.append(seat)
        return seat

    @rule(seat=seats)
    def leave(self, seat: Seat) -> None:
        seat.leave()
        self.taken = [each for each in self.taken if each is not seat]

    @rule()
    def close(self) -> None:
        self.pool.close()
        self.taken = []

    @invariant()
    def counted(self) -> None:
        assert len(self.pool) == len(self.taken)
        assert self.pool.marks == {seat.mark for seat in self.taken} - {None}


TestSitting = Sitting.TestCase
