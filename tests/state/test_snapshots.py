"""What a user says about the state of an actor."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import xoscar_sc as xsc
from xoscar_sc.errors import StateError
from xoscar_sc.state import Aside, Row, SQLiteStore, dead_letter, name_of


def test_it_is_a_value_that_can_be_sent(tmp_path: Path) -> None:
    one = xsc.Snapshots(tmp_path / "state.db", every=7, every_seconds=1.5, keep=3, fsync="never", retries=0)
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(pickle.loads(pickle.dumps(one)).store) == hash(one.store)
    assert one != xsc.Snapshots(tmp_path / "state.db")


def test_a_path_is_the_same_in_each_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert xsc.Snapshots("state.db").store == SQLiteStore(str(tmp_path / "state.db"))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"path": ""}, ValueError),
        ({"path": "a\0b"}, ValueError),
        ({"path": ":memory:"}, ValueError),
        ({"path": "file:x?mode=memory"}, ValueError),
        ({"path": b"bytes"}, TypeError),
        ({"path": 3}, TypeError),
        ({"path": None}, TypeError),
        ({"every": 0}, ValueError),
        ({"every": 1.5}, TypeError),
        ({"every": True}, TypeError),
        ({"every_seconds": 0}, ValueError),
        ({"every_seconds": float("nan")}, ValueError),
        ({"every_seconds": float("inf")}, ValueError),
        ({"every_seconds": "1"}, TypeError),
        ({"keep": 0}, ValueError),
        ({"keep": None}, TypeError),
        ({"retries": -1}, ValueError),
        ({"wait": -1}, ValueError),
        ({"fsync": "sometimes"}, ValueError),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        xsc.Snapshots(**{"path": "state.db", **wrong})


async def test_what_was_put_aside_is_told_as_events(tmp_path: Path) -> None:
    snapshots = xsc.Snapshots(tmp_path / "state.db")
    assert await snapshots.dead_letters("a") == []
    assert dead_letter("a", Aside(Row(3, "m", "", b"", 2), "why")) == xsc.events.DeadLetter(
        "a", "m", "a#3", "why", 2
    )
    assert name_of("a", 3, "mine") == "mine"
    with pytest.raises(StateError):
        await xsc.Snapshots(tmp_path / "nowhere" / "state.db").dead_letters("a")


def test_sqlite_is_loaded_only_where_it_is_used() -> None:
    source = (
        "import sys, xoscar_sc as xsc; xsc.Snapshots('state.db')\n"
        "names = 'sqlite3', 'xoscar_sc.state.sqlite', 'xoscar_sc.runtime.kept'\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
