"""State that outlives its actor: snapshots, and what an actor is told durably."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, causes, next_event, notes, program, until
from tests.contract.keeping import Board, Journaled, Ledger, Mine

HERE_AND_THERE = pytest.mark.parametrize("pools", [0, 1])


@asynccontextmanager
async def ledger(
    path: Path, pools: int = 1, *args: Any, options: dict[str, Any] | None = None, **keep: Any
) -> AsyncIterator[tuple[xsc.PoolNursery, Any]]:
    """A nursery with a ledger in it."""
    async with xsc.open_pool_nursery(pools=pools) as n:
        snapshot = xsc.Snapshots(path / "state.db", **keep)
        yield n, await n.create_actor(Ledger, *args, uid="ledger", snapshot=snapshot, **(options or {}))


async def entries(path: Path, pools: int = 1) -> list[Any]:
    """What a new ledger has of the state of those before it."""
    async with ledger(path, pools) as (_, ref):
        found: list[Any] = await ref.read()
        return found


@contextlib.contextmanager
def raises(kind: Any) -> Any:
    """As pytest.raises, also if it comes in a group with others of its kind."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - looked at below
        yield caught
    assert any(isinstance(each, kind) for each in causes(caught.value)), caught.value


# Snapshots


@both_drivers
@HERE_AND_THERE
async def test_an_actor_that_is_created_again_has_its_state(tmp_path: Path, pools: int) -> None:
    async with ledger(tmp_path, pools) as (_, ref):
        await ref.add("a")
        await ref.add.tell(("b", 2))
    assert await entries(tmp_path, pools) == ["a", ("b", 2)]


async def test_the_state_comes_back_after_init_and_goes_before_pre_destroy(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        board = await n.create_actor(Board)
        for _ in range(2):
            ref = await n.create_actor(
                Ledger, board, uid="ledger", snapshot=xsc.Snapshots(tmp_path / "state.db")
            )
            await ref.add(1)
            await ref.destroy()
        first = ("__init__", "__post_create__", "__snapshot__", "__pre_destroy__")
        second = ("__init__", "__restore__", "__post_create__", "__snapshot__", "__pre_destroy__")
        assert await board.read() == [first, second]


async def test_there_is_a_snapshot_every_so_many_messages(tmp_path: Path) -> None:
    async with ledger(tmp_path, every=3) as (_, ref):
        for number in range(1, 8):
            await ref.add(number)
            if number in (3, 6):
                await until(lambda: newest(tmp_path) == number // 3)  # noqa: B023 - now
        await ref.kill()
    assert await entries(tmp_path) == [1, 2, 3, 4, 5, 6]


async def test_there_is_a_snapshot_some_time_after_a_change(tmp_path: Path) -> None:
    async with ledger(tmp_path, every=None, every_seconds=0.05) as (_, ref):
        await ref.add(1)
        await until(lambda: count(tmp_path, "snapshots") == 1)
        await ref.add(2)
        await until(lambda: count(tmp_path, "snapshots") == 2)
        await ref.kill()
    assert await entries(tmp_path) == [1, 2]


def ask(path: Path, what: str) -> int:
    """Ask the state file for a number."""
    with contextlib.closing(sqlite3.connect(path / "state.db")) as database:
        return int(database.execute(f"SELECT {what}").fetchone()[0])


def count(path: Path, table: str) -> int:
    """Rows in a table of the state file."""
    return ask(path, f"count(*) FROM {table}")


def newest(path: Path) -> int:
    """The number of the newest snapshot, of all that there have been."""
    return ask(path, "coalesce(max(serial), 0) FROM snapshots")


async def test_an_actor_to_which_nothing_has_happened_takes_no_new_snapshot(tmp_path: Path) -> None:
    async with ledger(tmp_path, keep=5) as (_, ref):
        await ref.add(1)
    async with ledger(tmp_path, keep=5):
        pass
    assert count(tmp_path, "snapshots") == 1


async def test_as_many_snapshots_are_kept_as_was_said(tmp_path: Path) -> None:
    async with ledger(tmp_path, every=1, keep=3) as (_, ref):
        for number in range(1, 6):
            await ref.add(number)
            await until(lambda: newest(tmp_path) == number)  # noqa: B023 - now
        assert count(tmp_path, "snapshots") == 3


@pytest.mark.parametrize("odd", ["raise", lambda: None])
async def test_a_snapshot_that_fails_is_an_event_and_the_last_one_an_error(tmp_path: Path, odd: Any) -> None:
    # A lock cannot be pickled; a lambda can, by value, but not one that holds a lock.
    import threading

    lock = threading.Lock()
    odd = (lambda: lock) if callable(odd) else odd
    with raises((Mine, xsc.SerializationError)) as caught:
        async with ledger(tmp_path, 0, every=2) as (n, ref):
            events = n.events()
            await ref.add.tell.durable(1)
            await ref.turn_odd(odd)
            failed = await next_event(events, xsc.events.SnapshotFailed)
            assert failed.uid == "ledger"
            await ref.add.tell.durable(2)
            assert await ref.read() == [1, 2]
    assert "in the last snapshot of actor 'ledger'" in notes(caught.value)
    assert await entries(tmp_path, 0) == [1, 2]


async def test_an_actor_that_failed_leaves_no_snapshot_of_what_it_failed_with(tmp_path: Path) -> None:
    async with ledger(tmp_path) as (_, ref):
        await ref.add("sound")
    with raises(Mine):
        async with ledger(tmp_path) as (_, ref):
            await ref.add("not sound")
            await ref.fail.tell("failed")
    assert await entries(tmp_path) == ["sound"]


async def test_a_message_that_is_cut_off_is_in_no_snapshot(tmp_path: Path) -> None:
    async with ledger(tmp_path) as (_, ref):
        await ref.add("sound")
    async with xsc.open_pool_nursery(pools=0) as outer:
        board = await outer.create_actor(Board)
        with pytest.raises(RuntimeError, match="the program"):
            async with ledger(tmp_path, 1, board) as (_, ref):
                await ref.add("half of it")
                await ref.hold.tell()
                await board.wait("held")
                raise RuntimeError("the program fails")
    assert await entries(tmp_path) == ["sound"]


async def test_an_idle_actor_that_is_cancelled_has_its_state_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the program"):
        async with ledger(tmp_path) as (_, ref):
            await ref.add("whole")
            raise RuntimeError("the program fails")
    assert await entries(tmp_path) == ["whole"]


async def test_many_actors_in_several_pools_share_a_file(tmp_path: Path) -> None:
    keep = xsc.Snapshots(tmp_path / "state.db", every=5)
    for turn in range(2):
        async with xsc.open_pool_nursery(pools=2) as n:
            group = await n.create_group(Ledger, size=6, uid="ledger", snapshot=keep)
            for number, ref in enumerate(group.members):
                for each in range(7):
                    await ref.add.tell.durable((number, turn, each))
    async with xsc.open_pool_nursery(pools=2) as n:
        group = await n.create_group(Ledger, size=6, uid="ledger", snapshot=keep)
        for number, ref in enumerate(group.members):
            assert await ref.read() == [(number, turn, each) for turn in range(2) for each in range(7)]


# Durable tells


@both_drivers
@HERE_AND_THERE
async def test_what_was_told_durably_is_there_after_a_kill(tmp_path: Path, pools: int) -> None:
    for turn in range(3):
        async with ledger(tmp_path, pools, every=7) as (_, ref):
            assert await ref.read() == list(range(10 * turn))
            for number in range(10 * turn, 10 * turn + 10):
                await (ref.add, ref.add_slowly)[number % 2].tell.durable(number)
            await ref.kill()


async def test_what_was_told_durably_is_there_after_the_death_of_the_pool(tmp_path: Path) -> None:
    for turn in range(3):
        with raises(xsc.PoolDied):
            async with ledger(tmp_path, every=7) as (n, ref):
                assert await ref.read() == list(range(10 * turn))
                for number in range(10 * turn, 10 * turn + 10):
                    await ref.add.tell.durable(number)
                (pool,) = n.pools.values()
                os.kill(pool.pid, signal.SIGKILL)
                await pool.wait()


async def test_a_message_that_waits_is_kept_for_the_next_actor(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=0) as outer:
        board = await outer.create_actor(Board)
        async with ledger(tmp_path, 1, board) as (_, ref):
            await ref.hold.tell()
            await board.wait("held")
            await ref.add.tell.durable(1)
            await ref.add.tell.durable(2)
            await ref.kill()
    assert await entries(tmp_path) == [1, 2]


async def test_plain_and_durable_messages_of_a_task_arrive_in_order(tmp_path: Path) -> None:
    async with ledger(tmp_path) as (_, ref):
        for number in range(0, 60, 3):
            await ref.add.tell(number)
            await ref.add.tell.durable(number + 1)
            await ref.add(number + 2)
        large = bytes(1 << 20)
        await ref.add.tell(large)
        await ref.add.tell.durable(b"behind it")
        assert await ref.read() == [*range(60), large, b"behind it"]


async def test_a_message_with_an_id_of_its_own_is_taken_once(tmp_path: Path) -> None:
    for _ in range(2):
        async with ledger(tmp_path) as (_, ref):
            await ref.add.tell.durable(1, id="one")
            await ref.add.tell.durable(1, id="one")
            await ref.add.tell.durable(2, id="two")
            assert await ref.read() == [1, 2]


@pytest.mark.parametrize(("wrong", "error"), [("", ValueError), ("x" * 1025, ValueError), (3, TypeError)])
async def test_an_id_is_a_text(tmp_path: Path, wrong: Any, error: type[Exception]) -> None:
    async with ledger(tmp_path, 0) as (_, ref):
        with pytest.raises(error, match="id= "):
            await ref.add.tell.durable(1, id=wrong)
        with pytest.raises(xsc.StateError, match="surrogates"):
            await ref.add.tell.durable(1, id="\ud800")


@pytest.mark.parametrize("method", ["note", "note_in_thread"])
async def test_a_method_knows_which_delivery_it_is(tmp_path: Path, method: str) -> None:
    async with ledger(tmp_path, 1, every=None) as (_, ref):
        await getattr(ref, method).tell.durable()
        await getattr(ref, method).tell.durable(id="mine")
        await ref.note()
        told = [xsc.Delivery("ledger#1", False, 0), xsc.Delivery("mine", False, 0), None]
        assert await ref.read() == told
        await ref.kill()
    assert await entries(tmp_path) == [xsc.Delivery("ledger#1", True, 0), xsc.Delivery("mine", True, 0)]


async def test_a_durable_tell_that_raises_fails_the_actor_and_is_put_aside_in_the_end(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=0) as outer:
        board = await outer.create_actor(Board)
        with raises(Mine):
            async with ledger(tmp_path, 1, board, retries=2) as (_, ref):
                await ref.add.tell.durable("before")
                await ref.hold.tell()
                await ref.fail.tell.durable("poison", id="poison")
                await ref.add.tell.durable("after")
                await board.post("go on")
    for attempt in (2, 3):
        with raises(Mine):
            async with xsc.open_pool_nursery(pools=1) as n:
                events = n.events()
                keep = xsc.Snapshots(tmp_path / "state.db", retries=2)
                await n.create_actor(Ledger, uid="ledger", snapshot=keep)
                (pool,) = n.pools.values()
                await pool.wait()
        told = [event async for event in events if isinstance(event, xsc.events.DeadLetter)]
        letter = xsc.events.DeadLetter("ledger", "fail", "poison", "Mine: poison", 3)
        assert told == ([letter] if attempt == 3 else [])
    assert await entries(tmp_path) == ["before", "after"]
    assert await xsc.Snapshots(tmp_path / "state.db").dead_letters("ledger") == [letter]


async def test_a_durable_tell_that_kills_its_process_is_put_aside_in_the_end(tmp_path: Path) -> None:
    deaths = 0
    while not deaths or deaths < 20:
        try:
            async with ledger(tmp_path, retries=1) as (_, ref):
                if not deaths:
                    await ref.add.tell.durable("before")
                    with contextlib.suppress(xsc.PoolDied):
                        await ref.die.tell.durable("poison")
                        await ref.add.tell.durable("after")
                else:
                    assert await ref.read() in (["before"], ["before", "after"])
                    break
        except (xsc.PoolDied, BaseExceptionGroup):
            deaths += 1
    assert deaths == 4  # at first, again, and twice as one that is suspected
    (letter,) = await xsc.Snapshots(tmp_path / "state.db").dead_letters("ledger")
    assert (letter.method, letter.attempts) == ("die", 2)


async def test_a_message_that_no_longer_makes_sense_is_put_aside(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        board = await n.create_actor(Board)
        keep = xsc.Snapshots(tmp_path / "state.db")
        ref = await n.create_actor(Ledger, board, uid="ledger", snapshot=keep)
        await ref.hold.tell()
        await board.wait("held")
        await ref.add_slowly.tell.durable(1)
        await ref.add.tell.durable(2)
        await ref.kill()
        events = n.events()
        other = await n.create_actor(Changed, uid="ledger", snapshot=keep)
        assert await other.read() == [2]
        letter = await next_event(events, xsc.events.DeadLetter)
        assert (letter.uid, letter.method, letter.attempts) == ("ledger", "add_slowly", 0)
        assert "Changed has no public method 'add_slowly'" in letter.reason


class Changed(xsc.Actor):
    """A ledger of a later version of a program."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def __snapshot__(self) -> Any:
        return self.entries

    def __restore__(self, state: Any) -> None:
        self.entries = state

    def add(self, entry: Any) -> None:
        self.entries.append(entry)

    def read(self) -> list[Any]:
        return self.entries


async def test_no_snapshot_is_taken_while_a_durable_tell_has_lent_the_lock(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=0) as outer:
        board = await outer.create_actor(Board)
        async with ledger(tmp_path, 1, board, every=1) as (_, ref):
            await ref.lend.tell.durable()
            await board.wait("lent")
            await ref.add.tell.durable("meanwhile")
            assert await ref.read() == ["begun", "meanwhile"]
            assert count(tmp_path, "snapshots") == 0
            await ref.kill()
        await board.post("go on")
        async with ledger(tmp_path, 1, board) as (_, ref):
            await board.wait("lent", 2)
    assert sorted(await entries(tmp_path)) == ["begun", "ended", "meanwhile"]


async def test_an_actor_without_snapshots_forgets_what_it_has_done(tmp_path: Path) -> None:
    keep = xsc.Snapshots(tmp_path / "state.db")
    async with xsc.open_pool_nursery(pools=1) as n:
        board = await n.create_actor(Board)
        ref = await n.create_actor(Journaled, board, uid="j", snapshot=keep)
        await ref.post.tell.durable("done")
        await ref.post.tell.durable("not done", "wait")
        await board.wait(("not done", False))
        await ref.kill()
        ref = await n.create_actor(Journaled, board, uid="j", snapshot=keep)
        await board.wait(("not done", True))
        assert await board.read() == [("done", False), ("not done", False), ("not done", True)]
        await ref.kill()
    assert (count(tmp_path, "journal"), count(tmp_path, "snapshots")) == (1, 0)


# What cannot be


async def test_an_actor_without_a_journal_says_so(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        for pool in ({"pool": None}, {"strategy": xsc.strategy.MainPool()}):
            ref = await n.create_actor(Ledger, **pool)  # type: ignore[arg-type]
            with pytest.raises(xsc.StateError, match="keeps no journal: create it with snapshot="):
                await ref.add.tell.durable(1)
            assert await ref.read() == []


@HERE_AND_THERE
async def test_what_an_actor_cannot_take_is_refused_before_it_is_written_down(
    tmp_path: Path, pools: int
) -> None:
    async with ledger(tmp_path, pools) as (_, known):
        ref: Any = await xsc.actor_ref(known.address, known.uid)
        for method, args, error, text in (
            ("nothing", (), AttributeError, "no public method 'nothing'"),
            ("add", (1, 2), TypeError, "add"),
            ("beside", (), TypeError, "runs beside other messages"),
            ("talk", (), TypeError, "runs beside other messages"),
            ("numbers", (), TypeError, "gives a stream"),
            ("unlocked", (), AttributeError, "no public method"),
        ):
            with pytest.raises(error, match=text):
                await getattr(ref, method).tell.durable(*args)
        with pytest.raises(TypeError, match="add"):
            await known.add.tell.durable()
        import threading

        with pytest.raises(xsc.SerializationError, match="argument 1"):
            await known.add.tell.durable(threading.Lock())
        assert await known.read() == []
        assert count(tmp_path, "journal") == 0


@pytest.mark.parametrize(
    ("cls", "options", "error", "text"),
    [
        (Board, {"uid": "b"}, TypeError, "Board is a StatelessActor"),
        (Ledger, {}, ValueError, "snapshot= goes with uid="),
        (Ledger, {"uid": "b", "snapshot": "state.db"}, TypeError, "it is xsc.Snapshots"),
    ],
)
async def test_what_has_no_state_to_keep_is_refused(
    tmp_path: Path, cls: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        with pytest.raises(error, match=text):
            await n.create_actor(cls, **{"snapshot": xsc.Snapshots(tmp_path / "state.db"), **options})


async def test_one_hook_without_the_other_is_refused(tmp_path: Path) -> None:
    class Half(xsc.Actor):
        def __snapshot__(self) -> int:
            return 1

    async with xsc.open_pool_nursery(pools=0) as n:
        with pytest.raises(TypeError, match=r"Half has __snapshot__\(\) and no __restore__\(\)"):
            await n.create_actor(Half, uid="h", snapshot=xsc.Snapshots(tmp_path / "state.db"))


async def test_a_full_mailbox_refuses_or_makes_wait_and_one_that_drops_keeps_nothing(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        board = await n.create_actor(Board)
        for number, overflow in enumerate(("raise", "drop_oldest", "drop_newest")):
            keep = xsc.Snapshots(tmp_path / "state.db")
            ref = await n.create_actor(
                Ledger, board, uid=f"l{number}", snapshot=keep, mailbox=2, overflow=overflow
            )
            if overflow != "raise":
                with pytest.raises(xsc.StateError, match="drops messages"):
                    await ref.add.tell.durable(1)
                continue
            await ref.hold.tell()
            await board.wait("held")
            await ref.add.tell.durable(1)
            await ref.add.tell.durable(2)
            with pytest.raises(xsc.MailboxFull):
                await ref.add.tell.durable(3)
            await board.post("go on")
            while True:
                with contextlib.suppress(xsc.MailboxFull):
                    assert await ref.read() == ["held", 1, 2]
                    break


async def test_a_store_that_fails_in_its_own_way_is_an_error_of_the_call(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=0) as n:
        with pytest.raises(ZeroDivisionError):
            await n.create_actor(Ledger, uid="l", snapshot=xsc.Snapshots(Odd(1)))
        ref = await n.create_actor(Ledger, uid="l", snapshot=xsc.Snapshots(Odd(0), every=None))
        with pytest.raises(xsc.StateError, match="ZeroDivisionError"):
            await ref.add.tell.durable(1)
        assert await ref.read() == []
        await ref.kill()


class Odd:
    """A store that can do nothing, sooner or later."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once

    def __hash__(self) -> int:
        return self.at_once

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd) and other.at_once == self.at_once

    def connect(self) -> Any:
        return 1 // 0 if self.at_once else self

    def open(self, uid: str, retries: int) -> Any:
        from xoscar_sc.state import Past

        return Past(None, 0, 0, (), (), (), careful=False)

    def write(self, writes: Any) -> Any:
        return 1 // 0

    def release(self, uid: str) -> None: ...
    def close(self) -> None: ...


# Programs

SERVER = """
import sys
import trio
import xoscar_sc as xsc
from tests.contract.keeping import Ledger


async def main():
    async with xsc.open_pool_nursery(pools=1, address="tcp://127.0.0.1:0") as n:
        keep = xsc.Snapshots(sys.argv[1], every=None)
        ref = await n.create_actor(Ledger, uid="ledger", snapshot=keep)
        await ref.add("inside")
        print(n.address, flush=True)
        await trio.sleep_forever()


trio.run(main)
"""


async def test_another_program_tells_durably_and_sigterm_keeps_the_state(tmp_path: Path) -> None:
    with program(tmp_path, SERVER, str(tmp_path / "state.db")) as server:
        async with xsc.connect(server.line()) as remote:
            ref = await remote.actor_ref("ledger")
            for _ in range(2):
                await ref.add.tell.durable("outside", id="mine")
            with pytest.raises(AttributeError, match="no public method 'nothing'"):
                await ref.nothing.tell.durable()
            assert await ref.read() == ["inside", "outside"]
        server.signal(signal.SIGTERM)
        server.wait()
    assert await entries(tmp_path) == ["inside", "outside"]
