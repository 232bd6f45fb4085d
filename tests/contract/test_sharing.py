"""What has been shared is looked at where it lies, by everybody, for as long as anybody does."""

from __future__ import annotations

import array
import errno
import gc
import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, causes, until
from xoscar_sc.ipc.shared import address_of, table

np = pytest.importorskip("numpy")

MIB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_stays_shared() -> Iterator[None]:
    gc.collect()
    before = len(table()), sorted(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert (len(table()), sorted(os.listdir("/proc/self/fd"))) == before


def inode(value: Any) -> int:
    """What file an array lies in; 0 for memory of this process's own."""
    address = value.ctypes.data if hasattr(value, "ctypes") else address_of(value)
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(each, 16) for each in line.split()[0].split("-"))
        if start <= address < end:
            return int(line.split()[4])
    raise AssertionError(f"{address:x} is not mapped")


def mapped(number: int) -> int:
    """How often this process has mapped a file."""
    return sum(line.split()[4] == str(number) for line in Path("/proc/self/maps").read_text().splitlines())


class Keeper(xsc.Actor):
    def __init__(self) -> None:
        self.values: list[Any] = []

    def where(self, *values: Any, **more: Any) -> list[int]:
        return [inode(each) for each in (*values, *more.values())]

    def keep(self, value: Any) -> int:
        self.values.append(value)
        return inode(value)

    def where_in(self, value: dict[str, list[Any]]) -> list[int]:
        return [inode(each) for each in value["arrays"]]

    def kept(self, index: int = -1) -> Any:
        return self.values[index]

    def summed(self, index: int = -1) -> Any:
        return self.values[index].sum()

    def facts(self, value: Any) -> tuple[Any, ...]:
        return inode(value), str(value.dtype), value.shape, value.flags.fnc, value.flags.writeable, value

    def try_to_write(self, value: Any) -> str:
        try:
            value[0] = 1
        except ValueError as exc:
            return str(exc)
        return "written"

    def make(self, number: int, size: int = MIB) -> Any:
        self.values.append(xsc.share(np.full(size, number, "u1")))
        return self.values[-1]

    def clear(self) -> None:
        self.values.clear()

    def mapped(self, number: int) -> int:
        gc.collect()
        return mapped(number)

    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    async def pass_on(self, other: xsc.ActorRef[Keeper], value: Any) -> int:
        found: int = await other.keep(value)
        return found

    async def pieces(self, count: int) -> Any:
        whole = xsc.share(np.arange(count * MIB // 8))
        for number in range(count):
            yield whole[number * MIB // 8 : (number + 1) * MIB // 8]

    def starve(self, free: int) -> None:
        """Leave this process with so many more descriptors than it has; -1 for no limit."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        last = max(int(each) for each in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1] if free < 0 else last + free, limits[1]))


async def settled(method: Any, most: int, *args: Any) -> None:
    """Wait until a method of an actor gives no more than this."""
    with anyio.fail_after(20):
        while await method(*args) > most:  # noqa: ASYNC110 - another process does not tell when
            await anyio.sleep(0.01)


@both_drivers
async def test_what_is_shared_is_not_copied_to_any_number_of_receivers() -> None:
    async with xsc.open_pool_nursery(pools=3) as n:
        keepers = [await n.create_actor(Keeper, pool=f"pool-{number}") for number in (1, 2, 3)]
        data = xsc.share(np.arange(MIB))
        for keeper in keepers:
            for _ in range(2):
                assert await keeper.where(data, more=data[1000:]) == [inode(data)] * 2
                assert await keeper.where_in({"arrays": [data, data[5:50_000]]}) == [inode(data)] * 2
            assert await keeper.keep.batch(keeper.keep.delay(data)) == [inode(data)]
            await keeper.keep.tell(data[77:])
            assert await keeper.summed() == data[77:].sum()
            back = await keeper.kept()
            assert inode(back) == inode(data)
            assert (back == data[77:]).all()
            assert not back.flags.writeable
        assert mapped(inode(data)) == 1


@both_drivers
async def test_values_of_streams_and_results_that_are_shared_are_not_copied() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        keeper = await n.create_actor(Keeper)
        number, files = 0, set()
        async for piece in keeper.pieces(20):
            assert (piece == np.arange(number * MIB // 8, (number + 1) * MIB // 8)).all()
            files.add(inode(piece))
            number += 1
        assert number == 20
        assert len(files - {0}) == 1
        made = await keeper.make(7)
        assert inode(made) == inode(await keeper.kept())
        assert (made == 7).all()
        del made, piece


@both_drivers
async def test_a_dialogue_carries_what_is_shared() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        data = xsc.share(np.arange(MIB))
        async with n.pools["pool-1"].open_context(halves, data) as (ctx, first):
            assert first == inode(data)
            async with ctx.open_stream() as stream:
                for start in range(0, 100, 10):
                    await stream.send(data[start:])
                    file, back = await stream.receive()
                    assert file == inode(back) == inode(data)
                    assert back[0] == start
                del back


@xsc.context
async def halves(ctx: xsc.Context, data: Any) -> None:
    await ctx.started(inode(data))
    async with ctx.open_stream() as stream:
        async for each in stream:
            await stream.send((inode(each), each[: len(each) // 2]))


@both_drivers
async def test_arrays_of_each_kind_arrive_as_they_are() -> None:
    arrays = [
        np.arange(300_000),
        np.asfortranarray(np.arange(300_000.0).reshape(300, 1000)),
        np.arange(600_000)[::2],
        np.arange(600_000)[::-1],
        np.arange(300_000).reshape(300, 1000).T[5:, ::3],
        np.zeros(100_000, dtype=[("a", "i4"), ("b", "f8"), ("c", "S3")]),
        np.zeros((100_000,), dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.arange(300_000).astype(">i4"),
        np.array(["text"] * 100_000),
        np.arange(300_000) % 2 == 0,
        np.arange(300_000).astype("c16").reshape(3, 100, 1000),
    ]
    async with xsc.open_pool_nursery(pools=1) as n:
        keeper = await n.create_actor(Keeper)
        for original in arrays:
            shared = xsc.share(original)
            assert (shared.dtype, shared.shape) == (original.dtype, original.shape)
            assert shared.flags.fnc == original.flags.fnc
            file, dtype, shape, fortran, writeable, back = await keeper.facts(shared)
            assert (file, dtype, shape) == (inode(shared), str(original.dtype), original.shape)
            assert fortran == original.flags.fnc
            assert not writeable
            assert (back == original).all()
            assert inode(back) == file
        moments = xsc.share(np.arange(300_000).astype("M8[s]"))
        assert ((await keeper.facts(moments))[-1] == moments).all()
        for small in (np.array(5), np.zeros(0), np.zeros((0, 1000)), np.arange(10)):
            shared = xsc.share(small)
            assert (shared.dtype, shared.shape) == (small.dtype, small.shape)
            assert not shared.flags.writeable
            assert ((await keeper.facts(shared))[-1] == small).all()
    del shared, back, moments


@both_drivers
async def test_what_has_a_buffer_becomes_a_memoryview() -> None:
    data = os.urandom(MIB)
    with mmap.mmap(-1, MIB) as other:
        other[:] = data
        values: list[Any] = [
            data,
            bytearray(data),
            memoryview(data).cast("i"),
            memoryview(data).cast("B", (1024, 1024)),
            memoryview(bytes(2 * MIB))[::2],
            array.array("d", range(MIB // 8)),
            other,
        ]
        async with xsc.open_pool_nursery(pools=1) as n:
            keeper = await n.create_actor(Keeper)
            for value in values:
                view = memoryview(value)
                shared = xsc.share(value)
                assert type(shared) is memoryview
                assert (shared.format, shared.shape, shared.readonly) == (view.format, view.shape, True)
                assert shared == view
                flat = memoryview(shared).cast("B") if shared.format != "B" or shared.ndim > 1 else shared
                assert await keeper.keep(shared) == await keeper.keep(flat[4096:]) == inode(shared)
                assert await keeper.kept() == flat[4096:]
                assert await keeper.kept(-2) == view
                view.release()
            await keeper.clear()
        assert xsc.share(b"") == b""
        del flat, shared


def test_what_cannot_be_shared_is_refused() -> None:
    for value in (5, "text", [1], None, np.array([None]), np.ma.masked_array([1, 2], mask=[1, 0])):
        with pytest.raises(TypeError, match=r"share\(\)"):
            xsc.share(value)


def test_what_is_shared_already_is_not_copied() -> None:
    data = xsc.share(np.arange(MIB))
    assert xsc.share(data) is data
    assert inode(xsc.share(data[5:])) == inode(data)
    assert inode(xsc.share(memoryview(data))) == inode(data)
    copied = xsc.share(data, writable=True)
    assert inode(copied) != inode(data)


@both_drivers
async def test_only_who_has_shared_it_writable_can_write() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        keeper = await n.create_actor(Keeper)
        data = xsc.share(np.zeros(MIB, "u1"))
        with pytest.raises(ValueError, match="read-only"):
            data[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            data.flags.writeable = True
        mine = xsc.share(np.zeros(MIB, "u1"), writable=True)
        mine[:] = 3
        assert await keeper.keep(mine) == inode(mine)
        assert "read-only" in await keeper.try_to_write(mine)
        assert await keeper.summed() == 3 * MIB
        mine[:] = 4
        assert await keeper.summed() == 4 * MIB
        await keeper.clear()


@both_drivers
async def test_nobody_else_can_map_it_writable() -> None:
    data = xsc.share(np.zeros(MIB, "u1"))
    (piece,) = (each for each in table()._pieces.values() if each.key[1] == inode(data))
    for prot in (mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_WRITE):
        with pytest.raises(PermissionError):
            mmap.mmap(piece.descriptor, MIB, prot=prot)
    with pytest.raises(PermissionError):
        os.pwrite(piece.descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(piece.descriptor, 0)


@both_drivers
async def test_in_the_same_pool_it_is_handed_over_as_it_is() -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        keeper = await n.create_actor(Keeper)
        data = xsc.share(np.arange(MIB))
        await keeper.keep(data)
        assert await keeper.kept() is data
        await keeper.clear()


@both_drivers
async def test_it_stays_valid_when_the_sender_has_let_go_or_has_died() -> None:
    with pytest.raises(xsc.PoolDied) as caught:
        async with xsc.open_pool_nursery(pools=2) as n:
            first = await n.create_actor(Keeper, pool="pool-1")
            second = await n.create_actor(Keeper, pool="pool-2")
            data = xsc.share(np.arange(MIB))
            file = await first.keep(data)
            total = data.sum()
            del data
            gc.collect()
            assert not mapped(file)
            assert await first.summed() == total
            await first.clear()
            assert not await first.mapped(file)

            mine = await first.make(5)
            await second.keep(mine)
            with anyio.CancelScope(shield=True):
                os.kill(n.pools["pool-1"].pid, signal.SIGKILL)
                await n.pools["pool-1"].wait()
                assert await second.summed() == 5 * MIB
                assert mine.sum() == 5 * MIB
    assert all(isinstance(each, xsc.PoolDied) for each in causes(caught.value))
    assert mine.sum() == 5 * MIB
    del mine


@both_drivers
async def test_who_passes_it_on_does_not_copy_it_either() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Keeper, pool="pool-1")
        second = await n.create_actor(Keeper, pool="pool-2")
        data = xsc.share(np.arange(MIB))
        file = inode(data)
        for _ in range(3):
            assert await first.pass_on(second, data) == file
            assert await second.pass_on(first, data[100:]) == file
            back = await second.kept()
            assert inode(back) == file
            assert back.ctypes.data == data.ctypes.data
        total = data.sum()
        del data, back
        gc.collect()
        assert not mapped(file)
        assert await second.summed() == total
        assert await first.pass_on(second, await second.kept()) == file
        await first.clear()
        await second.clear()
        for keeper in (first, second):
            await settled(keeper.mapped, 0, file)
        assert await first.descriptors() < 60


@both_drivers
async def test_when_nobody_looks_any_more_nothing_is_left_of_it() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        keeper = await n.create_actor(Keeper)
        for number in range(100):
            await keeper.keep.tell(xsc.share(np.full(MIB, number, "u1")))
            await keeper.clear.tell()
            if number == 20:
                here, there = len(os.listdir("/proc/self/fd")), await keeper.descriptors()
        await until(lambda: len(os.listdir("/proc/self/fd")) <= here)
        await settled(keeper.descriptors, there + 4)


@both_drivers
async def test_order_is_kept_while_a_piece_is_on_its_way() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        log = await n.create_actor(Log)
        for number in range(0, 300, 3):
            await log.note.tell(number)
            await log.note.tell(xsc.share(np.full(MIB, number + 1)))
            await log.note.tell(np.full(100_000, number + 2))
        assert await log.notes() == list(range(300))


class Log(xsc.Actor):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def note(self, value: Any) -> None:
        self.seen.append(value if isinstance(value, int) else int(value[-1]))

    def notes(self) -> list[int]:
        return self.seen


@both_drivers
async def test_tells_of_what_is_shared_arrive_before_their_nursery_ends(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        writer = await n.create_actor(Writer)
        for number in range(10):
            await writer.write.tell(str(tmp_path / str(number)), xsc.share(np.full(MIB, number, "u1")))
    assert sorted(int(each.name) for each in tmp_path.iterdir()) == list(range(10))


class Writer(xsc.Actor):
    def write(self, path: str, value: Any) -> None:
        Path(path).write_text(str(value.sum()))


@both_drivers
async def test_more_pieces_than_a_peer_is_given_arrive_all_the_same() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        keeper = await n.create_actor(Keeper)
        kept = [xsc.share(np.full(100_000, number, "u1")) for number in range(200)]
        for each in kept:
            assert await keeper.keep(each) == inode(each)
            assert await keeper.summed() == each.sum()
        assert await keeper.where(kept[0], kept[150]) == [inode(kept[0]), inode(kept[150])]
        assert await keeper.summed(3) == 300_000
        kept.clear()
        del each


@both_drivers
async def test_who_is_out_of_descriptors_gets_copies() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        keeper = await n.create_actor(Keeper)
        await keeper.keep(np.zeros(MIB))  # what is loaded later needs descriptors too
        data = xsc.share(np.arange(MIB))
        await keeper.starve(1)
        for _ in range(3):
            await keeper.keep(data)
            assert await keeper.summed() == data.sum()
        await keeper.starve(-1)
        with anyio.fail_after(20):
            while await keeper.keep(data) != inode(data):
                pass


@both_drivers
async def test_without_memory_or_descriptors_share_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    data = np.arange(MIB)
    before = sorted(os.listdir("/proc/self/fd"))
    free = os.dup(0)
    os.close(free)
    for more in (0, 1):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limits[1]))
        try:
            with pytest.raises(OSError, match="no descriptor to share 8388608 bytes") as caught:
                xsc.share(data)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert caught.value.errno == errno.EMFILE
        if sys.version_info >= (3, 13):
            break  # a mapping takes no second one
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", fail)
        with pytest.raises(OSError, match="no memory to share"):
            xsc.share(data)
    with pytest.raises(OSError, match="no memory to share"):
        xsc.share(np.broadcast_to(np.uint8(0), (1 << 50,)))
    assert sorted(os.listdir("/proc/self/fd")) == before


@both_drivers
async def test_it_may_be_made_and_let_go_in_any_thread() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        keeper = await n.create_actor(Keeper)
        data = await anyio.to_thread.run_sync(xsc.share, np.arange(MIB))
        assert await keeper.where(data) == [inode(data)]
        held = [data]
        del data
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        await until(lambda: not table())


def test_a_program_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "killed.py"
    source.write_text(
        "import os, signal, numpy as np, trio, xoscar_sc as xsc\n"
        "from tests.contract.test_sharing import Keeper\n"
        "async def main():\n"
        "    async with xsc.open_pool_nursery(pools=1) as n:\n"
        "        keeper = await n.create_actor(Keeper)\n"
        "        await keeper.keep(xsc.share(np.arange(1 << 20)))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "trio.run(main)\n"
    )
    shared = sorted(os.listdir("/dev/shm"))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(source)], env=env, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir("/dev/shm")) == shared
