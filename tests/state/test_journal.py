"""Whatever is written in whatever order, and whenever the process ends, what is there is what the model says."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from xoscar_sc.state import Blame, Connection, Record, Remove, Row, Save, SQLiteStore, Write

MARKS = st.sampled_from(["", "", "a", "b", "c"])


class Journal(RuleBasedStateMachine):
    """One actor's journal beside a list and a set. A crash is another connection to a copy of the files."""

    rows = Bundle("rows")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="xsc-journal-"))
        self.connection: Connection | None = None
        self.last = 0
        self.kept: dict[int, Row] = {}
        """What is in the journal."""
        self.marks: set[str] = set()
        self.snapshots: list[tuple[int, bytes]] = []
        self.keep = 2
        self.copies = 0

    @initialize(keep=st.integers(1, 3))
    def begin(self, keep: int) -> None:
        self.keep = keep
        self.connection = self.connect(self.directory)
        self.connection.open("a", 1)

    def connect(self, directory: Path) -> Connection:
        return SQLiteStore(str(directory / "state.db"), "never", wait=0).connect()

    def write(self, *writes: Write) -> list[bool]:
        assert self.connection is not None
        return self.connection.write(writes)

    @rule(marks=st.lists(MARKS, min_size=1, max_size=5), body=st.binary(max_size=20))
    def record(self, marks: list[str], body: bytes) -> None:
        writes = []
        for mark in marks:
            self.last += 1
            writes.append(Record("a", self.last, "m", mark, body))
        for each, new in zip(writes, self.write(*writes), strict=True):
            assert new is (not each.mark or each.mark not in self.marks)
            if new:
                self.kept[each.number] = Row(each.number, "m", each.mark, body)
                self.marks |= {each.mark} - {""}

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.kept:
            number = data.draw(st.sampled_from(sorted(self.kept)))
            self.write(Remove("a", number))
            del self.kept[number]

    @rule(data=st.data(), aside=st.booleans())
    def blame(self, data: st.DataObject, aside: bool) -> None:
        if self.kept:
            number = data.draw(st.sampled_from(sorted(self.kept)))
            row = self.kept[number] = self.kept[number]._replace(attempts=self.kept[number].attempts + 1)
            self.write(Blame("a", number, row.attempts, "why", aside))
            if aside:
                del self.kept[number]

    @rule(back=st.integers(0, 3), state=st.binary(max_size=50))
    def save(self, back: int, state: bytes) -> None:
        number = max(self.snapshots[-1][0] if self.snapshots else 0, self.last - back)
        self.write(Save("a", number, state, self.keep))
        self.snapshots.append((number, state))
        if len(self.snapshots) >= self.keep:
            self.snapshots = self.snapshots[-self.keep :]
            for each in list(self.kept):
                if each <= self.snapshots[0][0]:
                    del self.kept[each]

    @rule()
    def end_and_begin(self) -> None:
        assert self.connection is not None
        self.connection.close()
        self.connection = self.connect(self.directory)
        self.connection.open("a", 1)

    @invariant()
    def a_crash_now_leaves_what_was_written(self) -> None:
        if self.connection is None:
            return
        self.copies += 1
        copy = self.directory / f"copy-{self.copies}"
        copy.mkdir()
        for name in ("state.db", "state.db-wal"):
            if (self.directory / name).exists():
                shutil.copy(self.directory / name, copy / name)
        other = self.connect(copy)
        past = other.open("a", 1)
        other.close()
        number, state = self.snapshots[-1] if self.snapshots else (0, None)
        assert (past.number, past.state, past.last) == (number, state, self.last)
        assert list(past.rows) == [row for each, row in sorted(self.kept.items()) if each > number]
        shutil.rmtree(copy)

    def teardown(self) -> None:
        if self.connection is not None:
            self.connection.close()
        shutil.rmtree(self.directory)


TestJournal = Journal.TestCase
TestJournal.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
