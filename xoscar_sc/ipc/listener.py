"""Accepting connections at a listening socket, of whatever transport."""

from __future__ import annotations

import socket
from collections.abc import Callable

import anyio

from xoscar_sc.loop import Loop

BACKLOG = 1024
PAUSE = 0.02
"""Seconds between two tries where nothing tells when the next one is worth while."""


class Listener:
    """Accepts connections until it is closed.

    Args:
        loop: serves it.
        sock: listening; the listener owns it from now on.
        accepted: called with each connected socket, which is the callee's.
        trouble: called when none can be accepted for the moment.
        closed: called once, when it is closed.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        accepted: Callable[[socket.socket], None],
        trouble: Callable[[OSError], None],
        closed: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._accepted = accepted
        self._trouble = trouble
        self._closed = closed
        loop.watch(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as exc:  # out of descriptors or of memory: those who knock wait at the door meanwhile
            self._loop.unwatch(self._sock.fileno())
            self._loop.spawn(self._resume)
            self._trouble(exc)
            return
        self._accepted(sock)

    async def _resume(self) -> None:
        await anyio.sleep(PAUSE)
        if self._sock.fileno() >= 0:
            self._loop.watch(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Stop listening."""
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
        self._closed()
