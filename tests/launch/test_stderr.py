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
import trio

from tests.launch.conftest import Pool, Start, descriptors, guardian_of, open_launcher, open_starter
from xoscar_sc.launch.stderr import Copier, Pipe, Tail


@contextlib.contextmanager
def stderr(fd: int) -> Iterator[None]:
    """Have ``fd`` as fd 2; -1 closes it."""
    saved = os.dup(2)
    if fd >= 0:
        os.dup2(fd, 2)
    else:
        os.close(2)
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
    """Both ends of something that nobody reads, as fd 2 may be."""
    if request.param == "pipe":
        reading, writing = os.pipe()
    elif request.param == "socket":
        reading, writing = (sock.detach() for sock in socket.socketpair())
    else:
        reading, writing = pty.openpty()
    yield reading, writing
    os.close(reading)
    os.close(writing)


async def test_the_guardian_serves_although_nobody_reads_its_stderr(blocked: tuple[int, int]) -> None:
    reading, writing = blocked
    with stderr(writing):
        manager = open_launcher()
        launcher = await manager.__aenter__()
    try:
        async with open_starter(launcher) as start:
            loud, quiet = await start(), await start()
            await shout(loud, 1 << 20)
            assert await quiet.ask("1") == 1
            while (await start()).process.pid and not os_full(writing):
                pass
            loud.process.kill()
            assert (await loud.process.wait()).last_lines
            assert os.get_blocking(writing)
    finally:
        await manager.__aexit__(None, None, None)
