"""What actors remember when their process is gone: snapshots and journals. Knows bytes, and nothing of actors."""

from __future__ import annotations

from xoscar_sc.state.snapshots import Fsync, Snapshots, SQLiteStore, dead_letter, name_of
from xoscar_sc.state.store import (
    Aside,
    Begin,
    Blame,
    CaughtUp,
    Connection,
    Past,
    Record,
    Remove,
    Row,
    Save,
    Store,
    Write,
)

__all__ = [
    "Aside",
    "Begin",
    "Blame",
    "CaughtUp",
    "Connection",
    "Fsync",
    "Past",
    "Record",
    "Remove",
    "Row",
    "SQLiteStore",
    "Save",
    "Snapshots",
    "Store",
    "Write",
    "dead_letter",
    "name_of",
]
