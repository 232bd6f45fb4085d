from __future__ import annotations

import math

import msgspec
import pytest

from xoscar_sc import Timeouts

NAMES = Timeouts.__struct_fields__


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [-1, -0.001, -math.inf, math.nan])
def test_a_wait_of_less_than_no_time_is_refused(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match=rf"{name}= is {bad!r}; it is a number of seconds, 0 or more"):
        Timeouts(**{name: bad})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", ["1", None, [1]])
def test_what_is_no_number_is_refused(name: str, bad: object) -> None:
    with pytest.raises(TypeError):
        Timeouts(**{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("good", [0, 0.5, 3, math.inf])
def test_no_time_at_all_and_all_the_time_there_is_are_taken(name: str, good: float) -> None:
    assert getattr(Timeouts(**{name: good}), name) == good


def test_an_unknown_wait_is_refused() -> None:
    with pytest.raises(TypeError, match="stop"):
        Timeouts(stop=1)  # type: ignore[call-arg]


def test_waits_cannot_be_changed_and_travel_down_the_tree() -> None:
    timeouts = Timeouts(cancel=2.5)
    with pytest.raises(AttributeError):
        timeouts.cancel = 3.0  # type: ignore[misc]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(timeouts), type=Timeouts) == timeouts
