from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tests.contract.driving import both_drivers
from tests.loop.waiting import settle, until
from xoscar_sc.errors import AuthenticationError
from xoscar_sc.ipc import check_peer, connect, listen, tune
from xoscar_sc.loop import Loop, open_loop

NOBODY = 65534

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


@contextmanager
def somebody_else() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


class Door:
    """A listener, and what it was told."""

    def __init__(self, loop: Loop, path: Path) -> None:
        self.loop = loop
        self.path = path
        self.accepted: list[socket.socket] = []
        self.trouble: list[OSError] = []
        self.listener = listen(loop, str(path), self.accepted.append, self.trouble.append)

    def close(self) -> None:
        self.listener.close()
        for sock in self.accepted:
            sock.close()


@asynccontextmanager
async def open_door(directory: Path) -> AsyncIterator[Door]:
    async with open_loop() as loop:
        door = Door(loop, directory / "door.sock")
        try:
            yield door
        finally:
            door.close()


@both_drivers
async def test_who_knocks_is_let_in_and_can_talk(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        ours = await connect(str(door.path))
        await until(lambda: door.accepted)
        ours.send(b"hello")
        assert door.accepted[0].recv(9) == b"hello"
        check_peer(ours)
        check_peer(door.accepted[0])
        ours.close()


@both_drivers
async def test_many_who_knock_at_once_are_all_let_in(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        ours: list[socket.socket] = []

        async def knock() -> None:
            ours.append(await connect(str(door.path)))

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(knock)
        await until(lambda: len(door.accepted) == 100)
        for sock in ours:
            sock.close()


@both_drivers
async def test_only_the_owner_may_use_the_path_and_it_goes_with_the_listener(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        assert stat.S_IMODE(door.path.stat().st_mode) == 0o600
        door.listener.close()
        assert not door.path.exists()
        with pytest.raises(FileNotFoundError):
            await connect(str(door.path))


@both_drivers
async def test_a_path_that_is_taken_is_an_error_and_stays_with_its_owner(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        with pytest.raises(OSError, match="in use"):
            Door(door.loop, door.path)
        ours = await connect(str(door.path))
        await until(lambda: door.accepted)
        ours.close()


@both_drivers
async def test_a_path_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    async with open_loop() as loop:
        with pytest.raises(FileNotFoundError):
            Door(loop, tmp_path / "missing" / "door.sock")
        with pytest.raises(OSError, match="too long"):
            Door(loop, tmp_path / ("x" * 120))


@both_drivers
async def test_a_path_that_nobody_listens_at_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ConnectionRefusedError):
        await connect(str(path))


# Who it is


@as_root
def test_a_peer_of_another_user_is_refused() -> None:
    with somebody_else():
        one, other = socket.socketpair()
    with one, other:
        with pytest.raises(AuthenticationError, match=f"runs as user {NOBODY}, and only user 0 may come in"):
            check_peer(one)


@as_root
def test_root_is_let_in_by_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        monkeypatch.setattr(os, "getuid", lambda: NOBODY)
        check_peer(one)


@as_root
@both_drivers
async def test_a_listener_of_another_user_is_not_talked_to(tmp_path: Path) -> None:
    path = tmp_path / "foreign.sock"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        with somebody_else():
            foreign.listen()
        with pytest.raises(AuthenticationError):
            await connect(str(path))


# A full house


@both_drivers
async def test_who_finds_the_queue_full_waits_and_is_let_in(tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")
    with contextlib.ExitStack() as opened, socket.socket(socket.AF_UNIX) as narrow:
        narrow.bind(path)
        narrow.listen(0)
        narrow.setblocking(False)
        opened.enter_context(await connect(path))
        log: list[str] = []

        async def knock() -> None:
            opened.enter_context(await connect(path))
            log.append("in")

        async with anyio.create_task_group() as group:
            group.start_soon(knock)
            with anyio.CancelScope() as scope:
                group.start_soon(cancel_when_waiting, scope)
                await connect(path)
            assert scope.cancelled_caught
            assert log == []
            for _ in range(2):
                opened.enter_context(narrow.accept()[0])
                await until(lambda: log)


async def cancel_when_waiting(scope: anyio.CancelScope) -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


@contextmanager
def no_descriptor_left() -> Iterator[contextlib.ExitStack]:
    """Use up the descriptors of this process, until what is yielded is closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, hard))
    try:
        with contextlib.ExitStack() as taken:
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    taken.callback(os.close, os.dup(0))
            yield taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@both_drivers
async def test_without_descriptors_a_listener_says_so_pauses_and_lets_in_who_waited(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        with socket.socket(socket.AF_UNIX) as ours:
            with no_descriptor_left() as taken:
                ours.connect(str(door.path))
                await until(lambda: door.trouble)
                await settle()
                assert {exc.errno for exc in door.trouble} == {errno.EMFILE}
                assert len(door.trouble) == 1  # it does not spin
                await until(lambda: len(door.trouble) > 1)  # it tries again
                assert door.accepted == []
                taken.close()
                await until(lambda: door.accepted)


@both_drivers
async def test_a_listener_can_be_closed_while_it_pauses(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        with socket.socket(socket.AF_UNIX) as ours:
            with no_descriptor_left():
                ours.connect(str(door.path))
                await until(lambda: door.trouble)
                door.listener.close()
            with pytest.raises(ConnectionResetError):
                ours.recv(1)
        assert len(door.trouble) == 1


@both_drivers
async def test_a_listener_that_is_closed_as_somebody_knocks_says_nothing(tmp_path: Path) -> None:
    async with open_loop() as loop:
        for number in range(20):
            door = Door(loop, tmp_path / f"{number}.sock")
            with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
                first.connect(str(door.path))
                await until(lambda door=door: door.accepted)
                await settle()
                second.connect(str(door.path))
                for _ in range(number % 4):
                    await anyio.lowlevel.checkpoint()
                door.close()
                await settle()
            assert door.trouble == []


def test_tuning_makes_room_for_large_messages() -> None:
    one, other = socket.socketpair()
    with one, other:
        before = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert tune(one) is one
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > before
