"""An entry whose guardian finds no room for another process."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from tests.launch.entries import main

__all__ = ["main"]


def fork() -> NoReturn:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


if os.environ.get("XSC_POOL", "").startswith("-"):
    os.fork = fork
