"""What is measured, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.common import LARGE, SIZES

SUBJECTS = ("floor", "bare", "stdlib", "package")
TITLES = {"floor": "floor", "bare": "bare trio", "stdlib": "stdlib", "package": "xoscar_sc"}


@dataclass(frozen=True)
class Measure:
    """One measurement, made by each of some subjects in turn."""

    name: str
    group: str
    subjects: tuple[str, ...]
    seconds: float = 0.3
    place: str = "apart"
    """See :func:`benchmarks.common.placed`."""
    prefix: str = ""
    """What its values are to be called here, before their names."""
    rounds: int = 100
    """It is made in so many rounds at most."""


@dataclass(frozen=True)
class Row:
    """One line of the table: which value of which subject."""

    group: str
    title: str
    unit: str
    values: dict[str, str] = field(default_factory=dict)
    """The name of the value, by subject; a floor may be a value of another measurement."""


UNITS = {"µs": 1e-6, "ms": 1e-3, "k/s": 1e3, "MB": 1e6}
"""How many of seconds, of counts in a second, or of bytes."""

MEASURES = (
    Measure("call", "call", ("floor", "bare", "stdlib", "package")),
    Measure("call", "call", ("floor", "bare", "stdlib", "package"), 0.2, "together", "one."),
    Measure("rate.1", "rate", ("floor", "bare", "stdlib", "package")),
    Measure("rate.64", "rate", ("floor", "bare", "package")),
    Measure("rate.1024", "rate", ("floor", "bare", "package")),
    Measure("tell", "tell", ("floor", "bare", "stdlib", "package")),
    Measure("batch", "batch", ("floor", "stdlib", "package")),
    Measure("read", "read", ("package",)),
    Measure("talk", "read", ("package",)),
    Measure("array", "array", ("floor", "stdlib", "package")),
    Measure("sizes", "sizes", ("floor", "package"), 0.1),
    Measure("large", "sizes", ("floor", "package"), 0.1, rounds=2),
    Measure("copy", "copy", ("floor", "package"), 0.2, rounds=3),
    Measure("durable.always", "durable", ("floor", "package"), 0.5),
    Measure("durable.never", "durable", ("floor", "package"), 0.5),
    Measure("outside", "outside", ("floor", "package"), place="free", rounds=3),
    Measure("mixed", "asyncio", ("package",), place="free"),
    Measure("near", "near", ("floor", "bare", "package"), 0.2),
    Measure("between", "between", ("package",)),
    Measure("cancel", "cancel", ("package",)),
    Measure("start", "start", ("floor", "stdlib", "package"), place="free"),
    Measure("memory", "start", ("floor",), place="free"),
    Measure("kill", "start", ("floor", "stdlib"), place="free"),
)


def _all(value: str, *subjects: str) -> dict[str, str]:
    return dict.fromkeys(subjects, value)


def _latency(title: str, value: str, part: str = "p50", prefix: str = "") -> Row:
    """A latency, beside that of a plain call."""
    others = _all(f"{prefix}call.{part}", "floor", "bare", "stdlib")
    return Row("call", title, "µs", {**others, "package": f"{prefix}{value}.{part}"})


def _sizes() -> list[Row]:
    """Arrays of each size, beside three floors: a socket, memory that both processes have, and a copy in one."""
    rows = []
    for name, size in {**SIZES, **LARGE}.items():
        unit = "ms" if size > 1 << 20 else "µs"
        for title, floor, package in (
            ("one way, beside a socket", "socket.to", "to"),
            ("there and back, beside a socket", "socket.back", "back"),
            ("one way, beside warm memory", "memory", "to"),
            ("shared, one way, beside a copy", "copy", "shared"),
        ):
            values = {"floor": f"sizes.{floor}.{name}", "package": f"sizes.{package}.{name}"}
            rows.append(Row("sizes", f"{name}, {title}", unit, values))
    return rows


ROWS = (
    _latency("call: async, no await, p50", "call"),
    _latency("call: async, no await, p99", "call", "p99"),
    _latency("call: sync, p50", "sync"),
    _latency("call: sync, p99", "sync", "p99"),
    _latency("call: async, waits, p50", "waits"),
    _latency("call: async, waits, p99", "waits", "p99"),
    Row("call", "the same over SocketStream, p50", "µs", {"floor": "call.p50", "bare": "stream.p50"}),
    _latency("on one CPU: async, no await, p50", "call", prefix="one."),
    _latency("on one CPU: sync, p50", "sync", prefix="one."),
    _latency("on one CPU: async, waits, p50", "waits", prefix="one."),
    Row("call", "the same over SocketStream, p50", "µs", {"floor": "one.call.p50", "bare": "one.stream.p50"}),
    Row("rate", "calls, 1 caller", "k/s", _all("rate.1", *SUBJECTS)),
    Row("rate", "calls, 64 callers", "k/s", _all("rate.64", *SUBJECTS)),
    Row("rate", "calls, 1024 callers", "k/s", _all("rate.1024", *SUBJECTS)),
    Row("tell", "tells", "k/s", _all("tell", *SUBJECTS)),
    Row("batch", "batch, items", "k/s", _all("batch", *SUBJECTS)),
    Row("read", "stream, values", "k/s", {**_all("tell", "floor", "bare"), "package": "read"}),
    Row(
        "read",
        "dialogue, there and back, p50",
        "µs",
        {**_all("call.p50", "floor", "bare"), "package": "talk.p50"},
    ),
    Row("array", "1 MiB, one way, p50", "ms", _all("array.to.1.p50", "floor", "stdlib", "package")),
    Row("array", "1 MiB, there and back, p50", "ms", _all("array.back.1.p50", "floor", "stdlib", "package")),
    Row("array", "64 MiB, one way, p50", "ms", _all("array.to.64.p50", "floor", "stdlib", "package")),
    Row(
        "array", "64 MiB, there and back, p50", "ms", _all("array.back.64.p50", "floor", "stdlib", "package")
    ),
    *_sizes(),
    Row("copy", "copy_to, 256 MiB, beside a copy", "ms", _all("copy", "floor", "package")),
    Row("durable", "durable tells, 1 teller, fsync", "k/s", _all("durable.always.1", "floor", "package")),
    Row("durable", "durable tells, 64 tellers, fsync", "k/s", _all("durable.always.64", "floor", "package")),
    Row("durable", "durable tells, 1 teller, no fsync", "k/s", _all("durable.never.1", "floor", "package")),
    Row(
        "durable", "durable tells, 64 tellers, no fsync", "k/s", _all("durable.never.64", "floor", "package")
    ),
    Row(
        "outside",
        "call through a pool's door, p50",
        "µs",
        {"floor": "outside.p50", "package": "outside.own.p50"},
    ),
    Row(
        "outside",
        "call through the root's, p50",
        "µs",
        {"floor": "outside.p50", "package": "outside.door.p50"},
    ),
    Row("outside", "calls, 64 callers, root's door", "k/s", {"package": "outside.door.rate"}),
    Row("outside", "stream, values, root's door", "k/s", {"package": "outside.door.read"}),
    *(
        Row(
            "asyncio",
            f"call from {driver} to a pool on {loop}, p50",
            "µs",
            {**_all("call.p50", "floor", "bare"), "package": f"mixed.{driver}.{loop}"},
        )
        for driver in ("trio", "asyncio", "uvloop")
        for loop in ("trio", "asyncio", "uvloop")
    ),
    Row("near", "same pool, p50", "µs", _all("near.p50", *SUBJECTS)),
    Row("near", "a checkpoint, p50", "µs", _all("checkpoint.p50", *SUBJECTS)),
    Row(
        "between", "pool to pool, p50", "µs", {**_all("call.p50", "floor", "bare"), "package": "between.p50"}
    ),
    Row(
        "cancel",
        "cancel: callee stopped",
        "µs",
        {**_all("call.p50", "floor", "bare"), "package": "cancel.stopped"},
    ),
    Row(
        "cancel", "cancel: caller back", "µs", {**_all("call.p50", "floor", "bare"), "package": "cancel.back"}
    ),
    Row("start", "ready: first pool", "ms", {"floor": "import.libraries", "package": "start.first"}),
    Row("start", "ready: the next, forked", "ms", _all("start.fork", *SUBJECTS)),
    Row("start", "ready: the next, fresh", "ms", {"floor": "import.libraries", "package": "start.exec"}),
    Row("start", "stop of one", "ms", _all("stop", *SUBJECTS)),
    Row("start", "memory of one, forked", "MB", _all("memory", *SUBJECTS)),
    Row("start", "memory of one, fresh", "MB", {"floor": "memory", "package": "memory.exec"}),
    Row("start", "SIGKILL to error in open call", "ms", _all("kill", *SUBJECTS)),
    Row("start", "SIGKILL to answer of the next", "ms", {"floor": "start.fork", "package": "recover"}),
    Row("start", "import", "ms", {"floor": "import.libraries", "package": "import"}),
)

GROUPS = tuple(dict.fromkeys(row.group for row in ROWS))
