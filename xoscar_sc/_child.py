"""A pool's entry: what its process calls first. Light to import."""

from __future__ import annotations

import socket
from typing import Any

from xoscar_sc.runtime import run_pool


def main(channel: socket.socket, guardian: socket.socket, payload: bytes) -> Any:
    """Be a pool; see :func:`xoscar_sc.runtime.run_pool`."""
    return run_pool(channel, guardian, payload)
