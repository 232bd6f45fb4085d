"""A creation that is cancelled leaves nothing, at whatever moment, and however the actor behaves."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

import xoscar_sc as xsc
from tests.contract.actors import Board, Echo
from tests.contract.driving import both_drivers, next_event, until
from tests.contract.test_cancels import LONG, SHORT, UNCONFIRMED, block

MOMENTS = 30


class Hanging(xsc.Actor):
    """Hangs while it is being created."""

    def __init__(self, where: str, board: Any, directory: Path) -> None:
        self.where = where
        self.board = board
        self.directory = directory
        if where == "__init__":
            block(directory)

    async def __post_create__(self) -> None:
        if self.where == "stubborn":
            with trio.CancelScope(shield=True):
                await self.board.post("creating")
                await self.board.wait("may end")
                await self.board.post("has ended")
        elif self.where == "__post_create__":
            await self.board.post("creating")
            await trio.sleep_forever()


@pytest.mark.parametrize("where", ["__init__", "__post_create__", "stubborn"])
@pytest.mark.parametrize("again_in", ["pool-2", "pool-3"])
@both_drivers
async def test_a_creation_that_hangs_and_is_cancelled_leaves_nothing_and_the_uid_is_free(
    where: str, again_in: str, tmp_path: Path
) -> None:
    async with xsc.open_pool_nursery(pools=3, timeouts=SHORT) as n:
        events = n.events()
        board = await n.create_actor(Board, uid="board", pool="pool-1")
        async with anyio.create_task_group() as group:
            group.start_soon(create_hanging, n, where, board, tmp_path)
            if where == "__init__":
                await until((tmp_path / "blocks").exists)
            else:
                await board.wait("creating")
            group.cancel_scope.cancel()
        if where == "__init__":
            assert not (tmp_path / "has ended").exists()
        if where != "__post_create__":
            assert (await next_event(events, UNCONFIRMED)).method == "create_actor"
        assert list(n.actors) == ["board"]
        assert await xsc.find_actor("hanging") is None
        if where == "__init__" and again_in == "pool-2":
            (tmp_path / "may end").touch()  # nothing else is made in a pool that is blocked
        again = await create_again(n, again_in)
        (tmp_path / "may end").touch()
        await board.post("may end")
        if where == "__init__":
            await until((tmp_path / "has ended").exists)
        elif where == "stubborn":
            await board.wait("has ended")
        while again is None:  # it keeps its uid for as long as it is there
            await anyio.sleep(0.01)
            again = await create_again(n, again_in)
        await anyio.sleep(0.05)
        assert await n.run(os.getpid, pool="pool-2") == n.pools["pool-2"].pid
        if again_in != "pool-2":
            with pytest.raises(xsc.ActorNotExist):
                await xsc.actor_ref(n.pools["pool-2"].address, "hanging")
        assert await xsc.find_actor("hanging") == n.actors["hanging"] == again
        assert await again.echo(1) == 1


async def create_again(n: xsc.PoolNursery, pool: str) -> Any:
    try:
        return await n.create_actor(Echo, uid="hanging", pool=pool)
    except xsc.ActorAlreadyExist:
        return None


async def create_hanging(n: Any, where: str, board: Any, directory: Path) -> None:
    await n.create_actor(Hanging, where, board, directory, uid="hanging", pool="pool-2")


@both_drivers
async def test_a_creation_that_is_cancelled_at_any_moment_leaves_no_actor() -> None:
    async with xsc.open_pool_nursery(pools=1, timeouts=LONG) as n:
        address = n.pools["pool-1"].address
        for moment in range(MOMENTS):
            with anyio.move_on_after(moment * 0.0002) as scope:
                await n.create_actor(Echo, uid="brief", pool="pool-1")
            if not scope.cancelled_caught:
                await n.actors["brief"].destroy()
            with pytest.raises(xsc.ActorNotExist):
                await (await xsc.actor_ref(address, "brief")).echo(1)
            assert list(n.actors) == []


@both_drivers
async def test_a_creation_that_is_cancelled_while_its_answer_is_on_its_way_leaves_no_actor(
    tmp_path: Path,
) -> None:
    async with xsc.open_pool_nursery(pools=1, timeouts=LONG) as n:
        async with anyio.create_task_group() as group:
            group.start_soon(create_brief, n, tmp_path / "made")
            await until((tmp_path / "made").exists)
            time.sleep(0.3)  # the answer is there, and has not been read
            group.cancel_scope.cancel()
        with pytest.raises(xsc.ActorNotExist):
            await xsc.actor_ref(n.pools["pool-1"].address, "brief")
        assert list(n.actors) == []
        await create_brief(n, tmp_path / "made again")
        assert await n.actors["brief"].ping() == "pong"


async def create_brief(n: xsc.PoolNursery, mark: Path) -> None:
    await n.create_actor(Brief, mark, uid="brief")


class Brief(xsc.Actor):
    """Is there a moment after it has said so."""

    def __init__(self, mark: Path) -> None:
        mark.touch()
        time.sleep(0.1)

    def ping(self) -> str:
        return "pong"
