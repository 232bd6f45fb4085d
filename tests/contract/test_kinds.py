"""Data of every kind arrives as what it was, small and large; what is large travels apart from its pickle."""

from __future__ import annotations

import array
import io
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Echo
from tests.contract.driving import both_drivers
from tests.contract.test_sharing import inode
from xoscar_sc.serialize import dumps, dumps_call

np = pytest.importorskip("numpy")

SMALL, LARGE = 16, 400_000
HEAD = 100_000
"""Bytes of a pickle whose data is elsewhere, at most: bits that tell what is missing may be in it."""
ROUNDS = 4
"""So often that what is first sent through the socket goes through memory as well."""


class Where(xsc.Actor):
    def file(self, value: Any, path: str) -> int:
        """What file a part of a value lies in, as an expression; 0 for memory of this process's own."""
        return inode(eval(path, {"v": value}))


def masked(n: int) -> Any:
    return np.ma.masked_array(np.arange(n), mask=np.arange(n) % 2 == 0, fill_value=7)


ARRAYS: dict[str, Callable[[int], Any]] = {
    "plain": np.arange,
    "fortran": lambda n: np.asfortranarray(np.arange(n * 1.0).reshape(4, -1)),
    "structured": lambda n: np.array([(1, 2.5, b"x")] * n, dtype=[("a", "i4"), ("b", "f8"), ("c", "S3")]),
    "0-d": lambda _: np.array(2.5),
    "empty": lambda _: np.zeros((0, 5)),
    "gaps": lambda n: np.arange(2 * n)[::2],
    "negative strides": lambda n: np.arange(n).reshape(-1, 4)[::-1, ::-1],
    "broadcast": lambda n: np.broadcast_to(np.arange(n // 4), (4, n // 4)),
    "objects": lambda n: np.array([{"a": 1}, None, "x", (1, 2)] * (n // 4), dtype=object),
    "big-endian": lambda n: np.arange(n).astype(">i4"),
    "masked": masked,
    "dates": lambda n: np.arange(n).astype("M8[ms]"),
    "spans": lambda n: np.arange(n).astype("m8[s]").reshape(4, -1).T,
    "text": lambda n: np.array(["text"] * n),
    "bytes": lambda n: np.array([b"bytes"] * n),
    "complex": lambda n: np.arange(n) * 1j,
    "half": lambda n: (np.arange(n) % 2000).astype("f2"),
    "records": lambda n: np.rec.array([(1, 2.5)] * n, dtype=[("a", "i4"), ("b", "f8")]),
    "scalar": lambda _: np.float32(1.5),
    "dtype": lambda _: np.dtype([("a", "i4")]),
}

APART = {"plain", "fortran", "structured", "big-endian", "dates", "spans", "text", "bytes", "complex", "half"}
"""Those that have their data in one piece."""


def assert_same_array(got: Any, value: Any) -> None:
    assert type(got) is type(value)
    if not isinstance(value, np.ndarray):
        assert got == value
        return
    assert (got.dtype, got.shape) == (value.dtype, value.shape)
    if value.flags.forc:
        assert (got.flags.c_contiguous, got.flags.f_contiguous) == (
            value.flags.c_contiguous,
            value.flags.f_contiguous,
        )
    if isinstance(value, np.ma.MaskedArray):
        assert (got.mask == value.mask).all()
        assert got.fill_value == value.fill_value
    assert (got == value).all()


@both_drivers
async def test_arrays_of_every_kind_arrive_as_what_they_were() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        for size in (SMALL, LARGE):
            for make in ARRAYS.values():
                value = make(size)
                for _ in range(ROUNDS):
                    assert_same_array(await echo.echo(value), value)
                assert_same_array((await echo.echo({"nested": [value]}))["nested"][0], value)


@pytest.mark.parametrize("name", sorted(APART))
def test_arrays_in_one_piece_travel_apart(name: str) -> None:
    for value in (ARRAYS[name](LARGE), [ARRAYS[name](LARGE)]):
        segments: list[memoryview] = []
        assert len(dumps(value, segments)) < HEAD
        assert sum(map(len, segments)) >= ARRAYS[name](LARGE).nbytes


def test_dates_among_other_data_travel_apart_too() -> None:
    value = {"a": [np.arange(LARGE), np.arange(LARGE).astype("M8[s]")], "b": "M8"}
    segments = [memoryview(b"other")]
    assert len(dumps_call((value, np.arange(LARGE).astype("m8[s]")), {}, segments)) < HEAD
    assert [len(each) for each in segments] == [5, *[8 * LARGE] * 3]


@both_drivers
async def test_what_has_a_buffer_arrives_as_what_it_was() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        for size in (64, 512 << 10):
            data = bytes(range(64)) * (size // 64)
            values: list[Any] = [
                data,
                bytearray(data),
                [data],
                {"a": bytearray(data)},
                array.array("d", data),
            ]
            for value in values:
                for _ in range(ROUNDS):
                    got = await echo.echo(value)
                    assert type(got) is type(value)
                    assert got == value
            for original in (data, bytearray(data)):
                whole = memoryview(original)
                views = [whole, whole[5:], whole[::2], whole[::-1], whole[:0]]
                views += [whole.cast(code) for code in "bBcdfhHiIlLqQn?"]
                views += [whole.cast("d", (2, size // 16)), whole.cast("B", (2, 2, size // 4))]
                views += [whole[:8].cast("d", ()), memoryview(array.array("q", data))]
                for view in views:
                    got = await echo.echo(view)
                    assert type(got) is memoryview
                    assert (got.format, got.shape, got.readonly) == (view.format, view.shape, view.readonly)
                    assert got.tobytes() == view.tobytes()


# pandas


def frames(pd: Any, n: int) -> dict[str, Any]:
    words = [f"word {number}" for number in range(n)]
    numbers = np.arange(n)
    return {
        "numbers": pd.DataFrame(
            {"a": numbers, "b": numbers * 1.5, "c": numbers % 2 == 0, "d": numbers.astype("i1")}
        ),
        "strings": pd.DataFrame({"s": words, "t": words[::-1]}),
        "missing strings": pd.Series([*words[:-1], None]),
        "categories": pd.Series(
            pd.Categorical(["b", "a", None, "c"] * (n // 4), categories=["c", "b", "a"], ordered=True)
        ),
        "nullable": pd.Series(pd.array([*range(n - 1), None], dtype="Int64")),
        "booleans": pd.Series(pd.array([True, None] * (n // 2), dtype="boolean")),
        "dates": pd.DataFrame({"d": pd.date_range("2020", periods=n, freq="s"), "n": numbers}),
        "zones": pd.Series(pd.date_range("2020", periods=n, freq="s", tz="Europe/Vienna")),
        "spans": pd.Series(pd.timedelta_range("1s", periods=n, freq="s")),
        "periods": pd.Series(pd.period_range("2020", periods=n, freq="h")),
        "intervals": pd.Series(pd.interval_range(0, n)),
        "sparse": pd.Series(pd.arrays.SparseArray(numbers)),
        "two levels": pd.DataFrame(
            {"v": numbers}, index=pd.MultiIndex.from_product([range(n // 4), list("abcd")])
        ),
        "dates as index": pd.DataFrame({"v": numbers}, index=pd.date_range("2020", periods=n, freq="s")),
        "a view": pd.DataFrame({"a": numbers, "b": numbers, "c": numbers})[["a", "c"]][1:],
    }


def objects(pd: Any, n: int) -> Any:
    return pd.DataFrame({"o": pd.Series([{"a": 1}, (1, 2), None, "x"] * (n // 4), dtype=object)})


async def comes_by_memory(where: Any, value: Any, part: str) -> None:
    """Send a value until a part of it lies in memory: the first ones go through the socket."""
    with anyio.fail_after(30):
        while not await where.file(value, part):
            await anyio.lowlevel.checkpoint()


def assert_same_frame(pd: Any, got: Any, value: Any) -> None:
    assert type(got) is type(value)
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(got, value, check_exact=True, check_freq=True)
    else:
        pd.testing.assert_series_equal(got, value, check_exact=True, check_freq=True)


@both_drivers
async def test_frames_and_series_arrive_as_what_they_were() -> None:
    pd = pytest.importorskip("pandas")
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        for size in (SMALL, LARGE // 2):
            for value in [*frames(pd, size).values(), objects(pd, size)]:
                for _ in range(ROUNDS if size == LARGE // 2 else 1):
                    assert_same_frame(pd, await echo.echo(value), value)


def test_frames_and_series_travel_apart() -> None:
    pd = pytest.importorskip("pandas")
    for name, value in frames(pd, LARGE).items():
        segments: list[memoryview] = []
        assert len(dumps(value, segments)) < HEAD, name
        assert sum(map(len, segments)) >= LARGE, name


@both_drivers
async def test_the_columns_of_a_frame_lie_in_memory_of_both_pools() -> None:
    pd = pytest.importorskip("pandas")
    async with xsc.open_pool_nursery(pools=1) as n:
        where = await n.create_actor(Where)
        frame = pd.DataFrame({"a": np.arange(LARGE), "d": pd.date_range("2020", periods=LARGE, freq="s")})
        for column, kind in (("a", ""), ("d", ".view('i8')")):
            await comes_by_memory(where, frame, f"v[{column!r}].to_numpy(){kind}")
        shared = xsc.share(np.arange(LARGE))
        frame = pd.DataFrame({"a": shared}, copy=False)
        assert await where.file(frame, "v['a'].to_numpy()") == inode(shared)


# Arrow


def tables(pa: Any, n: int) -> dict[str, Any]:
    words = [f"word {number}" for number in range(n)]
    numbers = np.arange(n)
    plain = pa.table({"a": numbers, "s": words, "l": pa.array([[1, 2], None] * (n // 2))})
    return {
        "table": plain,
        "with metadata": plain.replace_schema_metadata({"made": "here"}),
        "a part of it": plain.slice(3, n - 5),
        "batch": pa.record_batch({"a": numbers, "b": numbers * 1.5}),
        "array": pa.array(numbers),
        "with gaps": pa.array([*range(n - 1), None]),
        "words": pa.array(words),
        "dictionary": pa.array(["a", "b", None, "c"] * (n // 4)).dictionary_encode(),
        "structs": pa.array([{"x": 1, "y": 2.5}, None] * (n // 2)),
        "moments": pa.array(numbers.astype("M8[ms]")),
        "chunks": pa.chunked_array([numbers, numbers]),
        "buffer": pa.py_buffer(numbers),
    }


@both_drivers
async def test_tables_batches_and_buffers_arrive_as_what_they_were() -> None:
    pa = pytest.importorskip("pyarrow")
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        for size in (SMALL, LARGE // 2):
            values = tables(pa, size)
            for name, value in values.items():
                for _ in range(ROUNDS if size > SMALL else 1):
                    got = await echo.echo(value)
                    assert type(got) is type(value)
                    assert got.equals(value), name
                    if hasattr(value, "schema"):
                        assert got.schema.equals(value.schema, check_metadata=True)
                    if hasattr(value, "validate"):
                        got.validate(full=True)


def test_tables_batches_and_buffers_travel_apart() -> None:
    pa = pytest.importorskip("pyarrow")
    for name, value in tables(pa, LARGE).items():
        segments: list[memoryview] = []
        assert len(dumps(value, segments)) < HEAD, name
        assert sum(map(len, segments)) >= LARGE, name


@both_drivers
async def test_the_columns_of_a_table_lie_in_memory_of_both_pools() -> None:
    pa = pytest.importorskip("pyarrow")
    async with xsc.open_pool_nursery(pools=1) as n:
        where = await n.create_actor(Where)
        table = pa.table({"a": np.arange(LARGE)})
        await comes_by_memory(where, table, "v['a'].chunk(0).to_numpy()")
        shared = xsc.share(np.arange(LARGE))
        for part in (pa.array(shared), pa.array(shared).slice(10_000)):
            table = pa.table({"a": part})
            assert await where.file(table, "v['a'].chunk(0).to_numpy()") == inode(shared)
        whole = io.BytesIO()
        with pa.ipc.new_stream(whole, table.schema) as writer:
            writer.write_table(table)
        file = xsc.share(whole.getvalue())
        table = pa.ipc.open_stream(pa.py_buffer(file)).read_all()
        assert await where.file(table, "v['a'].chunk(0).to_numpy()") == inode(file)
