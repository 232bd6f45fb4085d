"""What a supervisor is told of a child, and what an end means by that: as values."""

from __future__ import annotations

import math
from typing import Any

import pytest

from xoscar_sc.supervise.backoff import Backoff
from xoscar_sc.supervise.children import ChildSpec, Supervision, comes_back, ends_all

KINDS = ("normal", "failed", "killed", "cancelled")


@pytest.mark.parametrize(
    ("restart", "ends"),
    [
        ("permanent", (True, True, True, True)),
        ("transient", (False, True, True, True)),
        ("temporary", (False, False, False, False)),
    ],
)
def test_which_ends_a_child_comes_back_from(restart: Any, ends: tuple[bool, ...]) -> None:
    assert tuple(comes_back(restart, kind) for kind in KINDS) == ends


@pytest.mark.parametrize(
    ("auto_shutdown", "significant", "left", "ends"),
    [
        ("never", True, [], False),
        ("any_significant", False, [], False),
        ("any_significant", True, [True, False], True),
        ("all_significant", True, [True, False], False),
        ("all_significant", True, [False, False], True),
        ("all_significant", True, [], True),
        ("all_significant", False, [], False),
    ],
)
def test_which_end_ends_the_supervisor(
    auto_shutdown: Any, significant: bool, left: list[bool], ends: bool
) -> None:
    assert ends_all(auto_shutdown, significant=significant, left=left) is ends


@pytest.mark.parametrize(
    ("given", "seconds"), [(None, 5.0), ("kill", 0.0), (2, 2), (math.inf, math.inf), (0, 0)]
)
def test_how_long_a_child_is_waited_for(given: Any, seconds: float) -> None:
    assert ChildSpec(shutdown=given).grace(5.0) == seconds


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"restart": "sometimes"}, "restart= is 'sometimes'; it is one of permanent, transient, temporary"),
        ({"restart": None}, "restart= is None"),
        ({"significant": True}, "a permanent child has no end"),
        ({"significant": 1, "restart": "transient"}, "significant= is 1; it is True or False"),
        ({"shutdown": "now"}, "shutdown= is 'now'"),
        ({"shutdown": -1}, "shutdown= is -1; it is 0 or more"),
        ({"backoff": 3}, "backoff= is 3; it is a Backoff"),
        ({"on_restart": "drop"}, "on_restart= is 'drop'; it is one of wait, raise"),
        ({"queued": "drop"}, "queued= is 'drop'; it is one of keep, fail"),
    ],
)
def test_a_child_that_makes_no_sense_is_refused(given: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        ChildSpec(**given)


def test_a_child_that_makes_sense_is_taken() -> None:
    ChildSpec("transient", True, math.inf, Backoff(min=1, max=2), "raise", "keep")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"strategy": "one_for_some"}, "strategy= is 'one_for_some'; it is one of one_for_one, one_for_all"),
        ({"strategy": ["one_for_one"]}, "strategy= is"),
        ({"intensity": -1}, "intensity= is -1; it is 0 or more"),
        ({"period": 0}, "period= is 0"),
        ({"auto_shutdown": "always"}, "auto_shutdown= is 'always'"),
        ({"heartbeat": 0}, "heartbeat= is 0"),
        ({"heartbeat": math.inf}, "heartbeat= is inf"),
        ({"on_heartbeat_lost": "ignore"}, "on_heartbeat_lost= is 'ignore'"),
    ],
)
def test_a_supervision_that_makes_no_sense_is_refused(given: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Supervision(**given)
