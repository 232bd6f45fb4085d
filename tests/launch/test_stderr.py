from __future__ import annotations

import contextlib
import os
import pty
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.conftest import Pool, guardian_of, open_launcher, open_starter, resident
from xoscar_sc.launch.stderr import Copier, Pipe, Tail


@contextlib.contextmanager
def stderr(fd: int) -> Iterator[None]:
    """Have ``fd`` as fd 2."""
    saved = os.dup(2)
    os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ([], ()),
        ([b"one"], ("one",)),
        ([b"on", b"e\ntw", b"o\n"], ("one", "two")),
        ([b"\n\n"], ("", "")),
        ([b"caf\xc3", b"\xa9 \xff\n"], ("café \ufffd",)),
        ([b"%d\n" % i for i in range(100)], tuple(str(i) for i in range(80, 100))),
        ([b"x" * 20_000], ("x" * 8192,)),
        ([b"x" * 20_000 + b"\nlast"], ("last",)),
    ],
)
def test_the_tail_is_the_last_lines(written: list[bytes], lines: tuple[str, ...]) -> None:
    tail = Tail()
    for data in written:
        tail.add(data)
    assert tail.lines() == lines


def test_a_slow_reader_slows_the_writers_and_nobody_else() -> None:
    """A copier with its output full reads no more, and loses nothing."""
    reading, writing = os.pipe()
    with stderr(writing), selectors.DefaultSelector() as selector:
        copier = Copier(selector)
        source, sink = os.pipe()
        os.set_blocking(source, False)
        os.set_blocking(sink, False)
        copier.add(Pipe(source))
        data = os.urandom(1 << 20)
        sent, got = 0, b""
        while sent < len(data):  # nobody reads
            try:
                sent += os.write(sink, data[sent : sent + 10_000])
            except BlockingIOError:
                break
            for key, events in selector.select(0):
                key.data(events)
        assert sent < len(data) / 2
        assert os.get_blocking(2)
        while len(got) < len(data):
            with contextlib.suppress(BlockingIOError):
                sent += os.write(sink, data[sent : sent + 10_000])
            for key, events in selector.select(0):
                key.data(events)
            if select_readable(reading):
                got += os.read(reading, 65536)
        assert got == data
        os.close(sink)
        for key, events in selector.select(0):
            key.data(events)
        assert not selector.get_map()
        copier.finish_all()
        copier.abandon()
    os.close(reading)
    os.close(writing)


def select_readable(fd: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(0))


async def shout(pool: Pool, size: int) -> None:
    await pool.do(f"import os\ndata = b'x' * {size}\nwhile data: data = data[os.write(2, data):]")


@pytest.fixture(params=["pipe", "socket", "terminal"])
def blocked(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Both ends of something that is full, as fd 2 may be."""
    if request.param == "pipe":
        reading, writing = os.pipe()
    elif request.param == "socket":
        reading, writing = (sock.detach() for sock in socket.socketpair())
    else:
        reading, writing = pty.openpty()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"full" * 64)
    os.set_blocking(writing, True)
    yield reading, writing
    os.close(reading)
    os.close(writing)


async def test_the_guardian_serves_although_nobody_reads_its_stderr(blocked: tuple[int, int]) -> None:
    _, writing = blocked
    manager = open_launcher()
    with stderr(writing):
        launcher = await manager.__aenter__()
    async with open_starter(launcher) as start:
        loud, quiet = await start("loud"), await start("quiet")
        await shout(loud, 1 << 20)
        await quiet.do("import os; os.write(2, b'bye'); 1 / 0")
        assert (await quiet.process.wait()).last_lines[0] == "byeTraceback (most recent call last):"
        guardian = guardian_of(loud.process)
        before = resident(guardian)
        assert await (await start("another")).ask("1") == 1
        loud.process.kill()
        assert (await loud.process.wait()).last_lines == ("x" * 8192,)
        assert resident(guardian) - before < 500_000
    assert os.get_blocking(writing)
    await manager.__aexit__(None, None, None)


async def test_what_pools_write_to_stderr_is_the_roots_stderr() -> None:
    reading, writing = os.pipe()
    manager = open_launcher()
    with stderr(writing):
        launcher = await manager.__aenter__()
    os.close(writing)
    async with open_starter(launcher) as start:
        pool = await start()
        await pool.do("import subprocess; subprocess.run('echo one >&2; echo two >&2', shell=True)")
        await pool.do("import os; os.write(2, b'three')")
        pool.finish()
        await pool.process.wait()
    await manager.__aexit__(None, None, None)
    assert os.read(reading, 1000) == b"one\ntwo\nthree"
    assert os.read(reading, 1000) == b""
    os.close(reading)


@pytest.mark.parametrize("how", ["no reader", "/dev/full", "file"])
async def test_a_stderr_that_takes_nothing_harms_nobody(how: str, tmp_path: Path) -> None:
    reading, fd = os.pipe()
    if how != "no reader":
        os.close(fd)
    os.close(reading)
    if how != "no reader":
        (tmp_path / "file").write_text("before\n")
        path = how if how == "/dev/full" else str(tmp_path / "file")
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    manager = open_launcher()
    with stderr(fd):
        launcher = await manager.__aenter__()
    os.close(fd)
    async with open_starter(launcher) as start:
        for method in ("fork", "exec"):
            pool = await start(method=method)
            await shout(pool, 1 << 20)
            assert await pool.ask("1") == 1
            await pool.do("import sys; print('last', file=sys.stderr); sys.exit(2)")
            assert (await pool.process.wait()).last_lines[-1].endswith("last")
    await manager.__aexit__(None, None, None)
    if how == "file":
        data = (tmp_path / "file").read_bytes()
        assert data.startswith(b"before\n")
        assert data.count(b"x") == 2 << 20


def test_a_root_may_have_closed_everything() -> None:
    program = (
        "import os\n"
        "for fd in (0, 1, 2): os.close(fd)\n"
        "from tests.launch.test_stderr import one_pool\n"
        "import trio; trio.run(one_pool)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


async def one_pool() -> None:
    async with open_launcher() as launcher, open_starter(launcher) as start:
        for method in ("fork", "exec"):
            pool = await start(method=method)
            assert await pool.ask("[__import__('os').write(fd, b'x') for fd in (1, 2)]") == [1, 1]
            await pool.do("print('out')\nimport sys; print('err', file=sys.stderr)\n1 / 0")
            assert (await pool.process.wait()).last_lines[0].endswith("xerr")
