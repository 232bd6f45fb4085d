"""Who is restarted with whom, as values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xoscar_sc.supervise.strategy import STRATEGIES, Start, Stop, one_for_all, one_for_one, rest_for_one

ORDER = ["db", "cache", "web"]


def test_one_for_one_starts_what_has_failed_and_nothing_else() -> None:
    assert one_for_one(ORDER, {"cache"}) == [Start("cache")]


def test_one_for_all_stops_all_others_newest_first_and_starts_all_oldest_first() -> None:
    steps = [Stop("web"), Stop("db"), Start("db"), Start("cache"), Start("web")]
    assert one_for_all(ORDER, {"cache"}) == steps


def test_rest_for_one_stops_later_siblings_newest_first() -> None:
    assert rest_for_one(ORDER, {"cache"}) == [Stop("web"), Start("cache"), Start("web")]


def test_rest_for_one_of_the_last_touches_no_other() -> None:
    assert rest_for_one(ORDER, {"web"}) == [Start("web")]


def test_several_that_fail_together_are_one_failure() -> None:
    assert one_for_one(ORDER, {"web", "db"}) == [Start("db"), Start("web")]
    assert rest_for_one(ORDER, {"web", "cache"}) == [Start("cache"), Start("web")]


@given(st.permutations("abcdef"), st.sets(st.sampled_from("abcdefgh")), st.sampled_from(sorted(STRATEGIES)))
def test_every_strategy_stops_right_to_left_then_starts_left_to_right(
    order: list[str], failed: set[str], strategy: str
) -> None:
    steps = STRATEGIES[strategy](order, failed)
    stops = [step.child for step in steps if isinstance(step, Stop)]
    starts = [step.child for step in steps if isinstance(step, Start)]
    assert steps == [*map(Stop, stops), *map(Start, starts)]
    assert starts == [child for child in order if child in starts]
    assert stops == [child for child in reversed(order) if child in starts and child not in failed]
    assert failed & set(order) <= set(starts)
