"""What was made apart, and has to work together: supervised actors seen from outside, and doors that come back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import trio.testing

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, program
from xoscar_sc.events import Exit, Restarted

LOOPBACK = "tcp://127.0.0.1:0"
SECONDS = 20.0
"""Within which everything here has to be over, however slow it is."""


class Pid(xsc.Actor):
    """Says where it is."""

    def __init__(self) -> None:
        self.other: Any = None
        self.held = anyio.Event()

    @xsc.no_lock
    def pid(self) -> int:
        return os.getpid()

    @xsc.no_lock
    async def hold(self) -> None:
        self.held.set()
        await anyio.sleep_forever()

    @xsc.no_lock
    async def wait_held(self) -> None:
        await self.held.wait()

    @xsc.idempotent(retries=3, backoff=0.01)
    async def sure(self, path: str) -> int:
        """Kill the process, the first time."""
        if not Path(path).exists():
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    def keep(self, other: Any) -> None:
        self.other = other

    async def ask_other(self) -> int:
        pid: int = await self.other.pid()
        return pid


async def dies(call: Any) -> int:
    """Ask for the pid until the new one answers."""
    with anyio.fail_after(SECONDS):
        while True:
            try:
                pid: int = await call()
            except (xsc.ActorDied, xsc.ConnectionLost):
                await anyio.sleep(0.01)
            else:
                return pid


SERVER = """
    import sys
    import trio
    from tests.contract.test_together import serve

    if __name__ == "__main__":
        try:
            trio.run(serve, sys.argv[1])
        except KeyboardInterrupt:
            pass
"""


async def serve(kind: str) -> None:
    """A supervisor with a door, and in it a pool with one."""
    async with xsc.open_supervisor(intensity=100, address=LOOPBACK, pickle=kind != "plain") as sup:
        await sup.create_actor(Pid, uid="pid", pool=await sup.start_pool("p", restart="permanent"))
        pool = await sup.start_pool("with-a-door", restart="permanent", address=LOOPBACK)
        await sup.create_actor(Pid, uid="inside", pool=pool)
        print(sup.address, flush=True)
        print(pool.door, flush=True)
        await anyio.sleep_forever()


@contextmanager
def served(tmp_path: Path, kind: str = "") -> Iterator[tuple[str, str]]:
    """A program that does that: where its doors are."""
    with program(tmp_path, SERVER, kind) as running:
        try:
            yield running.line(), running.line()
        finally:
            running.signal(signal.SIGINT)
            running.wait()


@both_drivers
async def test_a_pools_own_door_comes_back_where_it_was(tmp_path: Path) -> None:
    with served(tmp_path) as (_, door):
        async with xsc.connect(door) as remote:
            inside = await remote.actor_ref("inside")
            for _ in range(2):
                before = await inside.pid()
                os.kill(before, signal.SIGKILL)
                assert await dies(inside.pid) != before


@both_drivers
@pytest.mark.parametrize("kind", ["", "plain"])
async def test_a_monitor_from_outside_tells_of_restarts_and_of_one_exit(tmp_path: Path, kind: str) -> None:
    with served(tmp_path, kind) as (address, _):
        async with xsc.connect(address) as remote:
            ref = await remote.actor_ref("pid")
            async with ref.monitor() as exits, ref.monitor(restarts=True) as news:
                for life in (2, 3):
                    before = await ref.pid()
                    os.kill(before, signal.SIGKILL)
                    with anyio.fail_after(SECONDS):
                        told = await news.receive()
                    assert isinstance(told, Restarted)
                    assert (told.incarnation, told.exit.kind, told.exit.signal) == (life, "killed", 9)
                    assert await dies(ref.pid) != before
                    assert ref.incarnation == life
                with pytest.raises(anyio.WouldBlock):
                    exits.receive_nowait()


@both_drivers
async def test_an_idempotent_call_from_outside_outlives_its_pool(tmp_path: Path) -> None:
    with served(tmp_path) as (address, _):
        async with xsc.connect(address) as remote:
            ref = await remote.actor_ref("pid")
            before = await ref.pid()
            with anyio.fail_after(SECONDS):
                assert await ref.sure(str(tmp_path / "once")) != before


@both_drivers
async def test_a_reference_that_comes_back_from_outside_outlives_a_restart() -> None:
    async with xsc.open_supervisor(intensity=100, address=LOOPBACK) as sup:
        inner = await sup.create_actor(Pid, uid="pid")
        async with xsc.connect(sup.address) as remote:
            ref = await remote.actor_ref("pid")
            assert ref == inner
            for _ in range(2):
                before = await ref.pid()
                os.kill(before, signal.SIGKILL)
                assert await dies(ref.pid) != before
            async with ref.monitor() as exits:
                await inner.destroy()
                with anyio.fail_after(SECONDS):
                    assert isinstance(await exits.receive(), Exit)


@both_drivers
async def test_a_reference_that_a_client_hands_to_an_actor_outlives_a_restart(tmp_path: Path) -> None:
    with served(tmp_path) as (address, _):
        async with xsc.connect(address) as remote:
            inside, ref = await remote.actor_ref("inside"), await remote.actor_ref("pid")
            await inside.keep(ref)
            before = await ref.pid()
            os.kill(before, signal.SIGKILL)
            assert await dies(ref.pid) == await dies(inside.ask_other) != before


@both_drivers
async def test_a_group_goes_on_with_members_that_were_restarted() -> None:
    async with xsc.open_supervisor(1, intensity=100) as sup:
        group = await sup.create_group(Pid, size=2)
        before = await group.pid()

        async def hold() -> None:
            with pytest.raises(xsc.ActorDied):
                await group.hold()

        async with anyio.create_task_group() as calls:
            for _ in group:
                calls.start_soon(hold)
            for member in group:
                await member.wait_held()
            os.kill(before, signal.SIGKILL)
        with anyio.fail_after(SECONDS):
            assert {await group.pid() for _ in group} == {await group[0].pid()} != {before}
        await group[0].destroy()
        with pytest.raises(xsc.ActorNotExist):  # it is met once
            for _ in range(4):
                await group.pid()
        for _ in range(4):
            await group.pid()


async def test_a_connection_that_was_left_leaves_no_task() -> None:
    timeouts = xsc.Timeouts(heartbeat=3600.0)
    async with xsc.open_supervisor(1, address=LOOPBACK, timeouts=timeouts) as sup:
        await sup.create_actor(Pid, uid="pid")

        async def use() -> None:
            async with xsc.connect(sup.address) as remote:
                await (await remote.actor_ref("pid")).pid()
            await trio.testing.wait_all_tasks_blocked()

        for _ in range(3):
            await use()
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(10):
            await use()
        with anyio.fail_after(5):
            while trio.lowlevel.current_statistics().tasks_living > before + 3:
                await trio.testing.wait_all_tasks_blocked(0.01)
