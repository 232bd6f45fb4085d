"""What only Linux has, and Python has no name for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def adopt_orphans() -> None:
    """From now on, a descendant whose parent ends becomes a child of this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Be killed when the thread that forked this process ends, or now, if ``parent`` has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def set_name(name: str) -> None:
    """Let ``ps`` and ``top`` show this name; 15 bytes of it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_bytes(name.encode(errors="replace")[:15])


class EnvironmentMark:
    """A variable in the part of memory that ``/proc/<pid>/environ`` shows.

    That is the environment a program was started with: what a fork changes in its own is not seen there, nor in
    the forks that it makes. So the guardian is started with a long enough value, which its forks overwrite in place.
    """

    def __init__(self, variable: str, placeholder: str) -> None:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[47]), int(fields[48])  # env_start and env_end of proc_pid_stat(5)
        self._room = len(placeholder)
        self._address = 0
        if 0 < start < end:
            offset = ctypes.string_at(start, end - start).find(f"\0{variable}={placeholder}\0".encode())
            self._address = start + offset + len(variable) + 2 if offset >= 0 else 0

    def set(self, value: str) -> None:
        """Overwrite the placeholder; nothing is done if it was not found, or is too short."""
        text = value.encode()
        if self._address and len(text) <= self._room:
            ctypes.memmove(self._address, text.ljust(self._room, b"\0"), self._room)
