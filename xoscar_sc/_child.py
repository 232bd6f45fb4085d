"""A pool's entry: what its process calls first.

The guardian imports this module once, before it forks: what is imported here costs a pool nothing.
"""

from __future__ import annotations

import socket
from typing import Any

from xoscar_sc.loop import preload_trio
from xoscar_sc.runtime import run_pool

preload_trio()


def main(channel: socket.socket, guardian: socket.socket, payload: bytes) -> Any:
    """Be a pool; see :func:`xoscar_sc.runtime.run_pool`."""
    return run_pool(channel, guardian, payload)
