"""The guardian: when it dies, when it is behind, when it hears nonsense, when it has no room."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import trio

from tests.launch.conftest import (
    Pool,
    Start,
    children,
    descriptors,
    guardian_of,
    is_gone,
    open_launcher,
    open_starter,
    resident,
    until,
)
from tests.launch.entries import spec
from xoscar_sc.errors import LaunchError
from xoscar_sc.launch import LocalLauncher, Method

# The guardian itself


async def test_pools_die_with_their_guardian(launcher: LocalLauncher, start: Start, method: Method) -> None:
    pool, stuck = await start(method=method), await start(method=method)
    await pool.do("import subprocess\nfrom tests.launch.entries import SLEEP, daemon")
    await pool.do(
        "pids = [subprocess.Popen(SLEEP, env={}).pid, subprocess.Popen(SLEEP, process_group=0).pid, daemon()]"
    )
    left = await pool.ask("pids")
    await stuck.do("import ctypes; ctypes.PyDLL(None).sleep(1000)")
    guardian = guardian_of(pool.process)
    os.kill(guardian, signal.SIGKILL)
    how = await pool.process.wait()
    assert (how.signal, how.last_lines) == (
        signal.SIGKILL,
        ("the guardian process died, and with it all that it had started",),
    )
    await stuck.process.wait()
    await until(lambda: all(map(is_gone, (pool.process.pid, stuck.process.pid, guardian, *left))))
    assert await launcher.exit_of(pool.process.pool_id) is None
    another = await start(method=method)
    assert guardian_of(another.process) != guardian


async def test_a_start_under_way_fails_with_its_guardian(launcher: LocalLauncher, start: Start) -> None:
    guardian = guardian_of((await start()).process)
    os.kill(guardian, signal.SIGSTOP)
    ours, theirs = socket.socketpair()
    with ours:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                with pytest.raises(LaunchError, match="the guardian process died"):
                    await launcher.start(spec("unlucky"), theirs)

            await trio.testing.wait_all_tasks_blocked()
            os.kill(guardian, signal.SIGKILL)


async def test_what_is_asked_of_a_guardian_that_is_behind_is_done_when_it_catches_up(
    launcher: LocalLauncher, start: Start
) -> None:
    pool, other = await start(), await start()
    guardian = guardian_of(pool.process)
    os.kill(guardian, signal.SIGSTOP)
    started: list[Pool] = []

    async def start_one() -> None:
        started.append(await start())

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            other.process.kill()
        nursery.start_soon(start_one)
        ours, theirs = socket.socketpair()
        with ours, trio.move_on_after(0.01):
            await launcher.start(spec("cancelled"), theirs)
        pool.process.kill()
        os.kill(guardian, signal.SIGCONT)
        await pool.process.wait()
        await other.process.wait()
    assert children(guardian) == [started[0].process.pid]


async def test_signals_do_not_impress_the_guardian(start: Start) -> None:
    pool = await start()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGPIPE,
        signal.SIGTSTP,
        signal.SIGTTOU,
    ):
        os.kill(guardian_of(pool.process), number)
    await start()


@pytest.mark.parametrize(
    "packet",
    [
        "b'x'",
        "b'\\x93\\x00\\x01'",
        "b'\\x92\\x01\\xa1\\xff'",  # an id that is not UTF-8
        "b'\\x95\\x00\\xa0\\xa0\\xa4fork\\xc0'",  # an empty id
        "b'\\x92\\x01' + b'\\x91' * 60_000",  # deeply nested
        "b'\\x92\\x01\\xda\\xff\\xff' + b'a' * 65_535",  # longer than any packet
    ],
)
async def test_a_bad_packet_ends_one_connection(start: Start, packet: str) -> None:
    pool, other = await start(), await start()
    await pool.do(f"guardian.send({packet})")
    assert await pool.ask("guardian.recv(100).decode()") == ""
    assert await other.ask("1") == 1
    await start()


async def test_descriptors_that_nobody_asked_for_are_closed(start: Start) -> None:
    pool = await start()
    guardian = guardian_of(pool.process)
    before = descriptors(guardian)
    await pool.do("import array, socket; from xoscar_sc.launch import wire")
    await pool.do(
        "for _ in range(10):\n"
        "    wire.send(guardian, wire.encode(wire.Kill('nobody')), [0, 1])\n"
        "    wire.send(guardian, wire.encode(wire.Start('short', 'short', 'fork', None)), [0])\n"
        "    assert b'did not get through' in guardian.recv(1000)\n"
        "    guardian.sendmsg([wire.encode(wire.Watch('nobody'))], [(1, 1, array.array('i', [0] * 50))])\n"
        "    guardian.recv(1000)\n"
    )
    assert await pool.ask("1") == 1
    assert descriptors(guardian) == before


async def test_what_ends_is_forgotten(launcher: LocalLauncher, start: Start, method: Method) -> None:
    async def cycle() -> None:
        ours, theirs = socket.socketpair()
        with ours:
            process = await launcher.start(spec("short", method=method), theirs)
        await process.wait()

    first = await start()
    guardian = guardian_of(first.process)

    cycles = 50 if method == "fork" else 10
    for _ in range(cycles // 5):
        await cycle()
    before = descriptors(guardian), descriptors(os.getpid())
    memory = resident(guardian)
    for _ in range(cycles):
        await cycle()
    assert (descriptors(guardian), descriptors(os.getpid())) == before
    assert resident(guardian) - memory < 200_000
    assert children(guardian) == [first.process.pid]


# A guardian that cannot serve


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("tests.launch.entries:nothing", "AttributeError"),
        ("tests.launch.nowhere:main", "ModuleNotFoundError: No module named 'tests.launch.nowhere'"),
        ("tests.launch.fails:main", "ZeroDivisionError"),
    ],
)
async def test_an_entry_that_cannot_be_loaded(entry: str, reason: str) -> None:
    async with open_launcher(entry) as launcher:
        for _ in range(2):
            ours, theirs = socket.socketpair()
            with ours, pytest.raises(LaunchError, match=reason) as caught:
                await launcher.start(spec("never"), theirs)
            assert reason in caught.value.last_lines[-1]


async def test_an_interpreter_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(LaunchError, match="/nowhere/python"):
        async with open_launcher():
            raise AssertionError


async def test_an_interpreter_that_goes_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(link))
    async with open_launcher() as launcher, open_starter(launcher) as start:
        await start(method="exec")
        link.unlink()
        with pytest.raises(LaunchError, match=f"executing {str(link)!r}: .*No such file"):
            await start(method="exec")
        await start(method="fork")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [("cannot_fork", "Resource temporarily unavailable"), ("has_no_descriptors", "Too many open files")],
)
async def test_a_guardian_out_of_resources_says_so(entry: str, reason: str) -> None:
    async with open_launcher(f"tests.launch.{entry}:main") as launcher:
        for _ in range(5):
            ours, theirs = socket.socketpair()
            with ours:
                with pytest.raises(LaunchError, match=reason):
                    await launcher.start(spec("never"), theirs)
                assert ours.recv(1) == b""
