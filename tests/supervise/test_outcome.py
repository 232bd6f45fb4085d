from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from xoscar_sc.errors import ActorDied, ConnectionLost, PoolDied
from xoscar_sc.supervise.outcome import combine, is_consequence, leaves


class Cancelled(BaseException):
    """What some loop cancels with."""


KEY, VALUE = KeyError("key"), ValueError("value")
FAR, NEAR = Cancelled("far"), Cancelled("near")
DIED = ActorDied("died", uid="actor")
GONE = PoolDied("gone", pool="pool", pid=5)
GONE_TOO = PoolDied("gone, says another call", pool="pool", pid=5)
GONE_BEFORE = PoolDied("an earlier one of the same name", pool="pool", pid=4)
LOST = ConnectionLost("lost")
GROUP = ExceptionGroup("group", [KEY, VALUE])
EXIT = SystemExit(3)

ACTOR = frozenset({"actor"})
NOBODY: frozenset[str] = frozenset()


def outcome(
    body: BaseException | None,
    failures: Sequence[BaseException],
    failed: frozenset[str] = NOBODY,
    *,
    filters_groups: bool = True,
) -> Any:
    """What is raised: nothing, itself, or the members of a group."""
    found = combine(body, failures, failed, Cancelled, filters_groups=filters_groups)
    if isinstance(found, BaseExceptionGroup) and found is not GROUP:
        return list(found.exceptions)
    return found


@pytest.mark.parametrize(
    ("body", "failures", "failed", "expected"),
    [
        # Nothing, and a single one.
        (None, [], NOBODY, None),
        (KEY, [], NOBODY, KEY),
        (None, [KEY], NOBODY, KEY),
        (EXIT, [], NOBODY, EXIT),
        (GROUP, [], NOBODY, GROUP),
        (NEAR, [], NOBODY, NEAR),
        # Several, the block's own first, the children's in order.
        (None, [KEY, VALUE], NOBODY, [KEY, VALUE]),
        (VALUE, [KEY], NOBODY, [VALUE, KEY]),
        (GROUP, [EXIT], NOBODY, [GROUP, EXIT]),
        (LOST, [KEY], NOBODY, [LOST, KEY]),
        # The same one, met twice.
        (KEY, [KEY], NOBODY, KEY),
        (None, [KEY, VALUE, KEY], NOBODY, [KEY, VALUE]),
        # The death of a pool is told once.
        (GONE, [GONE_TOO], NOBODY, GONE),
        (None, [GONE, GONE_TOO, KEY], NOBODY, [GONE, KEY]),
        (GONE, [GONE_BEFORE], NOBODY, [GONE, GONE_BEFORE]),
        # An actor's failure tells why a call to it ended; but only that of the actor that failed.
        (DIED, [KEY], ACTOR, KEY),
        (DIED, [KEY], NOBODY, [DIED, KEY]),
        (DIED, [KEY], frozenset({"other"}), [DIED, KEY]),
        (None, [KEY, DIED], ACTOR, [KEY, DIED]),
        # A cancellation that passes by, and what failed meanwhile.
        (NEAR, [KEY], NOBODY, [NEAR, KEY]),
        (NEAR, [FAR], NOBODY, NEAR),
        (None, [NEAR, FAR], NOBODY, NEAR),
        (NEAR, [GONE, GONE_TOO, FAR], NOBODY, [NEAR, GONE]),
    ],
)
def test_what_a_nursery_is_left_with(
    body: BaseException | None, failures: list[BaseException], failed: frozenset[str], expected: Any
) -> None:
    assert outcome(body, failures, failed) == expected


@pytest.mark.parametrize(
    ("body", "failures", "expected"),
    [
        (NEAR, [], NEAR),
        (NEAR, [FAR], NEAR),
        (NEAR, [KEY], KEY),
        (NEAR, [KEY, VALUE], [KEY, VALUE]),
        (None, [FAR, KEY], KEY),
    ],
)
def test_where_scopes_look_into_no_group_an_error_replaces_the_cancellation(
    body: BaseException | None, failures: list[BaseException], expected: Any
) -> None:
    assert outcome(body, failures, filters_groups=False) == expected


def test_several_exceptions_are_an_exception_group_and_others_a_base_exception_group() -> None:
    both = combine(None, [KEY, VALUE], NOBODY, Cancelled, filters_groups=True)
    assert type(both) is ExceptionGroup
    assert str(both) == "several children of a pool nursery failed (2 sub-exceptions)"
    with_exit = combine(None, [KEY, EXIT], NOBODY, Cancelled, filters_groups=True)
    assert type(with_exit) is BaseExceptionGroup


def test_leaves_are_the_exceptions_of_a_group_down_to_the_last() -> None:
    assert list(leaves(KEY)) == [KEY]
    nested = BaseExceptionGroup("outer", [GROUP, EXIT, ExceptionGroup("inner", [LOST])])
    assert list(leaves(nested)) == [KEY, VALUE, EXIT, LOST]


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (DIED, True),
        (GONE, True),
        (LOST, True),
        (KEY, False),
        (EXIT, False),
        (ExceptionGroup("all of them", [DIED, ExceptionGroup("inner", [GONE, LOST])]), True),
        (ExceptionGroup("one is not", [DIED, KEY]), False),
    ],
)
def test_a_consequence_says_only_that_something_else_has_ended(exc: BaseException, expected: bool) -> None:
    assert is_consequence(exc) is expected
