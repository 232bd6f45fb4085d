"""What the subjects share: the message, the clock, and the way to the process that asks."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

SIZE = 40
"""Bytes of a message of the subjects without a codec: a number of four bytes, and the payload."""
PAYLOAD = b"x" * (SIZE - 4)
BATCH = 1000
"""Calls in a batch."""
CHUNK = 64 << 10
"""Bytes that a read asks for."""
WARM = 0.15
"""Share of the time of a measurement that goes before it."""
ARRAYS = {"1": 1 << 20, "64": 64 << 20}
"""Bytes of large values, by what they are called."""
SIZES = {"1 KiB": 1 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20, "16 MiB": 16 << 20}
LARGE = {"64 MiB": 64 << 20, "512 MiB": 512 << 20}
"""Bytes of the arrays that are compared with a socket, with memory and with a copy; the large ones in few rounds."""
WHOLE = 256 << 20
"""Bytes of a bulk copy."""
COPIES = 10
"""So many times an array has to fit into the memory that is free, or it is left out."""
PAGE = 4096
"""A large value is read once in so many bytes: in each of its pages."""
TELLS = 5000
"""Tells between two looks at the clock: what is on its way at the end is waited for."""

Values = dict[str, float]


class Control:
    """A subject's end of its connection to the process that asks. One message is one packet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def receive(self) -> tuple[str, float, str] | None:
        """The next measurement to make, its seconds, and its place; None: no more."""
        data = self.sock.recv(4096)
        if not data:
            return None
        measure, seconds, place = json.loads(data)
        return measure, seconds, place

    def answer(self, values: Values) -> None:
        self.sock.sendall(json.dumps(values).encode())


@contextmanager
def placed(place: str, callees: list[int]) -> Iterator[None]:
    """Bind this process and those it calls to CPUs: ``"apart"``, ``"together"``, or ``"free"``, not at all.

    Args:
        place: one of these.
        callees: their pids.
    """
    usable = os.sched_getaffinity(0)
    first, second = min(usable), max(usable)
    if place != "free":
        os.sched_setaffinity(0, {first})
        for pid in callees:
            os.sched_setaffinity(pid, {second if place == "apart" else first})
    try:
        yield
    finally:
        for pid in (0, *callees):
            os.sched_setaffinity(pid, usable)


def serve(control: Control, measures: dict[str, Callable[[float], Values]], callees: list[int]) -> None:
    """Make measurements, for a subject without an event loop."""
    control.answer({})
    while (request := control.receive()) is not None:
        measure, seconds, place = request
        with placed(place, callees):
            values = measures[measure](seconds)
        control.answer(values)


@contextmanager
def forked(child: Callable[[socket.socket], None]) -> Iterator[tuple[socket.socket, int]]:
    """A fork of this process that runs ``child`` at the other end of a socket pair, and its pid."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            child(theirs)
        finally:
            os._exit(0)
    theirs.close()
    try:
        yield ours, pid
    finally:
        ours.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def latency(name: str, samples: list[float]) -> Values:
    """The median and the 99th of a hundred, in seconds."""
    samples.sort()
    count = len(samples)
    return {f"{name}.p50": samples[count // 2], f"{name}.p99": samples[min(count * 99 // 100, count - 1)]}


def time_calls(name: str, call: Callable[[], Any], seconds: float) -> Values:
    """The latency of a blocking call."""
    samples: list[float] = []
    for length in (seconds * WARM, seconds):
        samples = []
        before, until = perf_counter(), perf_counter() + length
        while before < until:
            call()
            after = perf_counter()
            samples.append(after - before)
            before = after
    return latency(name, samples)


def fit(sizes: dict[str, int]) -> dict[str, int]:
    """Those of some sizes for which there is memory."""
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))
    return {name: size for name, size in sizes.items() if size * COPIES < free}


def enough(seconds: float) -> Iterator[bool]:
    """Calls to make: some that do not count, and then as many as there is time for, one at least."""
    for _ in range(3):
        yield False
    until = perf_counter() + seconds
    yield True
    while perf_counter() < until:
        yield True


def time_few(name: str, call: Callable[[], Any], seconds: float) -> Values:
    """The median of a blocking call that may take long."""
    samples: list[float] = []
    for counts in enough(seconds):
        before = perf_counter()
        call()
        if counts:
            samples.append(perf_counter() - before)
    return {name: sorted(samples)[len(samples) // 2]}


def uss(pid: int) -> float:
    """Bytes of memory that a process has to itself."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1]) * 1024
    return float(total)
