"""The store: what is written is there, whole or not at all, and what is wrong with a file is said."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xoscar_sc.errors import StateDamaged, StateError, StateLocked
from xoscar_sc.state import (
    Begin,
    Blame,
    CaughtUp,
    Connection,
    Past,
    Record,
    Remove,
    Row,
    Save,
    SQLiteStore,
)

NEW = Past(None, 0, 0, (), (), (), careful=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def connection(path: Path) -> Iterator[Connection]:
    connection = SQLiteStore(str(path), wait=0.1).connect()
    yield connection
    connection.close()


def begin(path: Path, uid: str = "a", retries: int = 3) -> Past:
    """What there is of an actor, for one that begins now."""
    connection = SQLiteStore(str(path), wait=0.1).connect()
    try:
        return connection.open(uid, retries)
    finally:
        connection.close()


def change(path: Path, statement: str, *values: Any) -> None:
    """Change a file behind the store's back."""
    database = sqlite3.connect(path)
    database.execute(statement, values)
    database.commit()
    database.close()


def recorded(number: int, mark: str = "", uid: str = "a") -> Record:
    return Record(uid, number, "method", mark, b"body %d" % number)


def row(number: int, mark: str = "", attempts: int = 0) -> Row:
    return Row(number, "method", mark, b"body %d" % number, attempts)


# What is there


def test_an_actor_that_is_new_has_nothing(connection: Connection) -> None:
    assert connection.open("a", 3) == NEW


def test_what_was_recorded_is_there_in_order(connection: Connection, path: Path) -> None:
    connection.open("a", 3)
    connection.open("b", 3)
    writes = [recorded(1), recorded(7, uid="b"), recorded(2, "mine"), Remove("b", 7)]
    assert connection.write(writes) == [True, True, True, True]
    connection.close()
    assert begin(path) == NEW._replace(last=2, rows=(row(1), row(2, "mine")))
    assert begin(path, "b") == NEW._replace(last=7)


def test_a_message_that_is_named_as_an_earlier_one_is_not_recorded(connection: Connection) -> None:
    connection.open("a", 3)
    assert connection.write([recorded(1, "x"), recorded(2, "x")]) == [True, False]
    assert connection.write([recorded(3, "x"), recorded(4, "y"), Remove("a", 1)]) == [False, True, True]
    assert connection.write([recorded(5, "x")]) == [False]
    connection.open("b", 3)
    assert connection.write([recorded(1, "x", uid="b")]) == [True]


def test_a_name_is_forgotten_after_ten_thousand_messages(connection: Connection) -> None:
    connection.open("a", 3)
    connection.write([recorded(1, "x")])
    connection.write([recorded(10_000)])
    assert connection.write([recorded(10_001, "x")]) == [False]
    connection.write([recorded(11_002)])
    assert connection.write([recorded(11_003, "x")]) == [True]


def test_a_snapshot_takes_what_is_in_it_out_of_the_journal(connection: Connection, path: Path) -> None:
    connection.open("a", 3)
    connection.write([*map(recorded, range(1, 6)), Save("a", 3, b"state", keep=1)])
    connection.close()
    assert begin(path) == NEW._replace(state=b"state", number=3, last=5, rows=(row(4), row(5)))


def test_what_is_behind_the_oldest_snapshot_that_is_kept_stays(connection: Connection, path: Path) -> None:
    connection.open("a", 3)
    for number in range(1, 5):
        connection.write([recorded(number), Save("a", number, b"state %d" % number, keep=3)])
    database = sqlite3.connect(path)
    assert database.execute("SELECT number FROM snapshots ORDER BY serial").fetchall() == [(2,), (3,), (4,)]
    assert database.execute("SELECT number FROM journal ORDER BY number").fetchall() == [(3,), (4,)]
    database.close()


def test_a_group_is_written_whole_or_not_at_all(connection: Connection, path: Path) -> None:
    connection.open("a", 3)
    connection.write([recorded(1)])
    with pytest.raises(StateError):
        connection.write([recorded(2), Save("a", 0, b"state", keep=1), recorded(1)])  # 1 is there already
    with pytest.raises(StateError, match="surrogates not allowed"):
        connection.write([recorded(2), recorded(3, "\ud800")])
    assert connection.write([recorded(4)]) == [True]
    connection.close()
    assert begin(path) == NEW._replace(last=4, rows=(row(1), row(4)))


def test_what_was_written_is_there_when_the_process_is_killed_at_once(path: Path) -> None:
    source = (
        "import os, sys; from xoscar_sc.state import *\n"
        "c = SQLiteStore(sys.argv[1], 'never').connect(); c.open('a', 3)\n"
        "c.write([Record('a', 1, 'method', '', b'body 1')]); c.write([Save('a', 1, b'state', 2)])\n"
        "c.write([Record('a', 2, 'method', '', b'body 2')]); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", source, str(path)], timeout=60, check=False)
    assert done.returncode == -9
    assert begin(path) == NEW._replace(state=b"state", number=1, last=2, rows=(row(2),))


@pytest.mark.parametrize("fsync", ["always", "snapshot", "never"])
def test_each_way_to_wait_for_the_disk_keeps_the_same(path: Path, fsync: Any) -> None:
    connection = SQLiteStore(str(path), fsync).connect()
    connection.open("a", 3)
    connection.write([recorded(1), Save("a", 1, b"state", 1)])
    connection.write([recorded(2)])
    connection.close()
    assert begin(path) == NEW._replace(state=b"state", number=1, last=2, rows=(row(2),))


# Who has it


def test_an_actor_is_one_connections_until_it_is_let_go(connection: Connection, path: Path) -> None:
    connection.open("a", 3)
    with pytest.raises(StateLocked, match="'a'"):
        begin(path)
    assert begin(path, "b") == NEW
    with pytest.raises(StateLocked, match="'a'"):
        connection.open("a", 3)
    connection.release("a")
    assert begin(path) == NEW


def test_a_database_that_another_program_holds_is_an_error_after_a_while(
    connection: Connection, path: Path
) -> None:
    connection.open("a", 3)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateLocked, match=r"another program has held it for 0\.1 s"):
        connection.write([recorded(1)])
    other.execute("ROLLBACK")
    other.close()
    assert connection.write([recorded(1)]) == [True]


def test_the_file_is_its_users_alone(connection: Connection, path: Path) -> None:
    connection.open("a", 3)
    connection.write([recorded(1)])
    for each in path.parent.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each


# Messages that fail


def test_what_has_failed_too_often_is_put_aside(connection: Connection, path: Path) -> None:
    connection.open("a", 3)
    connection.write([recorded(1), recorded(2), Blame("a", 1, 1, "first", aside=False)])
    connection.close()
    assert begin(path).rows == (row(1, attempts=1), row(2))
    connection = SQLiteStore(str(path)).connect()
    connection.open("a", 3)
    connection.write([Blame("a", 1, 2, "second", aside=True), Save("a", 2, b"", keep=1)])
    assert connection.aside("a") == [(row(1, attempts=2), "second")]
    assert connection.aside("b") == []
    connection.close()
    assert begin(path).rows == ()


def test_who_dies_while_a_message_runs_again_has_it_blamed_the_next_time(path: Path) -> None:
    def die(*begun: int) -> Past:
        connection = SQLiteStore(str(path)).connect()
        past = connection.open("a", 1)
        connection.write([Begin("a", number) for number in begun])
        connection.close()
        return past

    connection = SQLiteStore(str(path)).connect()
    connection.open("a", 1)
    connection.write([recorded(1), recorded(2)])
    connection.close()
    assert not die().careful
    assert die(1, 2) == NEW._replace(last=2, rows=(row(1), row(2)), careful=True)
    assert die(1, 2).rows == (row(1), row(2, attempts=1))
    past = die()
    assert past.rows == (row(1),)
    assert past.aside == ((row(2, attempts=2), "its process died while it ran"),)
    assert die().aside == ()


def test_a_message_that_has_raised_is_not_blamed_for_the_end_of_its_process_too(path: Path) -> None:
    connection = SQLiteStore(str(path)).connect()
    connection.open("a", 3)
    connection.write([recorded(1), recorded(2)])
    for _ in range(2):
        connection.close()
        connection = SQLiteStore(str(path)).connect()
        connection.open("a", 3)
        connection.write([Begin("a", 1), Blame("a", 1, 1, "reason", aside=False)])
    connection.close()
    assert begin(path).rows == (row(1, attempts=1), row(2))


def test_a_message_that_runs_well_in_the_end_is_blamed_no_more(path: Path) -> None:
    connection = SQLiteStore(str(path)).connect()
    connection.open("a", 3)
    connection.write([recorded(1), recorded(2), Blame("a", 1, 3, "reason", aside=False), Begin("a", 2)])
    connection.write([CaughtUp("a")])
    connection.close()
    assert begin(path) == NEW._replace(last=2, rows=(row(1), row(2)))


# Damage


def damaged(path: Path, snapshots: int, keep: int = 2) -> None:
    """A file with snapshots, each with a message of its own, the newest of which are damaged."""
    connection = SQLiteStore(str(path)).connect()
    connection.open("a", 3)
    for number in range(1, 4):
        connection.write([recorded(number), Save("a", number, b"state %d" % number, keep)])
    connection.close()
    change(path, "UPDATE snapshots SET state=x'00' WHERE serial > ?", 3 - snapshots)


def test_a_damaged_snapshot_is_passed_over_for_the_one_before(path: Path) -> None:
    damaged(path, 1)
    past = begin(path)
    assert (past.state, past.number, past.rows) == (b"state 2", 2, (row(3),))
    assert past.damaged == ("snapshot 3 is damaged: its digest is another",)
    assert begin(path).damaged == ()


def test_that_nothing_sound_is_left_is_an_error(path: Path) -> None:
    damaged(path, 2)
    for _ in range(2):
        with pytest.raises(StateDamaged, match=r"snapshot 3 is damaged.*snapshot 2 is damaged"):
            begin(path)


def test_the_beginning_is_what_comes_before_the_first_snapshot(path: Path) -> None:
    damaged(path, 3, keep=4)
    past = begin(path)
    assert (past.state, past.number, past.rows) == (None, 0, (row(1), row(2), row(3)))
    assert len(past.damaged) == 3


@pytest.mark.parametrize("change_to", ["body=x'00'", "method='other'", "method=7", "body=1.5", "digest=x''"])
def test_a_damaged_message_is_put_aside_and_the_others_are_delivered(path: Path, change_to: str) -> None:
    connection = SQLiteStore(str(path)).connect()
    connection.open("a", 3)
    connection.write([recorded(1), recorded(2), recorded(3)])
    connection.close()
    change(path, f"UPDATE journal SET {change_to} WHERE number=2")
    past = begin(path)
    assert past.rows == (row(1), row(3))
    assert [(each.row.number, each.reason) for each in past.aside] == [
        (2, "what the file has of it is damaged")
    ]
    assert begin(path).aside == ()


def test_wherever_a_byte_is_changed_the_state_is_the_old_one_or_an_error(path: Path) -> None:
    damaged(path, 0)
    image = path.read_bytes()
    for at in range(0, len(image), 61):
        path.write_bytes(image[:at] + bytes([image[at] ^ 0xFF]) + image[at + 1 :])
        for rest in ("-wal", "-shm"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        try:
            past = begin(path)
        except StateError:
            continue
        assert past.state in (b"state 3", b"state 2", None), at
        if past.state is None:
            assert not past.rows or past.rows == (row(3),), at
        if past.state == b"state 2":
            assert past.damaged or past.aside, at
            assert past.rows in ((row(3),), ()), at


def test_wherever_a_file_ends_too_early_the_state_is_sound_or_an_error(path: Path) -> None:
    damaged(path, 0)
    image = path.read_bytes()
    for size in range(1, len(image), 509):
        path.write_bytes(image[:size])
        try:
            past = begin(path)
        except StateError:
            continue
        assert past.state in (b"state 3", b"state 2"), size


def test_without_its_log_a_file_has_what_was_before(path: Path) -> None:
    source = (
        "import os, sys; from xoscar_sc.state import *\n"
        "c = SQLiteStore(sys.argv[1]).connect(); c.open('a', 3)\n"
        "c.write([Record('a', 1, 'method', '', b'body 1')]); c.close()\n"
        "c = SQLiteStore(sys.argv[1]).connect(); c.open('a', 3)\n"
        "c.write([Record('a', 2, 'method', '', b'body 2')]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", source, str(path)], timeout=60, check=False)
    path.with_name("state.db-wal").unlink()
    assert begin(path) == NEW._replace(last=1, rows=(row(1),))


# Files that are none


def connect(path: Path | str) -> None:
    SQLiteStore(str(path), wait=0.1).connect().close()


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("this is a letter\n" * 100)
    with pytest.raises(StateDamaged, match="no database"):
        connect(path)
    assert path.read_text() == "this is a letter\n" * 100


def test_a_database_of_something_else_is_refused_and_left_as_it_is(path: Path) -> None:
    change(path, "CREATE TABLE birds (name)")
    before = path.read_bytes()
    with pytest.raises(StateError, match="a database of something else"):
        connect(path)
    assert path.read_bytes() == before


def test_a_file_of_another_format_is_refused_and_left_as_it_is(path: Path) -> None:
    connect(path)
    change(path, "PRAGMA user_version=7")
    before = path.read_bytes()
    with pytest.raises(StateError, match="it has format 7, and this version of the package has 1"):
        connect(path)
    assert path.read_bytes() == before


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"there is no directory .*/nowhere"):
        connect(tmp_path / "nowhere" / "state.db")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="it is no file"):
        connect(tmp_path)


READ_ONLY = """
import os, subprocess, sys
path = sys.argv[1]
from xoscar_sc.state import SQLiteStore
from xoscar_sc.errors import StateError
SQLiteStore(path).connect().close()
subprocess.run(["mount", "--bind", path, path], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
try:
    SQLiteStore(path).connect().open("a", 3)
except StateError as exc:
    print(exc)
"""
FULL = """
import os, subprocess, sys
from xoscar_sc.state import *
from xoscar_sc.errors import StateError
directory = os.path.dirname(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", directory], check=True)
c = SQLiteStore(sys.argv[1]).connect(); c.open("a", 3)
number = 0
try:
    while True:
        c.write([Record("a", number + 1, "method", "", bytes(3000))])
        number += 1
except StateError as exc:
    print(exc)
try:
    c.write([Save("a", number, bytes(300_000), 2)])
except StateError as exc:
    print(exc)
for done in range(1, number - 4):
    try:
        c.write([Remove("a", done)])
    except StateError:
        pass
c.close()
c = SQLiteStore(sys.argv[1]).connect(); past = c.open("a", 3)
print(past.last == number, past.rows[-1].number == number)
"""


def in_a_namespace(source: str, path: Path) -> list[str]:
    """What a program says that may mount things of its own."""
    command = ["unshare", "-rm", sys.executable, "-c", source, str(path)]
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "mount" in done.stderr and "permission" in done.stderr.lower():
        pytest.skip("nothing can be mounted here")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_that_can_be_read_only_is_refused(path: Path) -> None:
    (said,) = in_a_namespace(READ_ONLY, path)
    assert "it can be read only" in said


def test_a_full_disk_is_an_error_and_what_was_written_is_there(path: Path) -> None:
    first, second, rest = in_a_namespace(FULL, path)
    assert "there is no room left" in first
    assert "there is no room left" in second
    assert rest == "True True"


def test_a_connection_leaves_no_descriptor_and_no_log_behind(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    begin(path)
    with pytest.raises(StateError):
        connect(path.parent)
    path.with_name("letter").write_text("x" * 1000)
    with pytest.raises(StateError):
        connect(path.with_name("letter"))
    assert os.listdir("/proc/self/fd") == before
    assert {each.name for each in path.parent.iterdir()} == {
        "state.db",
        "state.db-lock",
        "letter",
        "letter-lock",
    }
