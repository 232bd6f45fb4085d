"""What a test has left behind: processes, descriptors, threads, shared memory, files.

:func:`look` takes a picture; what is in a later picture and not in this one was left behind. A process that has
lost its parents is found by its environment, which it has inherited from this run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

MARK = "XSC_TEST_MARK"
"""The environment variable by which the processes of this run are known; its value is unique."""
RUNTIME_DIR = "XSC_RUNTIME_DIR"
"""The environment variable that names the directory for sockets."""
PATIENCE = 5.0
"""Seconds for what goes away by itself, such as a process that was told to end."""

Picture: TypeAlias = dict[tuple[str, str], str]
"""What is there, as (kind, identity) to a description."""

# A trio worker waits ten seconds for its next job, and an anyio worker for the end of its loop: both are idle then.
IDLE_WORKERS = ("Trio thread ", "AnyIO worker thread")


def look() -> Picture:
    """Everything that a test could leave behind, as it is now."""
    return {**processes(), **descriptors(), **threads(), **files()}


def left_behind(before: Picture, patience: float = PATIENCE) -> Picture:
    """What is there and was not there ``before``, once it is gone or ``patience`` seconds are over."""
    deadline = time.monotonic() + patience
    pause = 0.002
    while True:
        left = {key: text for key, text in look().items() if key not in before}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def kill(left: Picture) -> None:
    """Kill the processes among what was left, for the sake of the next test."""
    for kind, identity in left:
        if kind == "process":
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(identity.split()[0]), signal.SIGKILL)


def processes() -> Picture:
    """Live descendants, live processes with this run's mark, and children that nobody has waited for.

    Any other zombie is dead: whoever has inherited it may take its time.
    """
    table = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None}
    ours = {os.getpid()}
    grown = True
    while grown:
        more = {pid for pid, (_, parent, _) in table.items() if parent in ours} - ours
        grown = bool(more)
        ours |= more
    picture: Picture = {}
    for pid, (state, parent, started) in table.items():
        if pid == os.getpid():
            continue
        if state in "ZX":
            if parent == os.getpid():
                picture["process", f"{pid} {started}"] = (
                    f"process {pid}: it has ended, and nobody waited for it"
                )
        elif pid in ours or _has_mark(pid):
            picture["process", f"{pid} {started}"] = f"process {pid}: {_command(pid)}"
    return picture


def descriptors() -> Picture:
    """Open descriptors of this process, each with what it leads to."""
    picture: Picture = {}
    for name in os.listdir("/proc/self/fd"):
        # The descriptor of this listing is among them, and closed by now.
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{name}")
            picture["descriptor", f"{name} {target}"] = f"descriptor {name}: {target}"
    return picture


def threads() -> Picture:
    """Threads of this process, but for idle workers."""
    return {
        ("thread", f"{thread.native_id} {thread.name}"): f"thread {thread.name!r}"
        for thread in threading.enumerate()
        if not thread.name.startswith(IDLE_WORKERS)
    }


def files() -> Picture:
    """Our files in /dev/shm, and all that is in the runtime directory.

    Semaphores, ``sem.*``, are of other programs: nothing here makes any.
    """
    picture: Picture = {}
    for entry in os.scandir("/dev/shm"):
        if entry.name.startswith("sem."):
            continue
        with contextlib.suppress(FileNotFoundError):
            if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                picture["file", entry.path] = f"shared memory {entry.path}"
    for path in Path(os.environ[RUNTIME_DIR]).rglob("*"):
        picture["file", str(path)] = f"file {path}"
    return picture


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _stat(pid: int) -> tuple[str, int, str] | None:
    """State, parent and start time of a process; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # A command's name may hold blanks and parentheses; the last one closes it.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), fields[19]


def _has_mark(pid: int) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={os.environ[MARK]}".encode() in environment.split(b"\0")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "gone by now"
