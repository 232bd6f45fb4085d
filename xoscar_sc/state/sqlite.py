"""State in a file of SQLite's: its tables, and the steps that a connection takes.

The file is in WAL mode: readers are in nobody's way, and one writes at a time, whoever else waits for a bounded time.
An actor in it is one connection's, by a lock that is its holder's until it dies.

What is read again is checked: every snapshot and every message has a digest, over its place too, so that one that was
moved is found as well as one that was changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from xoscar_sc.errors import StateDamaged, StateError, StateLocked
from xoscar_sc.state.locks import Locks
from xoscar_sc.state.snapshots import Fsync
from xoscar_sc.state.store import Aside, Begin, Blame, CaughtUp, Past, Record, Remove, Row, Save, Write

FORMAT: Final = 1
"""The file's ``user_version``: any other is refused."""
APPLICATION: Final = 0x78736331
"""Its ``application_id``."""
REMEMBERED: Final = 10_000
"""Messages of an actor after which the name that a sender has given to one is forgotten."""
_SETUP: Final = 0
"""The lock of whoever makes the tables."""
_SMALLEST: Final = 512
"""Bytes of a page, at least."""
_WAL_BYTES: Final = 16 << 20
_SYNC: Final = {"always": "FULL", "snapshot": "NORMAL", "never": "OFF"}

# actors.origin: the state before the first snapshot still counts as one that is kept.
# actors.replaying: messages are being run again; actors.in_hand: and this one is.
_TABLES: Final = """
CREATE TABLE actors (
    id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, last INTEGER NOT NULL DEFAULT 0,
    origin INTEGER NOT NULL DEFAULT 1, replaying INTEGER NOT NULL DEFAULT 0, in_hand INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE snapshots (
    actor INTEGER NOT NULL, serial INTEGER NOT NULL, number INTEGER NOT NULL, digest BLOB NOT NULL,
    state BLOB NOT NULL, PRIMARY KEY (actor, serial)
);
CREATE TABLE journal (
    actor INTEGER NOT NULL, number INTEGER NOT NULL, method TEXT NOT NULL, mark TEXT NOT NULL,
    digest BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, aside INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', body BLOB NOT NULL, PRIMARY KEY (actor, number)
);
CREATE TABLE marks (
    actor INTEGER NOT NULL, mark TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (actor, mark)
) WITHOUT ROWID;
CREATE INDEX marks_by_number ON marks (actor, number);
"""
_CAUSES: Final = {
    sqlite3.SQLITE_BUSY: (StateLocked, "another program has held it for {wait} s"),
    sqlite3.SQLITE_LOCKED: (StateLocked, "another program has held it for {wait} s"),
    sqlite3.SQLITE_CORRUPT: (StateDamaged, "the file is damaged"),
    sqlite3.SQLITE_NOTADB: (StateDamaged, "the file is no database"),
    sqlite3.SQLITE_FULL: (StateError, "there is no room left"),
    sqlite3.SQLITE_READONLY: (StateError, "it can be read only"),
    sqlite3.SQLITE_CANTOPEN: (StateError, "it cannot be opened"),
    sqlite3.SQLITE_IOERR: (StateError, "the disk has failed"),
    sqlite3.SQLITE_TOOBIG: (StateError, "a value is too large for SQLite"),
}


class SQLiteConnection:
    """A :class:`Connection` to a file; see the top of this file."""

    def __init__(self, path: str, fsync: Fsync, wait: float) -> None:
        self._path = path
        self._wait = wait
        self._sync = _SYNC[fsync]
        self._ids: dict[str, int] = {}
        """The actors that are this connection's."""
        place = Path(path)
        if not place.parent.is_dir():
            raise StateError(f"cannot keep state in {path}: there is no directory {place.parent}")
        if place.exists() and not place.is_file():
            raise StateError(f"cannot keep state in {path}: it is no file")
        if place.exists() and 0 < place.stat().st_size < _SMALLEST:  # SQLite would take it for a new one
            raise StateDamaged(f"cannot read {path}: it ends in the middle of its header")
        try:
            _make(path)
            self._locks = Locks(f"{path}-lock")
        except OSError as exc:
            raise StateError(f"cannot keep state in {path}: {exc}") from exc
        try:
            with self._translated("open"):
                # Sync by default, and in one thread at a time, which is not always the same.
                self._db = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
        except BaseException:
            self._locks.close()
            raise
        try:
            with self._translated("open"):
                self._set_up()
        except BaseException:
            self.close()
            raise

    # The file

    def _set_up(self) -> None:
        run = self._db.execute
        if not self._locks.take(_SETUP, self._wait):
            raise StateLocked(
                f"cannot open {self._path}: another program has been opening it for {self._wait} s"
            )
        try:
            run("PRAGMA trusted_schema=OFF")
            version, application = self._one("PRAGMA user_version"), self._one("PRAGMA application_id")
            empty = not self._one("SELECT count(*) FROM sqlite_master")
            if not empty and application != APPLICATION:
                raise StateError(f"cannot keep state in {self._path}: it is a database of something else")
            if not empty and version != FORMAT:
                raise StateError(
                    f"cannot read {self._path}: it has format {version}, and this version of the package has "
                    f"{FORMAT}; open it with the version that has made it"
                )
            mode = run("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise StateError(
                    f"cannot keep state in {self._path}: there is no write-ahead log on its file system"
                )
            run(f"PRAGMA synchronous={self._sync}")
            run(f"PRAGMA journal_size_limit={_WAL_BYTES}")
            if empty:
                with self._transaction():
                    for statement in _TABLES.strip().split(";\n"):
                        run(statement)
                    run(f"PRAGMA application_id={APPLICATION}")
                    run(f"PRAGMA user_version={FORMAT}")
        finally:
            self._locks.leave(_SETUP)

    def _one(self, statement: str, *values: object) -> int:
        row: tuple[int, ...] = self._db.execute(statement, values).fetchone()
        return row[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself takes some back
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Raise what SQLite raises as an error of ours."""
        try:
            yield
        except sqlite3.Error as exc:
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
            kind, why = _CAUSES.get(code, (StateError, "SQLite refuses"))
            raise kind(f"cannot {what} {self._path}: {why.format(wait=self._wait)} ({exc})") from exc
        except (
            ValueError,
            OverflowError,
        ) as exc:  # text that is not unicode, more bytes than SQLite can count
            raise StateError(f"cannot {what} {self._path}: {exc}") from exc

    def close(self) -> None:
        """See :class:`Connection`."""
        try:
            with contextlib.suppress(
                sqlite3.Error
            ):  # the log cannot be taken over into the file: the next one does it
                self._db.close()
        finally:
            self._locks.close()

    # One actor

    def open(self, uid: str, retries: int) -> Past:
        """See :class:`Connection`."""
        with self._translated("read"):
            with self._transaction():
                self._db.execute("INSERT OR IGNORE INTO actors (uid) VALUES (?)", (uid,))
                actor = self._one("SELECT id FROM actors WHERE uid=?", uid)
            if uid in self._ids or not self._locks.take(actor, 0):
                raise StateLocked(
                    f"cannot take over actor {uid!r} in {self._path}: another program, or another actor, has it"
                )
            try:
                with self._transaction():
                    past = self._past(uid, actor, retries)
            except BaseException:
                self._locks.leave(actor)
                raise
        self._ids[uid] = actor
        return past

    def release(self, uid: str) -> None:
        """See :class:`Connection`."""
        actor = self._ids.pop(uid, None)
        if actor is not None:
            self._locks.leave(actor)

    def _past(self, uid: str, actor: int, retries: int) -> Past:
        run = self._db.execute
        last, origin, careful, in_hand = run(
            "SELECT last, origin, replaying, in_hand FROM actors WHERE id=?", (actor,)
        ).fetchone()
        state, number, damaged = self._newest(actor)
        if damaged and state is None and not origin:
            raise StateDamaged(
                f"nothing is left of actor {uid!r} in {self._path}: {'; '.join(damaged)}. Put back a copy of the file, "
                "or begin with a new one"
            )
        aside = []
        if careful and in_hand:
            reason = "its process died while it ran"
            run(
                "UPDATE journal SET attempts=attempts+1, reason=? WHERE actor=? AND number=?",
                (reason, actor, in_hand),
            )
            if self._put_aside(actor, in_hand, retries):
                row = self._row(actor, in_hand)
                aside += [] if row is None else [Aside(row, reason)]
        rows: list[Row] = []
        for (each,) in run(
            "SELECT number FROM journal WHERE actor=? AND number>? AND NOT aside ORDER BY number",
            (actor, number),
        ).fetchall():
            row = self._row(actor, each)
            if row is not None:
                rows.append(row)
                continue
            reason = "what the file has of it is damaged"
            run("UPDATE journal SET aside=1, reason=? WHERE actor=? AND number=?", (reason, actor, each))
            aside.append(Aside(Row(each, "", "", b""), reason))
        run("UPDATE actors SET replaying=?, in_hand=0 WHERE id=?", (bool(rows), actor))
        return Past(state, number, last, tuple(rows), tuple(damaged), tuple(aside), bool(careful))

    def _newest(self, actor: int) -> tuple[bytes | None, int, list[str]]:
        """The newest snapshot that is sound, the number of its last message, and what is wrong with those before."""
        run = self._db.execute
        damaged: list[str] = []
        serials = run("SELECT serial FROM snapshots WHERE actor=? ORDER BY serial DESC", (actor,)).fetchall()
        for (serial,) in serials:
            try:
                number, digest, state = run(
                    "SELECT number, digest, state FROM snapshots WHERE actor=? AND serial=?", (actor, serial)
                ).fetchone()
                if digest == _digest(actor, serial, number, state):
                    return bytes(state), number, damaged
                wrong = "its digest is another"
            except (TypeError, ValueError) as exc:
                wrong = str(exc)
            except sqlite3.DatabaseError as exc:
                wrong = str(exc)
            damaged.append(f"snapshot {serial} is damaged: {wrong}")
            # One that is of no use must not count among those that are kept.
            with contextlib.suppress(sqlite3.DatabaseError):
                run("DELETE FROM snapshots WHERE actor=? AND serial=?", (actor, serial))
        return None, 0, damaged

    def _row(self, actor: int, number: int) -> Row | None:
        """A message of the journal; None if it is damaged."""
        try:
            method, mark, digest, attempts, body = self._db.execute(
                "SELECT method, mark, digest, attempts, body FROM journal WHERE actor=? AND number=?",
                (actor, number),
            ).fetchone()
            if digest == _digest(actor, number, method, mark, body):
                return Row(number, method, mark, bytes(body), int(attempts))
        except (TypeError, ValueError, sqlite3.OperationalError):  # another type than was written, or no text
            pass
        return None

    def _put_aside(self, actor: int, number: int, retries: int) -> bool:
        """Put a message aside if it has failed too often; whether it has."""
        done = self._db.execute(
            "UPDATE journal SET aside=1 WHERE actor=? AND number=? AND attempts>? AND NOT aside",
            (actor, number, retries),
        )
        return bool(done.rowcount)

    # What is written

    def write(self, writes: Sequence[Write]) -> list[bool]:
        """See :class:`Connection`."""
        # What has a snapshot in it is as safe as a snapshot.
        syncs = self._sync == "NORMAL" and any(isinstance(each, Save) for each in writes)
        with self._translated("write to"):
            if syncs:
                self._db.execute("PRAGMA synchronous=FULL")
            try:
                with self._transaction():
                    done = [self._write(each) for each in writes]
                    self._count(writes)
            finally:
                if syncs:
                    self._db.execute("PRAGMA synchronous=NORMAL")
        return done

    def _write(self, each: Write) -> bool:
        run = self._db.execute
        actor = self._ids[each.uid]
        if isinstance(each, Record):
            return self._record(actor, each)
        if isinstance(each, Remove):
            run("DELETE FROM journal WHERE actor=? AND number=?", (actor, each.number))
        elif isinstance(each, Save):
            self._save(actor, each)
        elif isinstance(each, Blame):
            run(
                "UPDATE journal SET attempts=?, reason=?, aside=? WHERE actor=? AND number=?",
                (each.attempts, each.reason, each.aside, actor, each.number),
            )
            run("UPDATE actors SET in_hand=0 WHERE id=? AND in_hand=?", (actor, each.number))
        elif isinstance(each, Begin):
            run("UPDATE actors SET in_hand=? WHERE id=?", (each.number, actor))
            run(
                "UPDATE journal SET attempts=0 WHERE actor=? AND number<? AND attempts>0 AND NOT aside",
                (actor, each.number),
            )
        else:
            assert isinstance(each, CaughtUp)
            run("UPDATE actors SET replaying=0, in_hand=0 WHERE id=?", (actor,))
        return True

    def _record(self, actor: int, each: Record) -> bool:
        run = self._db.execute
        _, number, method, mark, body = each
        if mark:
            known = run(
                "INSERT OR IGNORE INTO marks (actor, mark, number) VALUES (?, ?, ?)", (actor, mark, number)
            )
            if not known.rowcount:
                return False
        run(
            "INSERT INTO journal (actor, number, method, mark, digest, body) VALUES (?, ?, ?, ?, ?, ?)",
            (actor, number, method, mark, _digest(actor, number, method, mark, body), body),
        )
        return True

    def _save(self, actor: int, each: Save) -> None:
        run = self._db.execute
        serial = self._one("SELECT coalesce(max(serial), 0) + 1 FROM snapshots WHERE actor=?", actor)
        run(
            "INSERT INTO snapshots (actor, serial, number, digest, state) VALUES (?, ?, ?, ?, ?)",
            (actor, serial, each.number, _digest(actor, serial, each.number, each.state), each.state),
        )
        kept = run(
            "SELECT serial, number FROM snapshots WHERE actor=? ORDER BY serial DESC LIMIT ?",
            (actor, each.keep),
        ).fetchall()
        if len(kept) < each.keep:
            return
        oldest, number = kept[-1]
        run("DELETE FROM snapshots WHERE actor=? AND serial<?", (actor, oldest))
        run("DELETE FROM journal WHERE actor=? AND number<=? AND NOT aside", (actor, number))
        run("UPDATE actors SET origin=0 WHERE id=? AND origin", (actor,))

    def _count(self, writes: Sequence[Write]) -> None:
        """Keep the highest number of each actor, and forget marks that are old."""
        run = self._db.execute
        last = {each.uid: each.number for each in writes if isinstance(each, Record)}
        for uid, number in last.items():
            actor = self._ids[uid]
            before = self._one("SELECT last FROM actors WHERE id=?", actor)
            run("UPDATE actors SET last=? WHERE id=?", (number, actor))
            if before // 1000 != number // 1000:
                run("DELETE FROM marks WHERE actor=? AND number<=?", (actor, number - REMEMBERED))

    def aside(self, uid: str) -> list[Aside]:
        """See :class:`Connection`."""
        with self._translated("read"):
            found = self._db.execute(
                "SELECT actor, number, method, mark, attempts, body, reason FROM journal JOIN actors ON actor=id "
                "WHERE uid=? AND aside ORDER BY number",
                (uid,),
            ).fetchall()
        return [
            Aside(Row(number, str(method), str(mark), bytes(body), attempts), str(reason))
            for _, number, method, mark, attempts, body, reason in found
        ]


def _make(path: str) -> None:
    """Make a file that is nobody's but its user's, since what is in it is unpickled. SQLite makes the log alike."""
    # Only a new one is opened: to close a file takes away all locks that this process has on it, SQLite's too.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _digest(*parts: object) -> bytes:
    """Of what a row says, in an order that cannot be read in two ways."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, (bytes, bytearray, memoryview)):
            digest.update(b"%d:" % len(part))
            digest.update(part)
        else:
            text = repr(part).encode()
            digest.update(b"%d;" % len(text))
            digest.update(text)
    return digest.digest()
