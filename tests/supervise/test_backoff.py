"""How long a child waits that keeps failing, and how often a supervisor restarts: as values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xoscar_sc.supervise.backoff import Backoff, delay, in_a_row
from xoscar_sc.supervise.intensity import Intensity

SECONDS = st.floats(0, 1000)


def test_waits_grow_by_the_factor_up_to_the_maximum() -> None:
    backoff = Backoff(min=1, max=10, factor=3, jitter=0)
    assert [backoff.delay(failures, 0.5) for failures in (1, 2, 3, 4, 5)] == [1, 3, 9, 10, 10]


def test_jitter_only_makes_a_wait_longer_and_not_beyond_the_maximum() -> None:
    backoff = Backoff(min=1, max=10, factor=3, jitter=0.5)
    assert backoff.delay(1, 0) == 1
    assert backoff.delay(1, 1) == 1.5
    assert backoff.delay(3, 1) == 10


@given(SECONDS, SECONDS, st.floats(1, 1e6), st.floats(0, 5), st.integers(1, 10**6), st.floats(0, 1))
def test_a_wait_is_never_beyond_its_bounds(
    least: float, more: float, factor: float, jitter: float, failures: int, drawn: float
) -> None:
    backoff = Backoff(min=least, max=least + more, factor=factor, jitter=jitter)
    wait = backoff.delay(failures, drawn)
    assert backoff.min <= wait <= backoff.max
    assert backoff.delay(failures + 1, drawn) >= wait


def test_without_a_backoff_only_a_child_that_cannot_be_started_waits() -> None:
    assert delay(None, in_a_row(None, 4, ran=0.0), 0) == 0
    assert in_a_row(None, 1, ran=None) == 2
    assert [delay(None, failures, 0) for failures in (2, 3, 4)] == [0.05, 0.1, 0.2]
    assert delay(None, 10**6, 1) == 5


def test_a_child_that_has_run_for_long_begins_with_the_first_wait_again() -> None:
    backoff = Backoff(reset=60)
    assert in_a_row(backoff, 4, ran=59) == 5
    assert in_a_row(backoff, 4, ran=60) == 1
    assert in_a_row(backoff, 4, ran=None) == 5


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"min": -1}, "min= is -1; it is 0 or more"),
        ({"min": 2, "max": 1}, "max= is 1, which is less than min=2"),
        ({"factor": 0.5}, "factor= is 0.5; it is 1 or more"),
        ({"jitter": math.nan}, "jitter= is nan"),
        ({"reset": "1"}, "reset= is '1'; it is a number of seconds"),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(given: dict[str, float], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Backoff(**given)


# Intensity


def test_one_more_than_the_intensity_within_the_period_is_one_too_many() -> None:
    intensity = Intensity(2, 5)
    first = intensity.admit((), 100.0)
    assert first == (100.0,)
    second = intensity.admit(first, 101.0)
    assert second == (101.0, 100.0)
    assert intensity.admit(second, 104.9) is None


def test_what_is_a_period_ago_does_not_count() -> None:
    assert Intensity(2, 5).admit((101.0, 100.0), 105.0) == (105.0, 101.0)


def test_an_intensity_of_0_refuses_the_first() -> None:
    assert Intensity(0, 5).admit((), 1.0) is None


@given(st.integers(0, 5), st.floats(0.1, 10), st.lists(st.floats(0, 3), max_size=40))
def test_no_window_of_a_period_has_more_restarts_than_the_intensity(
    restarts: int, period: float, pauses: list[float]
) -> None:
    intensity, history, admitted, now = Intensity(restarts, period), (), [], 0.0
    for pause in pauses:
        now += pause
        recent = intensity.admit(history, now)
        inside = [at for at in admitted if at > now - period]
        assert (recent is None) is (len(inside) >= restarts)
        if recent is not None:
            history = recent
            admitted.append(now)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((-1, 5), "intensity= is -1; it is 0 or more"),
        ((1.5, 5), "intensity= is 1.5; it is a number of restarts"),
        ((True, 5), "intensity= is True"),
        ((3, 0), "period= is 0; it is more"),
        ((3, -1), "period= is -1; it is 0 or more"),
    ],
)
def test_an_intensity_that_makes_no_sense_is_refused(given: tuple[int, float], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Intensity(*given)
