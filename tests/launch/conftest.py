from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.launch.entries import spec
from xoscar_sc.launch import LocalLauncher, Method, Process
from xoscar_sc.loop import open_loop

ENTRY = "tests.launch.entries:main"


class Pool:
    """A started process of ``entries.main``, and the channel to it."""

    def __init__(self, process: Process, channel: socket.socket) -> None:
        self.process = process
        self.channel = trio.socket.from_stdlib_socket(channel)

    async def do(self, source: str) -> None:
        await self.channel.send(source.encode())

    async def ask(self, expression: str) -> Any:
        await self.do(f"say({expression})")
        return json.loads(await self.channel.recv(1 << 20))

    def finish(self) -> None:
        self.channel.close()


Start = Callable[..., Any]


@asynccontextmanager
async def open_starter(launcher: LocalLauncher) -> AsyncIterator[Start]:
    with contextlib.ExitStack() as channels:

        async def start(name: str = "pool", payload: bytes = b"", **changes: Any) -> Pool:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            channels.enter_context(ours)
            process = await launcher.start(spec(name, payload, **changes), theirs)
            ours.setblocking(False)
            pool = Pool(process, ours)
            channels.callback(pool.finish)
            with trio.fail_after(20):
                assert await pool.channel.recv(5) == b"ready"
            return pool

        yield start


@asynccontextmanager
async def open_launcher(entry: str = ENTRY, directory: str = "") -> AsyncIterator[LocalLauncher]:
    async with open_loop() as loop:
        launcher = await LocalLauncher.open(loop, entry=entry, directory=directory)
        try:
            yield launcher
        finally:
            await launcher.aclose()


@pytest.fixture
async def launcher() -> AsyncIterator[LocalLauncher]:
    async with open_launcher() as launcher:
        yield launcher


@pytest.fixture
async def start(launcher: LocalLauncher) -> AsyncIterator[Start]:
    async with open_starter(launcher) as start:
        yield start


@pytest.fixture(params=["fork", "exec"])
def method(request: pytest.FixtureRequest) -> Method:
    method: Method = request.param
    return method


async def until(condition: Callable[[], bool], within: float = 2.0) -> None:
    """Wait for something that other processes do."""
    with trio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - no event tells it
            await trio.sleep(0.001)


def state(pid: int) -> list[str]:
    """State and parent of a process, and what else is in its ``stat`` behind its name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_gone(pid: int) -> bool:
    try:
        return state(pid)[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def guardian_of(process: Process) -> int:
    return int(state(process.pid)[1])


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
