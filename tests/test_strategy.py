"""Where a new actor goes: pools as they are, in; the pool to use, out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from xoscar_sc.errors import NoIdleSlot, PoolNotExist
from xoscar_sc.strategy import (
    AddressSpecified,
    LeastLoaded,
    MainPool,
    PoolView,
    ProcessIndex,
    Random,
    RandomLabel,
    RandomSubPool,
    Request,
    RoundRobin,
    SameAs,
    Strategy,
)

MAIN = PoolView("root", "unix:///r", labels=("home",), load=0, main=True)
A = PoolView("a", "unix:///a", labels=("cpu",), load=3)
B = PoolView("b", "unix:///b", labels=("gpu", "cpu"), load=1)
C = PoolView("c", "unix:///c", labels=("gpu",), load=1)
ALL = (MAIN, A, B, C)
ALONE = (MAIN,)

FIRST, LAST = Request(draw=0.0), Request(draw=0.9999999999999999)


@pytest.mark.parametrize(
    ("strategy", "pools", "request_", "chosen"),
    [
        # The fewest actors, the oldest of several; the main one only if it is alone.
        (LeastLoaded(), ALL, FIRST, B),
        (LeastLoaded(), (MAIN, A, C, B), FIRST, C),
        (LeastLoaded(), (MAIN, A), FIRST, A),
        (LeastLoaded(), ALONE, FIRST, MAIN),
        # One after the other, the main one left out.
        (RoundRobin(), ALL, Request(serial=0), A),
        (RoundRobin(), ALL, Request(serial=1), B),
        (RoundRobin(), ALL, Request(serial=2), C),
        (RoundRobin(), ALL, Request(serial=3), A),
        (RoundRobin(), ALL, Request(serial=10**12 + 1), C),
        (RoundRobin(), ALONE, Request(serial=5), MAIN),
        # As it is drawn.
        (Random(), ALL, FIRST, MAIN),
        (Random(), ALL, Request(draw=0.25), A),
        (Random(), ALL, Request(draw=0.5), B),
        (Random(), ALL, LAST, C),
        (Random(), ALONE, LAST, MAIN),
        (RandomSubPool(), ALL, FIRST, A),
        (RandomSubPool(), ALL, Request(draw=0.5), B),
        (RandomSubPool(), ALL, LAST, C),
        (RandomSubPool(), ALONE, LAST, MAIN),
        (RandomLabel("gpu"), ALL, FIRST, B),
        (RandomLabel("gpu"), ALL, LAST, C),
        (RandomLabel("cpu"), ALL, Request(draw=0.4), A),
        (RandomLabel("home"), ALL, LAST, MAIN),
        # By name, in one way or another.
        (MainPool(), ALL, FIRST, MAIN),
        (MainPool(), (A, MAIN), FIRST, MAIN),
        (ProcessIndex(0), ALL, FIRST, MAIN),
        (ProcessIndex(1), ALL, FIRST, A),
        (ProcessIndex(3), ALL, FIRST, C),
        (AddressSpecified("unix:///b"), ALL, FIRST, B),
        (AddressSpecified("unix:///r"), ALL, FIRST, MAIN),
        (SameAs(SimpleNamespace(address="unix:///c")), ALL, FIRST, C),
    ],
)
def test_a_strategy_chooses(
    strategy: Strategy, pools: tuple[PoolView, ...], request_: Request, chosen: PoolView
) -> None:
    assert strategy.choose(pools, request_) is chosen
    assert strategy.choose(list(pools), request_) is chosen, "the same question gets the same answer"


@pytest.mark.parametrize(
    ("strategy", "pools", "error", "text"),
    [
        (RandomLabel("tpu"), ALL, NoIdleSlot, "no pool has the label 'tpu'"),
        (RandomLabel("gp"), ALL, NoIdleSlot, "no pool has the label 'gp'"),
        (MainPool(), (A, B), NoIdleSlot, "no pool is the main one"),
        (ProcessIndex(4), ALL, NoIdleSlot, "there is no pool of index 4: there are 4, the main one included"),
        (ProcessIndex(-1), ALL, NoIdleSlot, "there is no pool of index -1"),
        (ProcessIndex(1), ALONE, NoIdleSlot, "there is no pool of index 1: there are 1"),
        (AddressSpecified("unix:///x"), ALL, PoolNotExist, "no pool of this nursery is at unix:///x"),
        (SameAs(SimpleNamespace(address="unix:///x")), ALL, PoolNotExist, "is at unix:///x"),
    ],
)
def test_a_strategy_says_why_none_will_do(
    strategy: Strategy, pools: tuple[PoolView, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as found:
        strategy.choose(pools, FIRST)
    assert text in str(found.value)


def test_round_robin_visits_all_evenly() -> None:
    visited = [RoundRobin().choose(ALL, Request(serial=serial)).name for serial in range(9)]
    assert visited == ["a", "b", "c"] * 3


@pytest.mark.parametrize("strategy", [Random(), RandomSubPool(), RandomLabel("cpu")])
def test_whatever_is_drawn_some_pool_is_chosen_and_each_can_be(strategy: Strategy) -> None:
    chosen = {strategy.choose(ALL, Request(draw=draw / 1000)).name for draw in range(1000)}
    expected = {
        "Random": {"root", "a", "b", "c"},
        "RandomSubPool": {"a", "b", "c"},
        "RandomLabel": {"a", "b"},
    }
    assert chosen == expected[type(strategy).__name__]


def test_strategies_are_values() -> None:
    assert RandomLabel("gpu") == RandomLabel("gpu")
    assert RandomLabel("gpu") != RandomLabel("cpu")
    assert hash(ProcessIndex(1)) == hash(ProcessIndex(1))
    assert LeastLoaded() == LeastLoaded()


def test_one_of_your_own_needs_one_method() -> None:
    class Busiest:
        def choose(self, pools: list[PoolView], request: Request) -> PoolView:
            return max(pools, key=lambda pool: pool.load)

    assert Busiest().choose(list(ALL), FIRST) is A
