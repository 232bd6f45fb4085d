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
from random import Random
from typing import Any

import pytest
import trio

from tests import leaks
from tests.launch.conftest import (
    Start,
    children,
    is_gone,
    open_launcher,
    open_starter,
)
from xoscar_sc.launch import LocalLauncher, Method, ProcessExit

STUBBORN = ["spin", "gil", "ignore", "stop", "threads", "subprocess", "setsid", "daemon"]


def plan(behaviour: str, *pools: dict[str, Any]) -> dict[str, Any]:
    return {"behaviour": behaviour, "pools": list(pools)}


@contextlib.contextmanager
def root_of(
    *plans: dict[str, Any], directory: str = "", fork: bool = False, wait_for: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A root in a process of its own, when everything that was planned is there, or the first ``wait_for`` pools."""
    program = f"from tests.launch import entries; entries.root({json.dumps(plans)!r}, {directory!r}, {fork})"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        everything = 1 + fork + json.dumps(plans).count("behaviour")
        said = [process.stdout.readline() for _ in range(everything if wait_for is None else wait_for)]
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


def test_nothing_outlives_a_root_that_dies_while_it_starts_pools() -> None:
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    random = Random(seed)
    before = marked()
    for _ in range(8):
        plans = [plan(random.choice(STUBBORN), plan(random.choice(STUBBORN))) for _ in range(8)]
        with root_of(*plans, wait_for=random.randrange(16)) as root:
            root.kill()
            root.wait()
            wait_for_none_but(before)


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
