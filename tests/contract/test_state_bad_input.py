"""State files that cannot be used, and what else goes wrong with them: a clear error, and nothing lost."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, next_event, program
from tests.contract.keeping import Board, Ledger
from xoscar_sc.state import Past, Record, Remove, Row, Save, SQLiteStore

HOLDER = """
import sys
from xoscar_sc.state import SQLiteStore
connection = SQLiteStore(sys.argv[1]).connect()
connection.open("ledger", 3)
print("held", flush=True)
sys.stdin.read()
import time; time.sleep(60)
"""


@contextlib.contextmanager
def held(path: Path) -> Any:
    """Another connection writes, and does not end."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        database.execute("ROLLBACK")
        database.close()


async def test_who_waits_for_an_actor_that_somebody_has_holds_up_nobody(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    keep = xsc.Snapshots(path, wait=60)
    async with xsc.open_pool_nursery(pools=1) as n:
        other = await n.create_actor(Ledger, uid="other", snapshot=keep)
        with program(tmp_path, HOLDER, str(path)) as holder:
            await anyio.to_thread.run_sync(holder.expect, "held")
            made = []

            async def make() -> None:
                made.append(await n.create_actor(Ledger, uid="ledger", snapshot=keep))

            async with anyio.create_task_group() as group:
                group.start_soon(make)
                for number in range(20):
                    await other.add.tell.durable(number)
                assert made == []
                holder.signal(9)
        assert await made[0].read() == []


async def test_an_actor_that_another_program_has_is_refused_and_free_when_that_dies(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with xsc.open_pool_nursery(pools=1) as n:
        with program(tmp_path, HOLDER, str(path)) as holder:
            await anyio.to_thread.run_sync(holder.expect, "held")
            with pytest.raises(xsc.StateLocked, match="cannot take over actor 'ledger'"):
                await n.create_actor(Ledger, uid="ledger", snapshot=xsc.Snapshots(path, wait=0.1))
            other = await n.create_actor(Ledger, uid="other", snapshot=xsc.Snapshots(path, wait=0.1))
            await other.add.tell.durable(1)
            assert await other.read() == [1]
            holder.signal(9)
        ref = await n.create_actor(Ledger, uid="ledger", snapshot=xsc.Snapshots(path))
        assert await ref.read() == []


@both_drivers
async def test_a_tell_that_cannot_be_written_down_is_an_error_and_the_next_one_is_none(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.db"
    keep = xsc.Snapshots(path, wait=0.1, every=1)
    async with xsc.open_pool_nursery(pools=1) as n:
        events = n.events()
        ref = await n.create_actor(Ledger, uid="ledger", snapshot=keep)
        with held(path):
            with pytest.raises(xsc.StateLocked, match=r"another program has held it for 0\.1 s"):
                await ref.add.tell.durable("lost, and said so")
            await ref.add("plain")
            failed = await next_event(events, xsc.events.SnapshotFailed)
            assert "another program has held it" in failed.reason
        await ref.add.tell.durable("kept")
        assert await ref.read() == ["plain", "kept"]
    async with xsc.open_pool_nursery(pools=1) as n:
        ref = await n.create_actor(Ledger, uid="ledger", snapshot=keep)
        assert await ref.read() == ["plain", "kept"]


async def test_a_last_snapshot_that_cannot_be_written_is_the_nurserys_error(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    keep = xsc.Snapshots(path, wait=0.1, every=None)
    with contextlib.ExitStack() as stack, pytest.raises(xsc.StateLocked) as caught:
        async with xsc.open_pool_nursery(pools=1) as n:
            ref = await n.create_actor(Ledger, uid="ledger", snapshot=keep)
            await ref.add.tell.durable("kept")
            await ref.add("plain")
            stack.enter_context(held(path))
    assert "in the last snapshot of actor 'ledger'" in "".join(caught.value.__notes__)
    async with xsc.open_pool_nursery(pools=1) as n:
        ref = await n.create_actor(Ledger, uid="ledger", snapshot=keep)
        assert await ref.read() == ["kept"]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda path: path.write_text("a letter\n" * 100), xsc.StateDamaged, "the file is no database"),
        (lambda path: path.write_text("short"), xsc.StateDamaged, "in the middle of its header"),
        (lambda path: path.mkdir(), xsc.StateError, "it is no file"),
        (lambda path: path.parent.rmdir(), xsc.StateError, "there is no directory"),
        (lambda path: version(path, 9), xsc.StateError, "it has format 9"),
    ],
)
async def test_a_file_that_cannot_be_used_is_an_error_of_the_creation(
    tmp_path: Path, make: Any, error: type[Exception], text: str
) -> None:
    path = tmp_path / "directory" / "state.db"
    path.parent.mkdir()
    make(path)
    async with xsc.open_pool_nursery(pools=1) as n:
        with pytest.raises(error, match=text):
            await n.create_actor(Ledger, uid="ledger", snapshot=xsc.Snapshots(path))
        assert await (await n.create_actor(Ledger, uid="ledger")).read() == []


def version(path: Path, number: int) -> None:
    SQLiteStore(str(path)).connect().close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version={number}")
        database.commit()


async def test_a_damaged_snapshot_is_an_event_and_its_messages_are_run_again(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    for turn in range(3):
        async with xsc.open_pool_nursery(pools=1) as n:
            ref = await n.create_actor(Ledger, uid="ledger", snapshot=xsc.Snapshots(path))
            await ref.add.tell.durable(turn)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE snapshots SET state=x'80' WHERE serial=3")
        database.commit()
    async with xsc.open_pool_nursery(pools=1) as n:
        events = n.events()
        ref = await n.create_actor(Ledger, uid="ledger", snapshot=xsc.Snapshots(path))
        damaged = await next_event(events, xsc.events.SnapshotDamaged)
        assert damaged == xsc.events.SnapshotDamaged("ledger", "snapshot 3 is damaged: its digest is another")
        assert await ref.read() == [0, 1, 2]
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE snapshots SET state=x'80'")
        database.commit()
    async with xsc.open_pool_nursery(pools=1) as n:
        with pytest.raises(xsc.StateDamaged, match="nothing is left of actor 'ledger'"):
            await n.create_actor(Ledger, uid="ledger", snapshot=xsc.Snapshots(path))


async def test_a_snapshot_that_the_actor_does_not_take_is_an_error_of_the_creation(tmp_path: Path) -> None:
    keep = xsc.Snapshots(tmp_path / "state.db")
    async with xsc.open_pool_nursery(pools=1) as n:
        ref = await n.create_actor(Ledger, uid="ledger", snapshot=keep)
        await ref.add(1)
        await ref.destroy()
        with pytest.raises(ValueError, match="unpack"):
            await n.create_actor(Other, uid="ledger", snapshot=keep)
        with pytest.raises(xsc.StateError, match=r"has a snapshot, and Plain has no __restore__\(\)"):
            await n.create_actor(Plain, uid="ledger", snapshot=keep)
        ref = await n.create_actor(Ledger, uid="ledger", snapshot=keep)
        assert await ref.read() == [1]


class Plain(xsc.Actor):
    """Has no hooks."""


class Other(xsc.Actor):
    """Expects another state."""

    def __snapshot__(self) -> None: ...

    def __restore__(self, state: Any) -> None:
        (self.state,) = state


# Waiting for each other


async def test_a_durable_tell_waits_for_nothing_that_the_actor_runs(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=0) as outer:
        board = await outer.create_actor(Board)
        async with xsc.open_pool_nursery(pools=2) as n:
            first, second = n.pools.values()
            keep = xsc.Snapshots(tmp_path / "state.db")
            one = await first.create_actor(Ledger, board, uid="one", snapshot=keep)
            two = await second.create_actor(Ledger, board, uid="two", snapshot=keep)
            async with anyio.create_task_group() as group:
                group.start_soon(two.hold_and_ask, one)
                await board.wait("held")
                await one.tell(two, "add", 1)  # while two is busy, and is about to call one
                await board.post("go on")
            assert await two.read() == [1]


async def test_a_durable_tell_that_would_wait_for_itself_is_refused(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=0) as outer:
        board = await outer.create_actor(Board)
        async with xsc.open_pool_nursery(pools=2) as n:
            first, second = n.pools.values()
            keep = xsc.Snapshots(tmp_path / "state.db")
            one = await first.create_actor(Ledger, board, uid="one", snapshot=keep)
            two = await second.create_actor(Ledger, board, uid="two", snapshot=keep, mailbox=1)
            refused = []

            async def attempt(call: Any, *args: Any) -> None:
                try:
                    await call(*args)
                except xsc.DeadlockError:
                    refused.append(call)

            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    group.start_soon(attempt, two.hold_and_ask, one)
                    await board.wait("held")
                    await two.add.tell.durable("fills it")
                    group.start_soon(attempt, one.tell, two, "add", "too much")
                    await board.post("go on")
            assert refused  # both may find the cycle at the same moment
            assert (await two.read())[:1] == ["fills it"]


# A store of one's own


class Shelf:
    """A store in the memory of this process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[Any] = []
        self.rows: dict[int, Row] = {}
        self.saved: tuple[bytes | None, int] = (None, 0)
        self.last = 0

    def connect(self) -> Shelf:
        self.calls.append("connect")
        return self

    def open(self, uid: str, retries: int) -> Past:
        self.calls.append(("open", uid, retries))
        state, number = self.saved
        rows = tuple(row for each, row in sorted(self.rows.items()) if each > number)
        return Past(state, number, self.last, rows, (), (), careful=False)

    def write(self, writes: Any) -> list[bool]:
        for each in writes:
            if isinstance(each, Record):
                self.rows[each.number] = Row(*each[1:])
                self.last = each.number
            elif isinstance(each, Save):
                self.saved = each.state, each.number
            else:
                assert not isinstance(each, Remove)
        return [True] * len(writes)

    def aside(self, uid: str) -> list[Any]:
        return []

    def release(self, uid: str) -> None:
        self.calls.append(("release", uid))

    def close(self) -> None:
        self.calls.append("close")


async def test_state_may_be_kept_in_a_store_of_ones_own(tmp_path: Path) -> None:
    shelf = Shelf("mine")
    async with xsc.open_pool_nursery(pools=0) as n:
        ref = await n.create_actor(Ledger, uid="a", snapshot=xsc.Snapshots(shelf, every=2, retries=5))
        for number in range(5):
            await ref.add.tell.durable(number)
        await ref.kill()
        assert shelf.calls == ["connect", ("open", "a", 5), ("release", "a"), "close"]
        ref = await n.create_actor(Ledger, uid="a", snapshot=xsc.Snapshots(shelf))
        assert await ref.read() == [0, 1, 2, 3, 4]
