"""Bulk copies arrive whole, or not at all without an error, and leave nothing behind."""

from __future__ import annotations

import gc
import io
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, causes, until

np = pytest.importorskip("numpy")

MIB = 1 << 20


class Holder(xsc.Actor):
    """Has buffers and files that others copy into."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def buffer(self, kind: str, size: int) -> xsc.BufferRef:
        made: Any = {
            "array": lambda: np.zeros(size, "u1"),
            "floats": lambda: np.zeros((size // 80, 10), order="F"),
            "dates": lambda: np.zeros(size // 8, "M8[s]"),
            "bytearray": lambda: bytearray(size),
            "memoryview": lambda: memoryview(bytearray(size)),
            "shared": lambda: xsc.share(np.zeros(size, "u1"), writable=True),
        }[kind]()
        self.values.append(made)
        return xsc.buffer_ref(self.address, made)

    def file(self, path: str, mode: str = "wb", buffering: int = -1) -> xsc.FileObjectRef:
        self.values.append(open(path, mode, buffering))  # noqa: SIM115 - it is closed later
        return xsc.file_object_ref(self.address, self.values[-1])

    def memory_file(self) -> xsc.FileObjectRef:
        self.values.append(io.BytesIO())
        return xsc.file_object_ref(self.address, self.values[-1])

    async def async_file(self, path: str) -> xsc.FileObjectRef:
        self.values.append(await anyio.open_file(path, "wb"))
        return xsc.file_object_ref(self.address, self.values[-1])

    def content(self, index: int = -1) -> bytes:
        value = self.values[index]
        return value.getvalue() if isinstance(value, io.BytesIO) else bytes(value)

    def value(self, index: int = -1) -> Any:
        return self.values[index]

    def drop(self) -> int:
        while self.values:
            value = self.values.pop()
            if isinstance(value, io.IOBase):
                value.close()
            del value
        gc.collect()
        return self.references()

    async def close(self, index: int = -1) -> None:
        self.values[index].close()

    def references(self) -> int:
        from xoscar_sc.runtime import running_runtime

        runtime = running_runtime()
        assert runtime is not None
        return len(runtime.targets)

    def release(self, ref: Any) -> int:
        ref.release()
        return self.references()

    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    async def copy(self, data: Any, ref: Any, **kwargs: Any) -> None:
        await xsc.copy_to([data], [ref], **kwargs)


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_buffers_of_each_kind_are_copied_in_blocks_of_any_size(pools: int) -> None:
    data = os.urandom(3 * MIB)
    async with xsc.open_pool_nursery(pools=pools) as n:
        holder = await n.create_actor(Holder)
        for kind in ("array", "bytearray", "memoryview", "shared"):
            for block_size in (None, 1 << 16, 300_001, 10 * MIB):
                ref = await holder.buffer(kind, 3 * MIB)
                await xsc.copy_to([data], [ref], block_size)
                assert await holder.content() == data
        for source in (bytearray(data), memoryview(data).cast("d"), np.frombuffer(data, "f4").reshape(2, -1)):
            ref = await holder.buffer("array", 3 * MIB)
            await xsc.copy_to([source], [ref])
            assert await holder.content() == data
        fortran = np.asfortranarray(np.arange(100_000.0).reshape(-1, 10))
        await xsc.copy_to([fortran], [await holder.buffer("floats", fortran.nbytes)], block_size=70_000)
        assert (await holder.value() == fortran).all()
        dates = np.arange(100_000).astype("M8[s]")
        await xsc.copy_to([dates], [await holder.buffer("dates", dates.nbytes)])
        assert (await holder.value() == dates).all()
        assert await holder.drop() == 4  # the bytearrays: nobody can tell that they have gone


@both_drivers
async def test_several_buffers_go_to_several_pools_at_once() -> None:
    async with xsc.open_pool_nursery(pools=3) as n:
        holders = [await n.create_actor(Holder, pool=f"pool-{number}") for number in (1, 2, 3)]
        data = [os.urandom(size) for size in (0, 1, 1000, MIB, 5 * MIB, 2 * MIB)]
        refs = [
            await holders[number % 3].buffer("array", len(each) + number) for number, each in enumerate(data)
        ]
        steps: list[tuple[int, int | None]] = []
        await xsc.copy_to(data, refs, 300_000, progress=lambda done, total: steps.append((done, total)))
        for number, each in enumerate(data):
            assert await holders[number % 3].content(number // 3) == each + bytes(number)
        total = sum(map(len, data))
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1] == (total, total)
        await xsc.copy_to([], [])


@both_drivers
async def test_files_and_buffers_are_copied_into_files(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 17)
    source = tmp_path / "source"
    source.write_bytes(b"skip" + data)
    async with xsc.open_pool_nursery(pools=1) as n:
        holder = await n.create_actor(Holder)
        steps: list[tuple[int, int | None]] = []
        for ref, path in (
            (await holder.file(str(tmp_path / "one")), tmp_path / "one"),
            (await holder.file(str(tmp_path / "two"), "wb", 0), tmp_path / "two"),
            (await holder.async_file(str(tmp_path / "three")), tmp_path / "three"),
        ):
            with source.open("rb") as file:
                file.seek(4)
                await xsc.copy_to([file], [ref], 100_000, progress=lambda *step: steps.append(step))
                assert steps[-1] == (len(data), len(data))
                assert file.tell() == 4 + len(data)
            assert path.read_bytes() == data  # it has been flushed
            await xsc.copy_to([b"more"], [ref])
            assert path.read_bytes() == data + b"more"
        ref = await holder.memory_file()
        async with await anyio.open_file(source, "rb") as asynchronous:
            await xsc.copy_to([asynchronous], [ref])
        assert await holder.content() == b"skip" + data
        target = await holder.buffer("array", len(data) + 4)
        await xsc.copy_to([io.BytesIO(b"skip" + data)], [target], 1_000_000)
        assert await holder.content() == b"skip" + data
        await holder.drop()


@both_drivers
async def test_a_source_without_a_known_size_is_copied_to_its_end() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        holder = await n.create_actor(Holder)
        steps: list[tuple[int, int | None]] = []
        for room, fits in ((8, True), (5, False)):
            reading, writing = os.pipe()
            with os.fdopen(reading, "rb") as file:
                os.write(writing, b"12345678")
                os.close(writing)
                ref = await holder.buffer("array", room)
                if fits:
                    await xsc.copy_to([file], [ref], 3, progress=lambda *step: steps.append(step))
                    assert await holder.content() == b"12345678"
                else:
                    with pytest.raises(ValueError, match="more than 5 bytes"):
                        await xsc.copy_to([file], [ref], 3)
        assert steps == [(3, None), (6, None), (8, None)]


@both_drivers
async def test_pools_copy_to_the_root_and_to_each_other() -> None:
    data = os.urandom(2 * MIB)
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Holder, pool="pool-1")
        second = await n.create_actor(Holder, pool="pool-2")
        here = np.zeros(2 * MIB, "u1")
        ref = xsc.buffer_ref(xsc.current_pool().address, here)
        assert pickle.loads(pickle.dumps(ref)) == ref
        assert len({ref, pickle.loads(pickle.dumps(ref))}) == 1
        await first.copy(data, ref)
        assert here.tobytes() == data
        await first.copy(xsc.share(data), await second.buffer("array", 2 * MIB), block_size=MIB)
        assert await second.content() == data


@both_drivers
async def test_what_cannot_be_copied_is_an_error_that_says_why(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        holder = await n.create_actor(Holder)
        address = xsc.current_pool().address
        ref = await holder.buffer("array", 10)
        for local, remote, kind, text in [
            ([b"x"], [], ValueError, "1 buffers are to be copied into 0"),
            ([b"x" * 11], [ref], ValueError, "11 bytes are to be copied into buffer 0, which has 10"),
            ([5], [ref], TypeError, "int is no contiguous buffer"),
            ([np.zeros(8, "u1")[::2]], [ref], TypeError, "no contiguous buffer"),
            ([b"x"], [holder], TypeError, "target 0 is"),
            ([io.StringIO("x")], [ref], TypeError, "as text"),
        ]:
            with pytest.raises(kind, match=text):
                await xsc.copy_to(local, remote)
        for size in (0, -1, True, 1.5):
            with pytest.raises(ValueError, match="block_size"):
                await xsc.copy_to([b"x"], [ref], size)  # type: ignore[arg-type]
        frozen = np.zeros(8)
        frozen.flags.writeable = False
        for buffer, kind, text in [
            (b"bytes", ValueError, "read-only"),
            (frozen, ValueError, "read-only"),
            (xsc.share(np.zeros(MIB)), ValueError, "read-only"),
            ("text", TypeError, "no contiguous buffer"),
        ]:
            with pytest.raises(kind, match=text):
                xsc.buffer_ref(address, buffer)
        with pytest.raises(ValueError, match="made in the pool of what it names"):
            xsc.buffer_ref(holder.address, bytearray(5))
        path = tmp_path / "file"
        path.write_bytes(b"content")
        with path.open("rb") as file:
            with pytest.raises(ValueError, match="not open for writing"):
                xsc.file_object_ref(address, file)
        with pytest.raises(ValueError, match="closed"):
            xsc.file_object_ref(address, file)
        with pytest.raises(ValueError, match="closed"):
            await xsc.copy_to([file], [ref])
        with path.open("w") as text_file, pytest.raises(TypeError, match="as text"):
            xsc.file_object_ref(address, text_file)
        with pytest.raises(TypeError, match=r"no write\(\)"):
            xsc.file_object_ref(address, 5)
        ref = await holder.file(str(path), "wb")
        await holder.close()
        with pytest.raises(ValueError, match="closed"):
            await xsc.copy_to([b"x"], [ref])
        full = await holder.file("/dev/full", "wb", 0)
        with pytest.raises(OSError, match="No space left"):
            await xsc.copy_to([bytes(MIB)], [full], 1000)


def test_without_a_pool_there_is_no_reference() -> None:
    with pytest.raises(xsc.XoscarError, match="no pool nursery"):
        xsc.buffer_ref("unix:///nowhere.sock", bytearray(5))


@both_drivers
async def test_a_reference_is_good_for_as_long_as_its_object_lives() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        holder = await n.create_actor(Holder)
        for kind in ("array", "memoryview", "shared"):
            ref = await holder.buffer(kind, 10)
            assert await holder.drop() == 0
            with pytest.raises(ReferenceError, match="gone, or was released"):
                await xsc.copy_to([b"x"], [ref])
        ref = await holder.buffer("bytearray", 10)
        assert await holder.drop() == 1  # nobody can tell that it has gone
        await xsc.copy_to([b"x"], [ref])
        ref.release()  # it is no business of this process's
        await xsc.copy_to([b"x"], [ref])
        assert await holder.release(ref) == 0
        with pytest.raises(ReferenceError):
            await xsc.copy_to([b"x"], [ref])
        unknown = xsc.FileObjectRef(ref.address, 10**6)
        with pytest.raises(ReferenceError, match="the file"):
            await xsc.copy_to([b"x"], [unknown])


@both_drivers
async def test_a_copy_that_is_cancelled_or_fails_leaves_nothing_open() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        holder = await n.create_actor(Holder)
        ref = await holder.buffer("array", 64 * MIB)
        data = np.zeros(64 * MIB, "u1")
        await xsc.copy_to([data[:MIB]], [ref])
        before = len(os.listdir("/proc/self/fd")), await holder.descriptors()

        class Enough(Exception):
            pass

        def stop(done: int, total: int | None) -> None:
            if done > 5 * MIB:
                raise Enough

        for _ in range(3):
            with pytest.raises(Enough):
                await xsc.copy_to([data], [ref], MIB, progress=stop)
            with anyio.CancelScope() as scope:
                await xsc.copy_to(
                    [data], [ref], MIB, progress=lambda done, _: done > 5 * MIB and scope.cancel()
                )
            assert scope.cancelled_caught
        data[:] = 7
        await xsc.copy_to([data], [ref])
        assert (await holder.value())[-1] == 7
        assert len(os.listdir("/proc/self/fd")) <= before[0] + 64
        assert await holder.descriptors() <= before[1] + 64


@both_drivers
async def test_a_pool_that_dies_meanwhile_is_an_error_at_once() -> None:
    data = np.zeros(64 * MIB, "u1")
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            holder = await n.create_actor(Holder)
            ref = await holder.buffer("array", 64 * MIB)
            pid = n.pools["pool-1"].pid

            def kill(done: int, _: int | None) -> None:
                if done == 8 * MIB:
                    os.kill(pid, signal.SIGKILL)

            with anyio.CancelScope(shield=True):
                with pytest.raises(xsc.PoolDied):
                    await xsc.copy_to([data], [ref], MIB, progress=kill)
                with pytest.raises(xsc.PoolDied):
                    await xsc.copy_to([data], [ref])
    assert all(isinstance(each, xsc.PoolDied) for each in causes(caught.value))


@both_drivers
async def test_memory_is_bounded_however_slow_the_target_is(tmp_path: Path) -> None:
    """The reading end of a pipe is slow: a few blocks wait, and not all of them."""
    os.mkfifo(tmp_path / "pipe")
    async with xsc.open_pool_nursery(pools=1) as n:
        holder = await n.create_actor(Holder)
        reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        ref = await holder.file(str(tmp_path / "pipe"), "wb", 0)
        source = Counting(100 * MIB)
        done = []
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: xsc.copy_to([source], [ref], MIB, progress=lambda *step: done.append(step))
            )
            await until(lambda: source.read_so_far >= 5 * MIB)
            await anyio.sleep(0.1)  # what would be wrong is that more comes
            assert source.read_so_far <= 6 * MIB
            os.set_blocking(reading, True)
            got = 0
            while got < 100 * MIB:
                got += len(await anyio.to_thread.run_sync(os.read, reading, MIB))
        assert done[-1][0] == 100 * MIB
        os.close(reading)


class Counting:
    """A file of zeros that counts what is read of it."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.read_so_far = 0

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        self.left -= size
        self.read_so_far += size
        return bytes(size)
