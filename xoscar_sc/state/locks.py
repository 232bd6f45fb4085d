"""Who has an actor: a lock on a byte of a file beside the store's, which the kernel takes back when its holder dies."""

from __future__ import annotations

import fcntl
import os
import struct
import time

_STEP = 0.02
"""Seconds between two tries to get a lock that somebody has: the kernel offers no wait with a bound."""


class Locks:
    """Locks on numbered bytes of one file. They belong to this object, not to the process: a second one waits too."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, number: int, wait: float) -> bool:
        """Take a lock, within ``wait`` seconds; whether it was got."""
        until = time.monotonic() + wait
        while True:
            try:
                self._set(fcntl.F_WRLCK, number)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(_STEP)
            else:
                return True

    def leave(self, number: int) -> None:
        """Give a lock back."""
        self._set(fcntl.F_UNLCK, number)

    def close(self) -> None:
        """Give all of them back. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _set(self, kind: int, number: int) -> None:
        lock = struct.pack("hhqqi4x", kind, os.SEEK_SET, number, 1, 0)
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, lock)
