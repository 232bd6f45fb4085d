"""Socket pairs, full and empty."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends that do not block."""
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


def fill(sock: socket.socket) -> None:
    """Write until it takes no more."""
    try:
        while sock.send(bytes(1 << 16)):
            pass
    except BlockingIOError:
        pass


def empty(sock: socket.socket) -> None:
    try:
        while sock.recv(1 << 20):
            pass
    except BlockingIOError:
        pass
