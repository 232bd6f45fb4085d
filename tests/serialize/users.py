"""Types as users write them, in a module that every process can import."""

from __future__ import annotations

import enum
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


class Word(str):
    __slots__ = ()


@dataclass
class Point:
    x: object
    y: object


class KeywordOnly(Exception):
    def __init__(self, *, host: str, port: int) -> None:
        super().__init__(f"cannot reach {host}:{port}")
        self.host = host
        self.port = port


class Several(ValueError):
    def __init__(self, name: str, count: int) -> None:
        super().__init__(f"{name} x {count}")
        self.name = name
        self.count = count


class SilentInit(Exception):
    def __init__(self, value: int) -> None:  # does not call super().__init__
        self.value = value


class OwnNew(Exception):
    def __new__(cls, code: int) -> OwnNew:
        self = super().__new__(cls, "made by new")
        self.code = code
        return self

    code: int


class OwnOSError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(5, "broken", path)
        self.path = path


class Slots(Exception):
    __slots__ = ("empty", "one", "two")

    def __init__(self, one: int) -> None:
        super().__init__("slots")
        self.one = one
        self.two = None


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Reduces(Exception):
    def __init__(self, lock_name: str) -> None:
        super().__init__(lock_name)
        self.lock = threading.Lock()
        self.lock_name = lock_name

    def __reduce__(self) -> tuple[Any, ...]:
        return Reduces, (self.lock_name,)


class HasState(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"value": self.value}

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        self.value = state["value"] if state else 0
        self.lock = threading.Lock()


class HoldsLock(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Exits(Exception):
    """Its pickle ends the process that reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exit_now, ()


def exit_now() -> None:
    raise SystemExit(3)


class NoException(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return str, ("not an exception",)


class Batch(ExceptionGroup[Exception]):
    def __new__(cls, job: str, excs: Sequence[Exception]) -> Batch:
        self = super().__new__(cls, f"job {job}", excs)
        self.job = job
        return self

    job: str

    def derive(self, excs: Sequence[Exception]) -> Batch:  # type: ignore[override]
        return Batch(self.job, excs)


class Unpicklable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("stays here")
