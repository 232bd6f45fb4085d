"""What the contract tests share: both event loops, programs as processes, and waits with a bound.

No test here depends on speed: a wait ends by what it waits for, and its bound is there for the test that fails.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
BOUND = 60.0
"""Seconds for what takes a fraction of one."""
TREE = "XSC_CONTRACT_TREE"
"""The environment variable by which all that a program has started is known."""


def count(name: str, usual: int) -> int:
    """How often a test repeats something: the environment may ask for more."""
    return int(os.environ.get(name, usual))


def both_drivers(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test twice: with the root on trio, and on asyncio."""

    async def bounded(fixtures: dict[str, Any]) -> None:
        with anyio.fail_after(BOUND):
            await test(**fixtures)

    @functools.wraps(test)
    def run(driver: str, **fixtures: Any) -> None:
        anyio.run(bounded, fixtures, backend=driver)

    signature = inspect.signature(test)
    driver = inspect.Parameter("driver", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[driver, *signature.parameters.values()])  # type: ignore[attr-defined]
    del run.__wrapped__
    return pytest.mark.parametrize("driver", ["trio", "asyncio"])(run)


class Program:
    """A program in a process of its own, as a user would start it."""

    def __init__(self, path: Path, *args: str, env: dict[str, str] | None = None, **options: Any) -> None:
        self.token = secrets.token_hex(8)
        self._stderr = path.with_suffix(".stderr")
        complete = {**os.environ, "PYTHONPATH": str(ROOT), TREE: self.token, **(env or {})}
        with self._stderr.open("wb") as stderr:
            self._popen = subprocess.Popen(
                [sys.executable, "-W", "error", str(path), *args],
                cwd=path.parent,
                env=complete,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                **options,
            )
        self.pid = self._popen.pid
        self._data = b""

    def line(self) -> str:
        """The next line that the program, or what it has started, writes to stdout."""
        assert self._popen.stdout is not None
        fd = self._popen.stdout.fileno()
        until = time.monotonic() + BOUND
        while b"\n" not in self._data:
            readable, _, _ = select.select([fd], [], [], max(0.0, until - time.monotonic()))
            assert readable, f"the program has not said anything; stderr:\n{self.stderr}"
            more = os.read(fd, 65536)
            assert more, f"the program has ended; stderr:\n{self.stderr}"
            self._data += more
        line, _, self._data = self._data.partition(b"\n")
        return line.decode()

    def lines(self, number: int) -> list[str]:
        """The next lines."""
        return [self.line() for _ in range(number)]

    def expect(self, text: str) -> None:
        """The next line is this one."""
        assert self.line() == text

    def rest(self) -> str:
        """What else it has written to stdout, up to its end."""
        assert self._popen.stdout is not None
        return (self._data + self._popen.stdout.read()).decode()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        try:
            return self._popen.wait(BOUND)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the program does not end; stderr:\n{self.stderr}")

    @property
    def stderr(self) -> str:
        """What has been written to stderr so far."""
        return self._stderr.read_text()

    def descendants(self) -> list[int]:
        """All that it has started and that lives, whoever has inherited it."""
        return [pid for pid in with_mark(f"{TREE}={self.token}") if pid != self.pid]

    def close(self) -> None:
        """Leave nothing of it."""
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        for pid in self.descendants():
            kill(pid)
        assert self._popen.stdout is not None
        self._popen.stdout.close()


@contextmanager
def program(tmp_path: Path, source: str, *args: str, **options: Any) -> Iterator[Program]:
    """Run a program from its source, for as long as the block lasts."""
    path = tmp_path / f"program_{secrets.token_hex(4)}.py"
    path.write_text(textwrap.dedent(source))
    running = Program(path, *args, **options)
    try:
        yield running
    finally:
        running.close()


def run_program(tmp_path: Path, source: str, *args: str, **options: Any) -> str:
    """Run a program to its end, which has to be a good one; what it has written to stdout."""
    with program(tmp_path, source, *args, **options) as running:
        output = running.rest()
        assert running.wait() == 0, running.stderr
        assert not running.stderr, running.stderr
    return output


def stat(pid: int) -> list[str]:
    """State, parent and so on of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return stat(pid)[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def with_mark(mark: str) -> list[int]:
    """Live processes that have this in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in environment.split(b"\0") and not is_gone(int(name)):
                found.append(int(name))
    return found


def kill(pid: int) -> None:
    """Kill a process, if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether something becomes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that happens outside of this process has happened."""
    with anyio.fail_after(BOUND):
        while not condition():  # noqa: ASYNC110 - it happens outside of this process
            await anyio.sleep(0.002)


async def next_event(events: Any, kind: type[T]) -> T:
    """The next event of a kind."""
    with anyio.fail_after(BOUND):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the nursery ended without {kind.__name__}")


def causes(exc: BaseException) -> list[BaseException]:
    """An exception, or the members of a group down to the last."""
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for member in exc.exceptions for leaf in causes(member)]
    return [exc]


def notes(exc: BaseException) -> str:
    """The notes of an exception."""
    return "\n".join(getattr(exc, "__notes__", []))


def has_word(text: str, word: str | int) -> bool:
    """Whether a text has this word, not as a part of a longer one."""
    return re.search(rf"(?<!\w){re.escape(str(word))}(?!\w)", text) is not None
