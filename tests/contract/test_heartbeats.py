"""Signs of life: a pool that is stopped, one whose loop is blocked, a busy one and a dead one are told apart."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers
from tests.contract.supervised import Child, attempt, next_of, until, until_answers
from xoscar_sc.events import HeartbeatLost, PoolExited

SOON = 0.3


class Hangs(Child):
    """Hangs in several ways."""

    def spins(self) -> None:
        while True:
            pass

    def holds_the_gil(self) -> None:
        import ctypes

        ctypes.PyDLL(None).sleep(3600)

    async def works(self, times: int) -> int:
        for number in range(times):
            sum(range(10_000))
            await anyio.lowlevel.checkpoint()
            if number % 100 == 0:
                await anyio.sleep(0.001)
        return times

    def threads(self) -> list[str]:
        return [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("how", "missing", "state"),
    [
        ("is_stopped", "both", "stopped"),
        ("sleeps", "loop", "waiting"),
        ("spins", "loop", "running"),
        ("holds_the_gil", "both", "waiting"),
    ],
)
@both_drivers
async def test_how_a_pool_hangs_is_told_and_it_is_restarted_if_that_is_wanted(
    how: str, missing: str, state: str
) -> None:
    async with xsc.open_supervisor(heartbeat=SOON, on_heartbeat_lost="restart") as sup:
        events = sup.events()
        child: Any = await sup.create_actor(Hangs, uid="child")
        pid = await child.pid()
        await getattr(child, how).tell(*([3600] if how == "sleeps" else []))
        lost = await next_of(events, HeartbeatLost)
        assert (lost.pool, lost.missing) == ("pool-1", missing)
        assert lost.state == state or (how == "spins" and lost.state == "waiting"), (
            "a spinner may wait for its CPU"
        )
        exited = await next_of(events, PoolExited)
        assert (exited.pid, exited.exit.signal) == (pid, signal.SIGKILL)
        assert await until_answers(child) != pid


@both_drivers
async def test_a_pool_that_hangs_is_only_told_of_by_default_and_told_once() -> None:
    async with xsc.open_supervisor(heartbeat=SOON) as sup:
        events = sup.events()
        child = await sup.create_actor(Child, uid="child")
        pid = await child.pid()
        for _ in range(2):
            os.kill(pid, signal.SIGSTOP)
            assert await next_of(events, HeartbeatLost) == HeartbeatLost("pool-1", "both", "stopped")
            os.kill(pid, signal.SIGCONT)
            assert await child.pid() == pid
            await anyio.sleep(SOON)
        assert child.incarnation == 1


@both_drivers
async def test_a_busy_pool_and_a_dead_one_lose_no_heartbeat() -> None:
    async with xsc.open_supervisor(heartbeat=1.0, on_heartbeat_lost="restart") as sup:
        events = sup.events()
        child: Any = await sup.create_actor(Hangs, uid="child")
        assert await child.works(3000) == 3000
        await child.is_killed.tell()
        await until_answers(child)
    async for event in events:
        assert not isinstance(event, HeartbeatLost)


@both_drivers
async def test_a_hung_constructor_is_restarted_too(tmp_path: Any) -> None:
    fails = tmp_path / "fails"
    async with xsc.open_supervisor(heartbeat=SOON, on_heartbeat_lost="restart", intensity=10) as sup:
        child = await sup.create_actor(Child, str(tmp_path), str(fails), uid="child")
        fails.write_text("blocks")
        await child.is_killed.tell()
        await until(lambda: (tmp_path / "diary").read_text().count("fails") == 2)
        fails.unlink()
        assert await child.add() == 1


@both_drivers
async def test_who_has_not_asked_for_heartbeats_has_no_thread_and_no_file() -> None:
    async with xsc.open_supervisor() as sup:
        child: Any = await sup.create_actor(Hangs, uid="child")
        assert "xsc-heartbeat" not in await child.threads()
    async with xsc.open_supervisor(heartbeat=1.0) as sup:
        child = await sup.create_actor(Hangs, uid="child")
        assert "xsc-heartbeat" in await child.threads()
        directory = sup.runtime.place.directory
        assert not [name for name in os.listdir(directory) if name.endswith(".beat")]
        assert await attempt(child.add) is None
