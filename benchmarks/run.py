"""The rounds: every subject in a process of its own, asked in turn."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from statistics import median
from types import TracebackType

from benchmarks.common import Values
from benchmarks.rows import MEASURES, ROWS, TITLES, UNITS, Measure, Row

Results = dict[str, dict[str, list[float]]]
"""By subject and value: one figure for each round."""

_PATIENCE = 60.0
"""Seconds for one measurement."""


class Subject:
    """A subject's process, from the outside."""

    def __init__(self, name: str) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.settimeout(_PATIENCE)
        command = [sys.executable, "-m", "benchmarks.driver", name, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self.name = name

    def __enter__(self) -> Subject:
        return self

    def answer(self) -> Values:
        data = self._sock.recv(1 << 16)
        if not data:
            raise RuntimeError(f"{self.name} ended with code {self._process.wait()}")
        values: Values = json.loads(data)
        return values

    def measure(self, measure: Measure, scale: float) -> Values:
        self._sock.send(json.dumps([measure.name, measure.seconds * scale, measure.place]).encode())
        return self.answer()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._sock.close()
        try:
            self._process.wait(_PATIENCE if exc is None else 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def needed(groups: list[str]) -> list[Measure]:
    """The measurements for some groups of rows; a row may be shown beside a value of another group."""
    named = [row for row in ROWS if row.group in groups]
    # A value is called after its measurement; at least each that another group's row is shown beside is.
    beside = {value.removesuffix(".p50") for row in named for value in row.values.values()}
    return [each for each in MEASURES if each.group in groups or each.prefix + each.name in beside]


def run(groups: list[str], rounds: int, scale: float) -> Results:
    """Measure, in rounds."""
    measures = needed(groups)
    names = dict.fromkeys(subject for measure in measures for subject in measure.subjects)
    results: Results = {name: {} for name in names}
    with ExitStack() as stack:
        subjects = {name: stack.enter_context(Subject(name)) for name in names}
        for subject in subjects.values():
            subject.answer()
        for number in range(rounds):
            print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
            for measure in (each for each in measures if number < each.rounds):
                for name in measure.subjects:
                    values = subjects[name].measure(measure, scale)
                    for value, figure in values.items():
                        results[name].setdefault(measure.prefix + value, []).append(figure)
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return results


# The table


def _figure(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _cell(figures: list[float], unit: str) -> str:
    if not figures:
        return "–"
    scaled = [figure / UNITS[unit] for figure in figures]
    return f"{_figure(median(scaled))} ({_figure(min(scaled))}..{_figure(max(scaled))})"


def _ratio(ours: list[float], theirs: list[float]) -> str:
    """The median of the ratios, round by round."""
    pairs = [one / other for one, other in zip(ours, theirs, strict=False)]
    return f"{median(pairs):.2f}" if pairs else "–"


def _line(row: Row, results: Results) -> list[str]:
    found = {subject: results.get(subject, {}).get(row.values.get(subject, ""), []) for subject in TITLES}
    ours = found["package"] or found["bare"]
    return [
        row.title,
        row.unit,
        *(_cell(found[subject], row.unit) for subject in TITLES),
        _ratio(ours, found["floor"]) if ours else "–",
        _ratio(found["package"], found["bare"]),
        _ratio(found["package"], found["stdlib"]),
    ]


def table(groups: list[str], results: Results) -> str:
    """The rows of some groups, aligned."""
    head = ["", "", *TITLES.values(), "× floor", "× bare", "× stdlib"]
    lines = [head, *(_line(row, results) for row in ROWS if row.group in groups)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)
