from __future__ import annotations

import gc
import os
import pickle
import weakref
from collections.abc import Callable

import pytest

from tests.serialize import users
from tests.serialize.crossing import cross, raised, wire
from xoscar_sc.errors import RemoteError
from xoscar_sc.protocol import Failure
from xoscar_sc.serialize import rebuild, record


def chained(n: int) -> BaseException:
    exc: BaseException = ValueError(0)
    for number in range(1, n):
        above = ValueError(number)
        above.__cause__ = above.__context__ = exc
        exc = above
    return exc


def test_a_chain_without_end_is_cut() -> None:
    exc, depth = cross(chained(5000)), 0
    while exc.__cause__ is not None:
        assert exc.__context__ is exc.__cause__
        exc, depth = exc.__cause__, depth + 1
    assert 20 <= depth < 100


def test_a_group_in_a_group_without_end_is_cut() -> None:
    exc: Exception = ValueError()
    for _ in range(500):
        exc = ExceptionGroup("g", [exc])
    assert isinstance(cross(exc), ExceptionGroup)


def test_members_that_are_too_many_are_counted() -> None:
    group = cross(ExceptionGroup("g", [ValueError(n) for n in range(5000)]))
    assert isinstance(group, ExceptionGroup)
    *members, last = group.exceptions
    assert [one.args for one in members] == [(n,) for n in range(len(members))]
    assert len(members) >= 900
    assert str(last) == f"ExceptionGroup: {5000 - len(members)} more members were left out"


def test_an_exception_in_two_places_is_one_exception() -> None:
    shared = KeyError("shared")
    group = ExceptionGroup("g", [shared, ValueError(), shared])
    group.__cause__ = shared
    got = cross(group)
    assert isinstance(got, ExceptionGroup)
    assert got.exceptions[0] is got.exceptions[2]
    assert got.__cause__ is got.exceptions[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("x" * 10_000_000),
        lambda: ValueError("\U0001f600" * 1_000_000),
        lambda: ValueError(os.urandom(2_000_000)),
        lambda: ExceptionGroup("é" * 100_000, [ValueError("ü" * 100_000) for _ in range(100)]),
        type("T" * 100_000, (Exception,), {}),
    ],
)
def test_a_record_always_fits_into_a_frame(make: Callable[[], BaseException]) -> None:
    exc = make()
    for n in range(50):
        exc.add_note(f"{n}" * 50_000)
    got = cross(exc, "w" * 1_000_000)
    assert type(exc).__name__[:100] in f"{type(got)} {got!r}"
    assert "characters left out" in got.__notes__[-1]


def test_a_long_traceback_keeps_its_head_and_its_tail() -> None:
    def recurse(n: int) -> None:
        if n:
            # A line of its own for each level would be folded; the text makes it long.
            raise ValueError("x" * 1000) from raised(lambda: recurse(n - 1))
        raise KeyError("innermost")

    note = cross(raised(lambda: recurse(100))).__notes__[-1]
    assert len(note) < 70_000
    assert "innermost" in note
    assert note.endswith("x" * 1000 + "\n")


# --- never fails ------------------------------------------------------------------------------------------------


class Hostile(Exception):
    def __getattribute__(self, name: str) -> object:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise SystemExit(1)


def test_record_never_fails() -> None:
    weird = ValueError(1)
    weird.__notes__ = 5  # type: ignore[assignment]
    mixed = ValueError(2)
    mixed.__notes__ = ["a", 3]  # type: ignore[list-item]
    assert cross(weird).args == (1,)
    assert cross(mixed).__notes__[:-1] == ["a"]
    assert isinstance(cross(raised(lambda: (_ for _ in ()).throw(Hostile()))), Exception)


@pytest.mark.parametrize(
    "failure",
    [
        Failure("", ""),
        Failure("", "5"),
        Failure("", "9" * 5000),
        Failure("T", "t", b"\x80garbage"),
        Failure("T", "t", b"\x05"),
        Failure("T", "t", pickle.dumps((int, (), {}, {}), 5)),
        Failure("T", "t", pickle.dumps((ValueError, (), {}, 5), 5)),
        Failure("T", "t", members=(Failure("", "0"),)),
        Failure("T", "t", pickle.dumps((ExceptionGroup, ("g",), {}, {}), 5)),
        Failure("T", "t", cause=Failure("", "-1"), context=Failure("", "²")),
    ],
)
def test_rebuild_never_fails(failure: Failure) -> None:
    exc = rebuild(wire(failure))
    assert isinstance(exc, RemoteError)
    assert exc.text == failure.text


def test_rebuild_of_a_record_without_end_does_not_fail() -> None:
    failure = Failure("T", "t")
    for _ in range(100_000):
        failure = Failure("T", "t", cause=failure)
    assert isinstance(rebuild(failure), RemoteError)
    while failure.cause is not None:  # its end is not left to recursion either
        failure, failure.cause = failure.cause, None


def test_nothing_keeps_an_exception_that_has_been_recorded() -> None:
    exc = users.Several("x", 1)
    gone = weakref.ref(exc)
    failure = record(exc, where="here")
    del exc
    gc.collect()
    assert gone() is None
    assert type(rebuild(failure)) is users.Several
