"""Messages of a declared type."""

from __future__ import annotations

import fractions
import math
import sys
from typing import Any

import msgspec
import pytest

from xoscar_sc.errors import MsgTypeError, SerializationError
from xoscar_sc.serialize import UNTYPED, Codec, Types, dump_types, extensions_of, load_types


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Path(msgspec.Struct):
    points: list[Point]
    name: str | None = None


class Positive(msgspec.Struct):
    value: int

    def __post_init__(self) -> None:
        if self.value == 1:
            raise LookupError("of the user's")
        if self.value < 1:
            raise ValueError("not positive")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Path, Path([Point(1), Point(2, 3)], "n")),
        (int, 5),
        (float, math.inf),
        (dict[str, list[int]], {"a": [1]}),
        (Point | None, None),
        (bytes, b"x" * 100_000),
        (tuple[int, str], (1, "a")),
        (Any, [1, "a"]),
    ],
)
def test_what_fits_arrives_as_it_was(kind: Any, value: Any) -> None:
    codec = Codec(Types(kind, kind))
    found = codec.unpack(codec.pack(value))
    assert found == value == codec.check(value)
    assert type(found) is type(value) is type(codec.check(value))
    body = codec.pack(value)
    assert codec.unpack(memoryview(bytearray(body))) == value  # type: ignore[arg-type]


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Path, Path([Point(1), Point("2")]), r"`\$\.points\[1\]\.x`"),  # type: ignore[arg-type]
        (Path, Point(1), "points"),
        (int, "1", "int"),
        (int, 2**70, "int"),
        (int, object(), "int"),
        (str, "\ud800", "str"),
        (list, cyclic(), "list"),
        (Positive, {"value": -1}, "not positive"),
        (Point | None, 3, "Point"),
    ],
)
def test_what_does_not_fit_is_refused(kind: Any, value: Any, text: str) -> None:
    codec = Codec(Types(kind, None))
    with pytest.raises(MsgTypeError, match=text):
        codec.pack(value)
    with pytest.raises(MsgTypeError, match=text):
        codec.check(value)


@pytest.mark.parametrize("value", [0, 1])
def test_a_type_that_checks_itself_refuses_with_what_it_likes(value: int) -> None:
    body = msgspec.msgpack.encode({"value": value})
    with pytest.raises(MsgTypeError, match="Positive was expected"):
        Codec(Types(None, Positive)).unpack(body)
    with pytest.raises(MsgTypeError, match="Positive is to be sent"):
        Codec(Types(Positive)).pack({"value": value})


def test_what_is_like_the_declared_type_becomes_that_wherever_the_other_side_is() -> None:
    codec = Codec(Types(Point, Point))
    assert codec.unpack(codec.pack({"x": 1})) == codec.check({"x": 1}) == Point(1)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x01\x02", b"\x80"])
def test_what_has_come_and_is_nothing_is_refused(body: bytes) -> None:
    with pytest.raises(MsgTypeError):
        Codec(Types(None, Point)).unpack(body)


def test_without_types_all_goes() -> None:
    value = {1, 2}
    assert UNTYPED.check(value) is value
    assert UNTYPED.unpack(UNTYPED.pack(value)) == value
    segments: list[memoryview] = []
    body = UNTYPED.pack(b"x" * 100_000, segments)
    assert len(segments) == 1
    assert UNTYPED.unpack(body, segments) == b"x" * 100_000


def test_types_travel_and_are_seen_from_the_other_side() -> None:
    types = Types(Path, None)
    assert load_types(dump_types(types)) == types
    assert types.other_side() == Types(None, Path)
    assert dump_types(Types()) == b""
    assert load_types(b"") == Types()


def test_a_difference_is_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dump_types(Types(Path, int))

    other = msgspec.defstruct("Point", [("x", str), ("z", int, 0)], module=__name__)
    changed: Any = msgspec.defstruct(
        "Path",
        [("points", list[other]), ("name", str | None, None)],
        module=__name__,  # type: ignore[valid-type]
    )
    monkeypatch.setitem(globals(), "Path", changed)
    with pytest.raises(MsgTypeError) as caught:
        load_types(data)
    lines = str(caught.value).split("\n")
    assert lines[0] == "the two sides define their messages differently:"
    assert any(line.startswith("-") and '"integer"' in line for line in lines)
    assert any(line.startswith("+") and '"string"' in line for line in lines)
    monkeypatch.delitem(globals(), "Path")
    with pytest.raises(SerializationError):
        load_types(data)


def test_types_without_a_schema_are_compared_by_name() -> None:
    types = Types(complex, set[complex])
    assert load_types(dump_types(types)) == types


def test_what_no_message_can_be_is_refused_when_it_is_declared() -> None:
    with pytest.raises(TypeError):
        Codec(Types(3))
    with pytest.raises(TypeError):
        Codec(Types(None, Point | Path))


# Classes that msgspec does not know


class Vector:
    def __init__(self, x: float, y: float) -> None:
        self.x, self.y = x, y


class Longer(Vector):
    pass


class Line(msgspec.Struct):
    ends: tuple[Vector, Vector]
    weight: fractions.Fraction | None = None


def to_list(vector: Vector) -> list[float]:
    return [vector.x, vector.y]


def to_vector(found: list[float]) -> Vector:
    x, y = found
    return Vector(x, y)


VECTOR = (Vector, to_list, to_vector)
FRACTION = (fractions.Fraction, str, fractions.Fraction)


def test_classes_that_are_declared_cross_by_their_functions() -> None:
    codec = Codec(Types(Line, Line, (VECTOR, FRACTION)))
    line = Line((Vector(1, 2), Longer(3.5, 4)), fractions.Fraction(1, 3))
    got = codec.unpack(codec.pack(line))
    assert [type(each) for each in got.ends] == [Vector, Vector]
    assert (got.ends[0].x, got.ends[1].y, got.weight) == (1, 4, fractions.Fraction(1, 3))
    got = codec.check(line)
    assert got is not line
    assert got.ends[1].x == 3.5


def test_classes_that_are_not_declared_are_named() -> None:
    line = Line((Vector(1, 2), Vector(3, 4)), fractions.Fraction(1, 3))
    with pytest.raises(MsgTypeError, match="Fraction is no type that is declared"):
        Codec(Types(Line, None, (VECTOR,))).pack(line)
    body = Codec(Types(Line, None, (VECTOR, FRACTION))).pack(line)
    with pytest.raises(MsgTypeError, match="Vector is no type that is declared"):
        Codec(Types(None, Line)).unpack(body)


def test_what_their_functions_do_not_take_is_refused_with_its_path() -> None:
    codec = Codec(Types(Line, Line, (VECTOR, FRACTION)))
    for wrong in (
        msgspec.msgpack.encode({"ends": [[1, 2], [3]]}),
        msgspec.msgpack.encode({"ends": [[1, 2], "xy"], "weight": "half"}),
    ):
        with pytest.raises(MsgTypeError, match="Line was expected"):
            codec.unpack(wrong)
    wrong = Types(Line, Line, ((Vector, to_list, tuple), FRACTION))
    with pytest.raises(MsgTypeError, match=r"Expected `Vector`, got `tuple` - at `\$.ends\[0\]`"):
        Codec(wrong).unpack(msgspec.msgpack.encode({"ends": [[1, 2], [3, 4]]}))


def test_both_sides_learn_of_them() -> None:
    types = Types(Line, Point, (VECTOR, FRACTION))
    assert load_types(dump_types(types)) == types
    assert types.other_side().extensions == types.extensions


def test_a_class_that_the_other_side_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dump_types(Types(Line, None, (VECTOR,)))
    monkeypatch.delattr(sys.modules[__name__], "to_vector")
    with pytest.raises(
        MsgTypeError, match=r"has the type .*test_typed.Vector \(by to_list and to_vector\), which is not"
    ):
        load_types(data)
    monkeypatch.setattr(sys.modules[__name__], "to_vector", to_list, raising=False)
    with pytest.raises(MsgTypeError, match=r"and here it is .*\(by to_list and to_list\)"):
        load_types(data)


@pytest.mark.parametrize(
    "wrong", [{"Vector": (to_list, to_vector)}, {Vector: (to_list,)}, {Vector: (to_list, 3)}, {Vector: ()}]
)
def test_what_is_no_declaration_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a class and two functions"):
        extensions_of(wrong)
    assert extensions_of({Vector: (to_list, to_vector)}) == (VECTOR,)
    assert extensions_of(None) == ()
