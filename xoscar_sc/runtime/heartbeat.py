"""Signs of life of a pool, for a parent that has asked for them.

A file in the tree's directory, mapped by both processes, holds two times: a thread that does nothing else writes the
first, a task of the event loop the second. So a beat costs a write to memory, and tells which of the two still runs.
The clock is the system's monotonic one, which all processes of a host share.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import threading
import time
from pathlib import Path
from typing import Literal

import anyio

from xoscar_sc.loop import Loop

_TIMES = struct.Struct("dd")
_FRACTION = 4
"""Beats within the time for which a pool may show no sign of life."""

Missing = Literal["thread", "loop", "both"]


def _path(directory: str, pool_id: str) -> Path:
    return Path(directory) / f"{pool_id}.beat"


class Heart:
    """The pool's side.

    Args:
        loop: whose beats are wanted.
        directory: the tree's.
        pool_id: the pool's.
        seconds: for which it may show no sign of life.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, loop: Loop, directory: str, pool_id: str, seconds: float) -> None:
        self._pause = seconds / _FRACTION
        self._stopped = threading.Event()
        now = time.monotonic()
        with _path(directory, pool_id).open("xb+") as file:
            file.write(_TIMES.pack(now, now))
            file.flush()
            self._memory = mmap.mmap(file.fileno(), _TIMES.size)
        self._thread = threading.Thread(target=self._beat_in_thread, name="xsc-heartbeat", daemon=True)
        self._thread.start()
        loop.spawn(self._beat_in_loop)

    def _beat_in_thread(self) -> None:
        while not self._stopped.wait(self._pause):
            struct.pack_into("d", self._memory, 0, time.monotonic())

    async def _beat_in_loop(self) -> None:
        while not self._stopped.is_set():
            struct.pack_into("d", self._memory, 8, time.monotonic())
            await anyio.sleep(self._pause)

    def stop(self) -> None:
        """The pool is ending."""
        self._stopped.set()
        self._thread.join()


class Pulse:
    """The parent's side. Made when the pool is ready.

    Raises:
        OSError: there is no such file.
    """

    def __init__(self, directory: str, pool_id: str, pid: int, seconds: float) -> None:
        self.seconds = seconds
        self.pause = seconds / _FRACTION
        """Seconds from one look to the next."""
        self._pid = pid
        path = _path(directory, pool_id)
        with path.open("rb+") as file:
            self._memory = mmap.mmap(file.fileno(), _TIMES.size)
        path.unlink()  # both have it mapped: nothing is left of it when they have ended

    def missing(self) -> Missing | None:
        """What has shown no sign of life for too long, if anything has."""
        thread, loop = _TIMES.unpack_from(self._memory)
        now = time.monotonic()
        if min(thread, loop) >= now - self.seconds:
            return None
        # They do not beat at the same moment: when the one has been silent for so long, the other is silent too if it
        # has left out a beat.
        silent = now - self.seconds / 2
        if thread < silent and loop < silent:
            return "both"
        return "thread" if thread < loop else "loop"

    def state(self) -> Literal["stopped", "running", "waiting", "unknown"]:
        """What the system says of the process."""
        try:
            letter = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):  # it has ended
            return "unknown"
        if letter in "Tt":
            return "stopped"
        return "running" if letter == "R" else "waiting"

    def close(self) -> None:
        """Nobody looks any more."""
        self._memory.close()


def forget_pulse(directory: str, pool_id: str) -> None:
    """A pool was not ready: leave nothing of its file."""
    with contextlib.suppress(OSError):
        _path(directory, pool_id).unlink()
