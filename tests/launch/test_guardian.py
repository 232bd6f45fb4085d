"""What outlives what: roots, guardians, pools, and what pools have started themselves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests import leaks
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
from xoscar_sc.launch import LocalLauncher, Method, ProcessExit

STUBBORN = ["spin", "gil", "ignore", "stop", "threads", "subprocess", "setsid", "daemon"]


def plan(behaviour: str, *pools: dict[str, Any]) -> dict[str, Any]:
    return {"behaviour": behaviour, "pools": list(pools)}


@contextlib.contextmanager
def root_of(
    *plans: dict[str, Any], directory: str = "", fork: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A root in a process of its own, when everything that was planned is there."""
    program = f"from tests.launch import entries; entries.root({json.dumps(plans)!r}, {directory!r}, {fork})"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        expected = 1 + fork + json.dumps(plans).count("behaviour")
        said = [process.stdout.readline() for _ in range(expected)]
        assert b"" not in said, said
        try:
            yield process
        finally:
            process.kill()


def marked() -> set[int]:
    """The processes of this test session, but for this one."""
    return {int(identity.split()[0]) for _, identity in leaks.processes()}


def wait_for_none_but(expected: set[int], within: float = 2.0) -> float:
    """Wait until no other process of this session is left; how long that took."""
    begin = time.monotonic()
    while left := marked() - expected:
        assert time.monotonic() - begin < within, [Path(f"/proc/{pid}/comm").read_text() for pid in left]
    return time.monotonic() - begin


THREE_LEVELS = [
    plan("ignore", plan("spin", plan("setsid"), plan("gil")), plan("daemon", plan("spin"))),
    plan("gil", plan("stop", plan("subprocess"), plan("ignore"))),
    plan("threads", plan("setsid", plan("stop"), plan("daemon"))),
]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_nothing_outlives_the_root(number: signal.Signals, tmp_path: Path) -> None:
    directory = tmp_path / "tree"
    directory.mkdir()
    (directory / "a-file").write_text("")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "a-socket"))
    before = marked()
    with root_of(*THREE_LEVELS, directory=str(directory)) as root:
        assert len(marked() - before) > 20
        os.kill(root.pid, number)
        root.wait()
        wait_for_none_but(before)
    assert not directory.exists()


@pytest.mark.parametrize("behaviour", STUBBORN)
def test_no_behaviour_outlives_the_root(behaviour: str) -> None:
    before = marked()
    with root_of(plan(behaviour)) as root:
        root.kill()
        root.wait()
        wait_for_none_but(before)


def test_the_root_is_missed_although_a_fork_of_it_lives() -> None:
    before = marked()
    with root_of(plan("ignore"), fork=True) as root:
        fork = children(root.pid)
        root.kill()
        root.wait()
        fork_pid = next(pid for pid in fork if Path(f"/proc/{pid}/comm").read_text() != "xsc-guardian\n")
        wait_for_none_but({*before, fork_pid})
        os.kill(fork_pid, signal.SIGKILL)


def test_what_is_not_ours_in_the_directory_stays(tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    before = marked()
    with root_of(directory=str(tmp_path / "tree")) as root:
        root.kill()
        root.wait()
        wait_for_none_but(before)
    assert (tmp_path / "tree" / "sub").exists()


@pytest.mark.parametrize(
    "source",
    [
        "pid = subprocess.Popen(SLEEP).pid",
        "pid = subprocess.Popen(SLEEP, start_new_session=True).pid",
        "pid = subprocess.Popen(SLEEP, process_group=0).pid",
        "pid = daemon()",
        "pid = int(subprocess.check_output(['setsid', 'sh', '-c', 'sleep 1000 >&- 2>&- & echo $!']))",
        "pid = subprocess.Popen(['sh', '-c', 'while :; do setsid sleep 0.001; done'], process_group=0).pid",
    ],
)
async def test_what_a_pool_has_started_ends_with_it(start: Start, method: Method, source: str) -> None:
    pool, other = await start(method=method), await start(method=method)
    pids = []
    for each in (pool, other):
        await each.do("import subprocess\nfrom tests.launch.entries import SLEEP, daemon\n" + source)
        pids.append(await each.ask("pid"))
    assert not any(map(is_gone, pids))
    pool.process.kill()
    await pool.process.wait()
    assert list(map(is_gone, pids)) == [True, False]
    other.finish()
    assert await other.process.wait() == ProcessExit(0, None)
    assert is_gone(pids[1])


async def test_what_hides_its_origin_ends_with_the_root() -> None:
    async with open_launcher() as launcher:
        async with open_starter(launcher) as start:
            pool = await start()
            await pool.do("import subprocess\nfrom tests.launch.entries import SLEEP")
            await pool.do("pid = subprocess.Popen(SLEEP, start_new_session=True, env={}).pid")
            pid = await pool.ask("pid")
        await pool.process.wait()
        assert not is_gone(pid)
    assert is_gone(pid)


async def test_a_pool_that_ends_takes_its_descendants_along(start: Start, launcher: LocalLauncher) -> None:
    pool = await start()
    await pool.do(
        "import socket, trio\n"
        "from tests.launch.entries import spec, start_pools\n"
        "from xoscar_sc.launch import LocalLauncher\n"
        "from xoscar_sc.loop import open_loop\n"
        "async def main():\n"
        "    async with open_loop() as loop:\n"
        "        launcher = LocalLauncher.attach(loop, guardian)\n"
        "        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "        child = await launcher.start(spec('child'), theirs)\n"
        "        ours.recv(5)\n"
        "        ours.send(b'import os; os.write(2, b\"hello\"); say(1); os.kill(os.getpid(), 19)')\n"
        "        ours.recv(1)\n"
        "        say([child.pid, child.pool_id])\n"
        "        channel.recv(1)\n"
        "        os._exit(3)\n"
        "import os; trio.run(main)"
    )
    pid, pool_id = json.loads(await pool.channel.recv(1000))
    found: list[ProcessExit | None] = []

    async def ask() -> None:
        found.append(await launcher.exit_of(pool_id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await pool.do("x")
        assert (await pool.process.wait()).exit_code == 3
    assert found == [ProcessExit(None, signal.SIGKILL, ("hello",))]
    assert is_gone(pid)


async def test_closing_a_pools_launcher_ends_what_it_has_started(start: Start) -> None:
    pool = await start()
    await pool.do(
        "import socket, trio\n"
        "from tests.launch.entries import spec, start_pools\n"
        "from xoscar_sc.launch import LocalLauncher\n"
        "from xoscar_sc.loop import open_loop\n"
        "async def main():\n"
        "    async with open_loop() as loop:\n"
        "        launcher = LocalLauncher.attach(loop, guardian)\n"
        "        pairs = [socket.socketpair() for _ in range(3)]\n"
        "        children = [await launcher.start(spec('child'), theirs) for ours, theirs in pairs]\n"
        "        await launcher.aclose()\n"
        "        say([[child.pid, child.exit.signal] for child in children])\n"
        "trio.run(main)"
    )
    ended = json.loads(await pool.channel.recv(1000))
    assert [number for _, number in ended] == [signal.SIGKILL] * 3
    assert all(is_gone(pid) for pid, _ in ended)
    assert await pool.ask("1") == 1


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
