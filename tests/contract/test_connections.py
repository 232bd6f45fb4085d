"""Who may come in, and what becomes of those who talk nonsense."""

from __future__ import annotations

import os
import random
import signal
import socket
import stat
import struct
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board, Echo
from tests.contract.driving import both_drivers, kill, next_event, program, run_program, within


def path_of(address: str) -> str:
    return address.removeprefix("unix://")


def hello(tree: str, *, version: int = 1, pool: str = "stranger") -> bytes:
    """What a peer says first, as bytes on the wire."""
    from xoscar_sc.protocol import Hello, encode, frame

    return frame(encode(Hello(version, tree, "unix:///nowhere.sock", pool, 1)))


def knock(path: str, data: bytes, end: bool = False) -> bytes:
    """Say something to a pool as a stranger, and give what it says until it hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(30)
        sock.connect(path)
        try:
            sock.sendall(data)
            if end:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has hung up in the middle
        heard = b""
        try:
            while more := sock.recv(65536):
                heard += more
        except ConnectionResetError:
            pass
        return heard


def tree_of(pool: xsc.Pool) -> str:
    return Path(path_of(pool.address)).parent.name


@both_drivers
async def test_sockets_are_closed_to_other_users() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        directory = Path(path_of(n.pools["pool-1"].address)).parent
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert directory.stat().st_uid == os.getuid()
        sockets = [path for path in directory.iterdir() if path.is_socket()]
        assert len(sockets) == 3
        assert {stat.S_IMODE(path.stat().st_mode) for path in sockets} == {0o600}
        assert not abstract_sockets_of(os.getpid(), *(pool.pid for pool in n.pools.values()))
    assert not directory.exists()


def abstract_sockets_of(*pids: int) -> list[str]:
    """Names of abstract unix sockets that these processes have, and their TCP ports."""
    inodes = set()
    for pid in pids:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[6] in inodes and len(fields) > 7 and fields[7].startswith("@"):
            found.append(fields[7])
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        if line.split()[9] in inodes:
            found.append(line.split()[1])
    return found


@both_drivers
async def test_parent_and_child_talk_though_nobody_can_connect() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        directory = Path(path_of(echo.address)).parent
        for path in directory.iterdir():
            if path.is_socket():
                path.unlink()
        assert await echo.echo(1) == 1
        pool = await n.start_pool()
        assert await pool.run(os.getpid) == pool.pid


NONSENSE = {
    "garbage": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": b"\0" * 10_000,
    "ones": b"\xff" * 10_000,
    "a frame that is too large": struct.pack("<I", 0x7FFFFFFF) + b"x" * 100,
    "a pickle": b"\x80\x05cos\nsystem\n(S'touch /tmp/never'\ntR.",
}


@pytest.mark.parametrize(
    "kind", [*NONSENSE, "truncated", "another tree", "another version", "a second hello", "random"]
)
@both_drivers
async def test_nonsense_closes_its_connection_and_nothing_else(kind: str) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
        pool = n.pools["pool-1"]
        tree = tree_of(pool)
        seed = time.time_ns()
        print("seed", seed)
        data = {
            **NONSENSE,
            "truncated": hello(tree)[:-3],
            "another tree": hello("another"),
            "another version": hello(tree, version=99),
            "a second hello": hello(tree) + hello(tree),
            "random": random.Random(seed).randbytes(5000),
        }[kind]
        events = n.events()
        for address in (pool.address, xsc.current_pool().address):
            await anyio.to_thread.run_sync(knock, path_of(address), data, True)
            refused = await next_event(events, xsc.events.ConnectionRefused)
            assert refused.address == address
            assert refused.reason
        assert await echo.echo(1) == 1
        assert await n.run(os.getpid) == pool.pid
        assert not [event for event in events._events if isinstance(event, xsc.events.ConnectionRefused)]
    assert not Path("/tmp/never").exists()


@both_drivers
async def test_a_peer_that_says_nothing_is_let_go(tmp_path: Path) -> None:
    timeouts = xsc.Timeouts(greeting=0.1)
    async with xsc.open_pool_nursery(pools=1, timeouts=timeouts) as n:
        events = n.events()
        echo = await n.create_actor(Echo)
        await anyio.to_thread.run_sync(lambda: knock(path_of(echo.address), b""))
        refused = await next_event(events, xsc.events.ConnectionRefused)
        assert "no greeting" in refused.reason
        assert await echo.echo(1) == 1


@both_drivers
async def test_silent_peers_do_not_keep_a_pool_from_others_nor_from_its_end() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Echo, pool="pool-1")
        second = await n.create_actor(Echo, pool="pool-2")
        silent = []
        for _ in range(50):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.connect(path_of(second.address))
            silent.append(sock)
        assert await first.ask(second, "pid") == n.pools["pool-2"].pid
    for sock in silent:
        sock.close()


@both_drivers
async def test_siblings_talk_to_each_other_without_the_root() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        board = await n.create_actor(Board, pool="pool-1")
        other = await n.create_actor(Echo, pool="pool-2")
        reading, writing = os.pipe()
        path = f"/proc/{os.getpid()}/fd/{writing}"
        await n.pools["pool-2"].run(len, "ready")
        async with anyio.create_task_group() as group:
            group.start_soon(n.pools["pool-2"].run, talk, board, path)
            with anyio.move_on_after(0.001):
                await anyio.sleep(1)
            # From here on the root's loop is blocked, until the siblings have talked.
            assert os.read(reading, 10) == b"talked"
        os.close(reading)
        os.close(writing)
        assert await other.echo(1) == 1


async def talk(board: xsc.ActorRef[Board], path: str) -> None:
    for number in range(100):
        await board.post(str(number))
    assert len(await board.words()) == 100
    with open(path, "w") as file:
        file.write("talked")


LEAVE = """
    import os, sys
    import anyio
    import xoscar_sc as xsc

    async def main():
        async with xsc.open_pool_nursery(pools=1) as n:
            print(n.pools["pool-1"].address, flush=True)
            await anyio.sleep_forever()

    if __name__ == "__main__":
        anyio.run(main)
"""


def test_what_a_killed_program_left_is_removed_by_the_next(tmp_path: Path) -> None:
    place = Path(os.environ["XSC_RUNTIME_DIR"]) / "sweep"
    place.mkdir(mode=0o700)
    env = {"XSC_RUNTIME_DIR": str(place)}
    try:
        with program(tmp_path, LEAVE, env=env) as alive, program(tmp_path, LEAVE, env=env) as dead:
            living = Path(path_of(alive.line())).parent
            dying = Path(path_of(dead.line())).parent
            # The root must not see its guardian die, nor the guardian its root: a stopped process sees nothing. (The
            # guardian cannot be the one that is stopped: the kernel wakes a group that loses its last parent.)
            dead.signal(signal.SIGSTOP)
            for pid in dead.descendants():
                if "xsc-guardian" in Path(f"/proc/{pid}/comm").read_text():
                    kill(pid)
            dead.signal(signal.SIGKILL)
            dead.wait()
            assert within(5.0, lambda: not dead.descendants())
            assert dying.is_dir(), dead.stderr
            source = """
                import os, sys
                import trio
                import xoscar_sc as xsc

                async def main():
                    async with xsc.open_pool_nursery(pools=1) as n:
                        print(sorted(os.listdir(sys.argv[1])) , flush=True)

                if __name__ == "__main__":
                    trio.run(main)
            """
            there = run_program(tmp_path, source, str(place), env=env)
            assert living.name in there
            assert dying.name not in there
            assert living.is_dir()
            alive.signal(signal.SIGINT)
            alive.wait()
        assert list(place.iterdir()) == []
    finally:
        for path in place.rglob("*"):
            if not path.is_dir():
                path.unlink()
        for path in place.iterdir():
            path.rmdir()
        place.rmdir()


@both_drivers
async def test_a_pool_of_another_tree_cannot_be_called(tmp_path: Path) -> None:
    with program(tmp_path, LEAVE) as other:
        address = await anyio.to_thread.run_sync(other.line)
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            with pytest.raises(xsc.XoscarError):
                await xsc.actor_ref(address, "anything")
            foreign: Any = xsc.ActorRef(address, "anything")
            with pytest.raises(xsc.ConnectionLost):
                await foreign.echo(1)
            with pytest.raises(xsc.ConnectionLost):
                await echo.ask(foreign, "echo", 1)
        other.signal(signal.SIGINT)
        await anyio.to_thread.run_sync(other.wait)
        assert other.stderr.splitlines()[-1] == "KeyboardInterrupt"
