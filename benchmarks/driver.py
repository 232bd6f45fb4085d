"""A subject's process: ``python -m benchmarks.driver SUBJECT FD``."""

from __future__ import annotations

import importlib
import socket
import sys

from benchmarks.common import Control


def main(subject: str, fd: int) -> None:
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    importlib.import_module(f"benchmarks.{subject}").main(Control(sock))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
