from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import math
import pickle
import struct
import threading
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serialize.crossing import child
from tests.serialize.users import Colour, Point, Unpicklable, Word
from xoscar_sc.errors import SerializationError
from xoscar_sc.serialize import (
    OUT_OF_BAND,
    dumps,
    dumps_batch,
    dumps_call,
    loads,
    loads_batch,
    loads_call,
)


def same(a: object, b: object) -> bool:
    """Equal, and of equal types all the way down; a NaN is itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, Point):
        return same(a.x, b.x) and same(a.y, b.y)
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a.items(), b.items()))
    if isinstance(a, list | tuple | collections.deque):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, set | frozenset):
        return a == b and {type(one) for one in a} == {type(one) for one in b}
    return a == b


def there_and_back(value: object, *, apart: bool) -> object:
    segments: list[memoryview] | None = [] if apart else None
    body = dumps(value, segments)
    return loads(body, [bytearray(one) for one in segments or ()])


text = st.text(st.characters(), max_size=8)  # lone surrogates included
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 2**200]),
    st.floats(allow_nan=True),
    st.sampled_from([math.nan, -math.nan, -0.0, math.inf]),
    text,
    st.just("\ud800"),
    st.binary(max_size=8),
    st.sampled_from(Colour),
    text.map(Word),
)
hashable = st.one_of(
    scalars.filter(lambda value: not (isinstance(value, float) and math.isnan(value))),
    st.tuples(st.integers()),
    st.frozensets(st.integers()),
)
values = st.recursive(
    st.one_of(
        scalars,
        st.binary(max_size=8).map(bytearray),
        st.complex_numbers(),
        st.just(Ellipsis),
        st.sets(hashable, max_size=3),
        st.frozensets(hashable, max_size=3),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(hashable, inner, max_size=3),
        st.dictionaries(text, inner, max_size=3).map(collections.OrderedDict),
        st.lists(inner, max_size=3).map(collections.deque),
        st.builds(Point, inner, inner),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(values, st.booleans())
def test_a_value_arrives_equal_and_of_the_same_types(value: object, apart: bool) -> None:
    assert same(there_and_back(value, apart=apart), value)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(scalars | values, max_size=4).map(tuple), st.dictionaries(text, values, max_size=2))
def test_arguments_arrive_equal_and_of_the_same_types(args: tuple, kwargs: dict) -> None:
    got_args, got_kwargs = loads_call(dumps_call(args, kwargs))
    assert same(got_args, args)
    assert same(got_kwargs, kwargs)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.lists(scalars, max_size=3).map(tuple), st.dictionaries(text, scalars, max_size=1)))
)
def test_a_batch_arrives_equal_and_of_the_same_types(calls: list) -> None:
    assert same(loads_batch(dumps_batch(calls)), calls)


@pytest.mark.parametrize(
    "value",
    [
        (),
        [],
        {},
        {1: 2},
        True,
        1,
        Colour.RED,
        Word("w"),
        2**64,
        "\udc80",
        dt.datetime(2020, 2, 29, 12, tzinfo=dt.UTC),
        decimal.Decimal("1.10"),
        uuid.UUID(int=7),
        range(3),
        array.array("d", [1.5]),
        int,
        len,
        pickle.dumps,
    ],
    ids=repr,
)
def test_values_that_another_encoding_would_change(value: object) -> None:
    assert same(there_and_back(value, apart=False), value)
    ((got,), kwargs) = loads_call(dumps_call((value,), {}))
    assert same(got, value)
    assert kwargs == {}


def test_one_object_passed_twice_is_one_object() -> None:
    shared: list[int] = []
    (first, second), kwargs = loads_call(dumps_call((shared, shared), {"third": shared}))
    assert first is second
    assert first is kwargs["third"]


# --- segments ---------------------------------------------------------------------------------------------------

LARGE = OUT_OF_BAND


@pytest.mark.parametrize("make", [bytes, bytearray])
@pytest.mark.parametrize("size", [LARGE - 1, LARGE, 3 * LARGE])
def test_large_bytes_travel_apart_and_keep_their_type(make: type, size: int) -> None:
    value = make(b"\x07" * size)
    segments: list[memoryview] = []
    body = dumps_call((value, 1), {"again": value}, segments)
    assert [one.nbytes for one in segments] == ([size, size] if size >= LARGE else [])
    assert all(one.obj is value or one.nbytes < LARGE for one in segments)
    args, kwargs = loads_call(body, [bytearray(one) for one in segments])
    assert same(args, (value, 1))
    assert same(kwargs, {"again": value})
    assert same(there_and_back(value, apart=True), value)
    assert same(there_and_back(value, apart=False), value)


def test_a_large_bytearray_is_the_segment_that_came() -> None:
    segments: list[memoryview] = []
    body = dumps(bytearray(LARGE), segments)
    (came,) = [bytearray(one) for one in segments]
    assert loads(body, [came]) is came


def test_segments_are_added_behind_those_that_are_there() -> None:
    segments = [memoryview(b"other")]
    body = dumps(bytearray(LARGE), segments)
    assert [len(one) for one in segments] == [5, LARGE]
    assert loads(body, [bytearray(segments[1])]) == bytearray(LARGE)


def test_a_failure_leaves_the_segments_as_they_were() -> None:
    segments = [memoryview(b"other")]
    large = pickle.PickleBuffer(bytearray(LARGE))
    with pytest.raises(SerializationError):
        dumps_call((large, threading.Lock()), {}, segments)
    assert segments == [memoryview(b"other")]


def test_buffers_of_other_types_travel_apart_if_they_are_large() -> None:
    small, large = pickle.PickleBuffer(bytearray(10)), pickle.PickleBuffer(bytearray(LARGE))
    segments: list[memoryview] = []
    body = dumps([small, large], segments)
    assert [one.nbytes for one in segments] == [LARGE]
    assert (segments[0].format, segments[0].ndim) == ("B", 1)
    assert loads(body, [bytearray(segments[0])]) == [bytearray(10), bytearray(LARGE)]


VIEWS = [
    memoryview(b"abcdefgh"),
    memoryview(bytearray(b"abcdefgh")),
    memoryview(b""),
    memoryview(b"abcdefgh").cast("i"),
    memoryview(b"abcdefgh").cast("B", (2, 4)),
    memoryview(bytearray(4 * LARGE)).cast("d", (2, LARGE // 4)),
    memoryview(array.array("q", [1, 2, 3])),
]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.format}-{view.shape}-{view.readonly}")
@pytest.mark.parametrize("apart", [False, True])
def test_a_memoryview_arrives_as_one_of_the_same_format_and_shape(view: memoryview, apart: bool) -> None:
    for got in (
        there_and_back(view, apart=apart),
        there_and_back([{"nested": view}], apart=apart)[0]["nested"],
    ):
        assert isinstance(got, memoryview)
        assert (got.format, got.shape, got.readonly) == (view.format, view.shape, view.readonly)
        assert got == view


def test_views_and_their_segments_can_be_collected_in_a_cycle() -> None:
    code = """
        import gc
        from xoscar_sc.serialize import dumps_call
        for _ in range(50):
            view = memoryview(bytearray(1 << 17))
            segments = []
            dumps_call((view, view[5:]), {"a": [view]}, segments)
            cycle = [view, segments]
            cycle.append(cycle)
            del view, segments, cycle
            gc.collect()
        print("alive")
    """
    assert child(code) == b"alive\n"


@pytest.mark.parametrize("make", [bytes, bytearray])
@pytest.mark.parametrize("size", [60, 8 * LARGE])
def test_a_memoryview_with_gaps_arrives_without_them(make: type, size: int) -> None:
    data = make(bytes(range(60)) * (size // 60))
    for view in (memoryview(data)[::2], memoryview(data)[::-3], memoryview(data).cast("i")[1::4]):
        for apart in (False, True):
            got = there_and_back(view, apart=apart)
            assert isinstance(got, memoryview)
            assert (got.format, got.shape, got.readonly) == (view.format, view.shape, view.readonly)
            assert got == view
            assert got.c_contiguous


def test_a_memoryview_of_a_format_that_python_cannot_make_is_refused() -> None:
    np = pytest.importorskip("numpy")
    for value in (np.zeros(3, ">i4"), np.zeros(3, [("a", "i4")])):
        with pytest.raises(SerializationError, match=r"argument 1: .*cast it to bytes"):
            dumps_call((memoryview(value),), {})


def test_arrays_travel_apart_and_stay_writable() -> None:
    np = pytest.importorskip("numpy")
    for value in (np.arange(LARGE), np.arange(10), np.arange(LARGE).reshape(2, -1).T, np.arange(LARGE)[::2]):
        segments: list[memoryview] = []
        body = dumps_call((value,), {}, segments)
        (got,), _ = loads_call(body, [bytearray(one) for one in segments])
        assert got.dtype == value.dtype
        assert got.flags.writeable
        assert (got == value).all()
        assert bool(segments) == (
            value.nbytes >= LARGE and (value.flags.c_contiguous or value.flags.f_contiguous)
        )


# --- by value ---------------------------------------------------------------------------------------------------


def test_lambdas_closures_and_local_classes_travel_by_value() -> None:
    factor = 3

    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    (double, triple, local), kwargs = loads_call(
        dumps_call((lambda x: 2 * x, lambda x: factor * x, Local(5)), {"cls": Local})
    )
    assert (double(4), triple(4), local.value) == (8, 12, 5)
    assert kwargs["cls"] is Local  # it has come home


def test_a_batch_may_hold_lambdas() -> None:
    [((add,), _)] = loads_batch(dumps_batch([((lambda x: x + 1,), {})]))
    assert add(1) == 2


def test_a_text_that_looks_like_the_main_module_is_only_a_text() -> None:
    assert loads(dumps(["__main__", b"__main__"])) == ["__main__", b"__main__"]


# --- failures ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_encoded_is_named() -> None:
    with pytest.raises(SerializationError, match=r"type _thread\.lock: TypeError: cannot pickle") as caught:
        dumps(threading.Lock())
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(
        SerializationError, match=r"argument 2: .*Unpicklable: RuntimeError: stays here"
    ) as caught:
        dumps_call((1, Unpicklable()), {})
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(SerializationError, match=r"argument key: .*type builtins\.list"):
        dumps_call((1,), {"key": [threading.Lock()]})
    with pytest.raises(SerializationError, match=r"argument 1 of call 1: .*type _thread\.lock"):
        dumps_batch([((1,), {}), ((threading.Lock(),), {})])


def test_an_open_file_is_refused(tmp_path) -> None:
    with (tmp_path / "x").open("w") as file, pytest.raises(SerializationError, match="send its path"):
        dumps(file)


def test_a_value_too_deep_is_refused() -> None:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError):
        dumps(deep)
    with pytest.raises(SerializationError, match="argument 1"):
        dumps_call((deep,), {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80\x05",
        b"\xc1",
        b"\x91",
        dumps_call((1, "x"), {})[:-1],
        dumps(Point(1, 2))[:-1],
        dumps(Point(1, 2)).replace(b"users", b"nobody"[:5]),
        pickle.dumps(pickle.PickleBuffer(bytearray(4)), 5, buffer_callback=lambda _: False),
    ],
)
def test_what_cannot_be_decoded_is_an_error_with_its_cause(body: bytes) -> None:
    for load in (loads, loads_call, loads_batch):
        with pytest.raises(SerializationError, match="cannot decode") as caught:
            load(body)
        assert caught.value.__cause__ is not None


def test_arguments_that_are_none_are_an_error() -> None:
    for body in (dumps(5), dumps("text"), dumps([1])):
        with pytest.raises(SerializationError, match="the arguments of a call"):
            loads_call(body)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=60).filter(lambda data: data[:1] != b"\x80"))
def test_random_bytes_that_are_no_pickle_are_a_value_or_an_error(data: bytes) -> None:
    for load in (loads, loads_call):
        try:
            load(data)
        except SerializationError:
            pass
