"""Large values keep their content and their type, whichever way they go, and whoever holds them for how long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Echo
from tests.contract.driving import both_drivers, causes, count

KIB = 1 << 10
MIB = 1 << 20
ROUNDS = 6
"""So often that what is first sent through the socket goes through memory as well."""


def pattern(number: int, size: int = MIB) -> bytearray:
    return bytearray(number.to_bytes(4, "little") * (size // 4))


class Store(xsc.Actor):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def keep(self, value: Any) -> None:
        self.values.append(value)

    def take(self, value: Any) -> int:
        return len(value)

    def kept(self, index: int) -> Any:
        return self.values[index]

    def numbers(self) -> list[bytes]:
        return [bytes(value[:4]) + bytes(value[-4:]) for value in self.values]

    def clear(self) -> None:
        self.values.clear()

    def overwrite(self, value: Any) -> Any:
        value[:4] = b"mine"
        return value

    def view(self, value: Any) -> memoryview:
        return memoryview(value)

    def make(self, number: int, size: int = MIB) -> bytearray:
        return pattern(number, size)

    async def pass_on(self, other: xsc.ActorRef[Store], value: Any) -> Any:
        await other.keep(value)
        return await other.kept(-1)

    async def hang(self, _value: Any) -> None:
        await anyio.sleep_forever()

    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def memory(self) -> int:
        return resident(os.getpid())


def resident(pid: int) -> int:
    """Bytes of a process that are in memory, shared ones too."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4 * KIB


@both_drivers
async def test_large_values_of_each_type_survive() -> None:
    data = os.urandom(MIB)
    values = [data, bytearray(data), [data, bytearray(data[: 300 * KIB]), "between", data], {"key": data}]
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        for _ in range(ROUNDS):
            for value in values:
                back = await echo.echo(value)
                assert type(back) is type(value)
                assert back == value
            for view in (
                memoryview(data),
                memoryview(data).cast("i"),
                memoryview(data).cast("B", (1024, 1024)),
            ):
                back = await echo.echo(view)
                assert type(back) is memoryview
                assert (back.format, back.shape, back.readonly) == (view.format, view.shape, True)
                assert back == view
            back = await echo.echo(memoryview(bytearray(data)))
            assert not back.readonly
            assert back == data


@both_drivers
async def test_values_about_the_sizes_where_the_way_changes_survive() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        for size in (64 * KIB, 128 * KIB, 256 * KIB, MIB):
            for length in (size - 1, size, size + 1):
                for number in range(4):
                    data = bytes([number]) * (length - 1) + b"."
                    assert await echo.echo(data) == data


@both_drivers
async def test_arrays_of_each_kind_survive() -> None:
    np = pytest.importorskip("numpy")
    arrays = [
        np.arange(300_000),
        np.asfortranarray(np.arange(300_000.0).reshape(300, 1000)),
        np.arange(600_000)[::2],
        np.arange(300_000).reshape(300, 1000).T[5:, ::3],
        np.zeros(100_000, dtype=[("a", "i4"), ("b", "f8"), ("c", "S3")]),
        np.arange(300_000).astype("M8[s]"),
        np.arange(300_000).astype(">i4"),
        np.array(["text"] * 100_000),
        np.array(5), np.zeros(0), np.zeros((0, 1000)), np.array(None),
        np.array([{"a": 1}, None, "x"] * 50_000, dtype=object),
    ]  # fmt: skip
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        for _ in range(ROUNDS):
            for array in arrays:
                back = await echo.echo(array)
                assert type(back) is type(array)
                assert back.dtype == array.dtype
                assert back.shape == array.shape
                assert back.flags.f_contiguous == array.flags.f_contiguous or not array.flags.contiguous
                assert (back == array).all()
                assert back.flags.writeable
        frozen = np.arange(300_000)
        frozen.flags.writeable = False
        for _ in range(ROUNDS):
            assert not (await echo.echo(frozen)).flags.writeable


@both_drivers
async def test_what_an_actor_keeps_stays_as_it_was() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        store = await n.create_actor(Store)
        for number in range(5):
            await store.keep(pattern(number))
        for number in range(100):
            await store.take(memoryview(pattern(1000 + number)))
        for number in range(5):
            assert await store.kept(number) == pattern(number)
        for number in range(5, 60):  # more than there is memory for
            await store.keep(pattern(number))
        assert await store.numbers() == [bytes(pattern(number)[:8]) for number in range(60)]


@both_drivers
async def test_views_that_an_actor_keeps_stay_as_they_were() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        store = await n.create_actor(Store)
        for number in range(60):
            await store.keep(memoryview(pattern(number)))
            await store.take(memoryview(pattern(1000 + number)))
        assert await store.numbers() == [bytes(pattern(number)[:8]) for number in range(60)]
        await store.clear()
        for number in range(60):
            await store.keep(memoryview(pattern(number)))
        assert await store.numbers() == [bytes(pattern(number)[:8]) for number in range(60)]


@both_drivers
async def test_what_a_caller_keeps_stays_as_it_was_even_when_the_pool_is_gone() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        store = await n.create_actor(Store)
        kept = []
        for number in range(60):
            await store.keep(memoryview(pattern(number)))
            kept.append(await store.kept(number))
            await store.make(1000 + number)
        assert [bytes(each) for each in kept] == [bytes(pattern(number)) for number in range(60)]
    assert [bytes(each) for each in kept] == [bytes(pattern(number)) for number in range(60)]
    kept.clear()


@both_drivers
async def test_what_the_sender_does_after_a_tell_makes_no_difference() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        store = await n.create_actor(Store)
        data = bytearray(MIB)
        for number in range(30):
            data[:] = pattern(number)
            await store.keep.tell(memoryview(data))
            data[:] = b"\xff" * MIB
        assert await store.numbers() == [bytes(pattern(number)[:8]) for number in range(30)]


@both_drivers
async def test_who_writes_to_what_he_has_received_changes_nothing_elsewhere() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Store, pool="pool-1")
        second = await n.create_actor(Store, pool="pool-2")
        for number in range(ROUNDS):
            data = pattern(number)
            one = await first.overwrite(memoryview(data))
            other = await second.view(data)
            assert data == pattern(number)
            assert bytes(one) == b"mine" + pattern(number)[4:]
            one[:4] = b"both"
            assert other == data


@both_drivers
async def test_several_pools_hold_and_hand_on_the_same_array() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Store, pool="pool-1")
        second = await n.create_actor(Store, pool="pool-2")
        for number in range(30):
            back = await first.pass_on(second, memoryview(pattern(number)))
            assert back == pattern(number)
            await first.keep(memoryview(pattern(100 + number)))
        assert await second.numbers() == [bytes(pattern(number)[:8]) for number in range(30)]
        assert await first.numbers() == [bytes(pattern(100 + number)[:8]) for number in range(30)]


@both_drivers
async def test_many_callers_at_once_get_their_own() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)

        async def ask(number: int) -> None:
            for turn in range(5):
                data = pattern(number * 5 + turn, 512 * KIB)
                assert await echo.echo_later(memoryview(data)) == data

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(ask, number)


@both_drivers
async def test_values_of_a_stream_are_large() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        source = await n.create_actor(Source)
        number = 0
        kept = []
        async for value in source.give(50):
            assert value == pattern(number)
            kept.append(value[:8])
            number += 1
        assert number == 50
        assert [bytes(each) for each in kept] == [bytes(pattern(number)[:8]) for number in range(50)]


@both_drivers
async def test_large_tells_are_run_before_their_nursery_ends(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        writer = await n.create_actor(Writer)
        for number in range(4):
            await writer.write.tell(str(tmp_path / str(number)), bytes(40 * MIB))
    assert sorted(int(each.name) for each in tmp_path.iterdir()) == [0, 1, 2, 3]


class Writer(xsc.Actor):
    def write(self, path: str, value: bytes) -> None:
        Path(path).write_text(str(len(value)))


class Source(xsc.Actor):
    async def give(self, values: int) -> Any:
        for number in range(values):
            yield memoryview(pattern(number))


@both_drivers
async def test_a_cancelled_call_gives_its_memory_back() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        store = await n.create_actor(Store)
        for number in range(60):
            with anyio.move_on_after(0.005):
                await store.hang(pattern(number))
        for number in range(20):
            await store.keep(memoryview(pattern(number)))
        assert await store.numbers() == [bytes(pattern(number)[:8]) for number in range(20)]


@both_drivers
async def test_a_pool_that_is_killed_takes_nothing_along() -> None:
    kept: list[Any] = []
    shared = sorted(os.listdir("/dev/shm"))
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=2) as n:
            first = await n.create_actor(Store, pool="pool-1")
            second = await n.create_actor(Store, pool="pool-2")
            for number in range(10):
                await first.keep(memoryview(pattern(number)))
                await second.keep(memoryview(pattern(number)))
                await second.pass_on(first, memoryview(pattern(20 + number)))
                kept.append(await first.kept(-1))
            with anyio.CancelScope(shield=True):
                try:
                    async with anyio.create_task_group() as group:
                        for number in range(20):
                            group.start_soon(first.hang, pattern(number))
                        await second.numbers()
                        os.kill(n.pools["pool-1"].pid, signal.SIGKILL)
                except* xsc.PoolDied:
                    pass
            assert [bytes(each[:8]) for each in kept] == [bytes(pattern(20 + each)[:8]) for each in range(10)]
            with anyio.CancelScope(shield=True):
                numbers = await second.numbers()
            assert numbers[:10] == [bytes(pattern(number)[:8]) for number in range(10)]
    assert all(isinstance(each, xsc.PoolDied) for each in causes(caught.value))
    assert bytes(kept[3]) == pattern(23)
    kept.clear()
    assert sorted(os.listdir("/dev/shm")) == shared


def test_a_root_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "killed.py"
    source.write_text(
        "import os, signal, trio, xoscar_sc as xsc\n"
        "from tests.contract.test_arrays import Store, pattern\n"
        "async def main():\n"
        "    async with xsc.open_pool_nursery(pools=1) as n:\n"
        "        store = await n.create_actor(Store)\n"
        "        for number in range(10):\n"
        "            await store.keep(memoryview(pattern(number)))\n"
        "        await store.keep.tell(memoryview(pattern(10, 8 << 20)))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "trio.run(main)\n"
    )
    shared = sorted(os.listdir("/dev/shm"))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(source)], env=env, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir("/dev/shm")) == shared


@both_drivers
async def test_memory_stays_flat() -> None:
    messages = count("XSC_LARGE_MESSAGES", 2000)
    async with xsc.open_pool_nursery(pools=1) as n:
        store = await n.create_actor(Store)
        data = pattern(1)
        for _ in range(messages // 10):
            await store.view(data)
        here, there, open_there = resident(os.getpid()), await store.memory(), await store.descriptors()
        for number in range(messages):
            if number % 2:
                await store.take.tell(data)
            else:
                assert len(await store.view(data)) == MIB
        await store.take(b"")
        assert resident(os.getpid()) < here + 40 * MIB
        assert await store.memory() < there + 40 * MIB
        assert await store.descriptors() < open_there + 70


@both_drivers
async def test_descriptors_are_as_before_when_the_nursery_has_ended() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    async with xsc.open_pool_nursery(pools=2) as n:
        for pool in ("pool-1", "pool-2"):
            echo = await n.create_actor(Echo, pool=pool)
            for number in range(10):
                for size in (256 * KIB, MIB, 5 * MIB):
                    assert await echo.echo(pattern(number, size)) == pattern(number, size)
        assert len(os.listdir("/proc/self/fd")) > len(before)
    assert sorted(os.listdir("/proc/self/fd")) == before
