"""Where a new actor goes: pools as they are, in; the pool to use, out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xoscar_sc.errors import NoIdleSlot, PoolNotExist
from xoscar_sc.strategy import (
    AddressSpecified,
    IdleLabel,
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
HELD_A = PoolView("a", "unix:///a", labels=("cpu",), load=0, marks=frozenset({"store", "cache"}))
HELD_B = PoolView("b", "unix:///b", labels=("gpu", "cpu"), load=1, marks=frozenset({"store"}))
FREE_D = PoolView("d", "unix:///d", labels=("cpu",), load=7)

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
        # The least loaded, the oldest of several, of those in which the mark is not held.
        (IdleLabel("gpu", "store"), ALL, FIRST, B),
        (IdleLabel("gpu", "store"), (MAIN, A, C, B), FIRST, C),
        (IdleLabel("gpu", "store"), (MAIN, A, HELD_B, C), FIRST, C),
        (IdleLabel("cpu", "store"), (MAIN, HELD_A, HELD_B, FREE_D), FIRST, FREE_D),
        (IdleLabel("cpu", "cache"), (MAIN, HELD_A, HELD_B, FREE_D), FIRST, HELD_B),
        (IdleLabel("cpu", "other"), (MAIN, HELD_A, HELD_B, FREE_D), FIRST, HELD_A),
        (IdleLabel("home", "store"), ALL, FIRST, MAIN),
        (IdleLabel(None, "store"), ALL, FIRST, B),
        (IdleLabel(None, "store"), (MAIN, HELD_A, HELD_B, FREE_D), FIRST, FREE_D),
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
        (
            IdleLabel("cpu", "store"),
            (MAIN, HELD_A, HELD_B, C),
            NoIdleSlot,
            "no idle pool for the mark 'store': there are 2 pools with the label 'cpu'",
        ),
        (IdleLabel("tpu", "store"), ALL, NoIdleSlot, "there are 0 pools with the label 'tpu'"),
        (
            IdleLabel(None, "store"),
            (MAIN, HELD_A),
            NoIdleSlot,
            "no idle pool for the mark 'store': there are 1 sub pools",
        ),
        (IdleLabel(None, "store"), ALONE, NoIdleSlot, "there are 0 sub pools"),
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


LABELS = st.sampled_from(["cpu", "gpu", "tpu"])
MARKS = st.sampled_from(["store", "cache", "log"])


@st.composite
def trees(draw: st.DrawFn) -> list[PoolView]:
    """The main pool, and a few others."""
    number = draw(st.integers(0, 6))
    return [
        PoolView(
            f"pool-{index}",
            f"unix:///{index}",
            tuple(draw(st.lists(LABELS, unique=True))),
            draw(st.integers(0, 3)),
            index == 0,
            draw(st.frozensets(MARKS)),
        )
        for index in range(number + 1)
    ]


@given(pools=trees(), label=st.none() | LABELS, mark=MARKS)
def test_an_idle_pool_is_found_if_there_is_one_and_no_better_one_is_left(
    pools: list[PoolView], label: str | None, mark: str
) -> None:
    idle = [
        pool
        for pool in pools
        if mark not in pool.marks and (not pool.main if label is None else label in pool.labels)
    ]
    try:
        chosen = IdleLabel(label, mark).choose(pools, FIRST)
    except NoIdleSlot:
        assert idle == []
    else:
        assert chosen in idle
        at = idle.index(chosen)
        assert all(pool.load > chosen.load for pool in idle[:at])
        assert all(pool.load >= chosen.load for pool in idle[at:])


@given(pools=trees(), serial=st.integers(0, 1000), draw=st.floats(0, 1, exclude_max=True), label=LABELS)
def test_what_is_chosen_is_one_of_those_that_were_offered(
    pools: list[PoolView], serial: int, draw: float, label: str
) -> None:
    for strategy in (
        LeastLoaded(),
        RoundRobin(),
        Random(),
        RandomSubPool(),
        MainPool(),
        ProcessIndex(serial),
        RandomLabel(label),
        IdleLabel(label, "store"),
        AddressSpecified("unix:///3"),
    ):
        try:
            chosen = strategy.choose(tuple(pools), Request(serial, draw))
        except (NoIdleSlot, PoolNotExist):
            continue
        assert any(chosen is pool for pool in pools)
