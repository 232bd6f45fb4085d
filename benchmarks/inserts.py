"""The floor of durable tells: plain inserts into a table of SQLite's, with the same pragmas."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.common import PAYLOAD, Values

TELLERS = 64
SYNC = {"always": "FULL", "never": "OFF"}
EVERY = 1000


def insert(fsync: str, seconds: float) -> Values:
    """Rows inserted in a second: one in a transaction, and as many as there are tellers."""
    values = Values()
    for group in (1, TELLERS):
        with tempfile.TemporaryDirectory() as directory:
            database = sqlite3.connect(Path(directory, "floor.db"), isolation_level=None)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(f"PRAGMA synchronous={SYNC[fsync]}")
            database.execute("CREATE TABLE journal (number INTEGER PRIMARY KEY, body BLOB)")
            begun, rows = perf_counter(), 0
            while perf_counter() < begun + seconds:
                database.execute("BEGIN IMMEDIATE")
                for _ in range(group):
                    database.execute("INSERT INTO journal (body) VALUES (?)", (PAYLOAD,))
                database.execute("COMMIT")
                rows += group
                if rows % EVERY < group:
                    database.execute("DELETE FROM journal")
            values[f"durable.{fsync}.{group}"] = rows / (perf_counter() - begun)
            database.close()
    return values
