"""Connections between pools of one host: a socket in a directory that only this user can enter.

The peer's user is checked on both sides by the kernel's word (``SO_PEERCRED``), so that a directory whose rights
somebody has loosened does not let a stranger in.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import anyio

from xoscar_sc.errors import AuthenticationError
from xoscar_sc.loop import Loop

_BACKLOG = 1024
_BUFFER = 1 << 20
_PAUSE = 0.02
"""Seconds between two tries where nothing tells when the next one is worth while."""


def tune(sock: socket.socket) -> socket.socket:
    """Room for large messages: fewer, larger steps (half as much again in bytes a second)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return sock


def check_peer(sock: socket.socket) -> None:
    """Refuse a peer of another user.

    Raises:
        AuthenticationError: it is another user's.
    """
    _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in (os.getuid(), 0):
        raise AuthenticationError(f"the peer runs as user {uid}, and only user {os.getuid()} may come in")


class Listener:
    """Accepts connections at a path, until it is closed."""

    def __init__(
        self,
        loop: Loop,
        path: str,
        accepted: Callable[[socket.socket], None],
        trouble: Callable[[OSError], None],
    ) -> None:
        """Listen at ``path``, which must not exist.

        Raises:
            OSError: the path is taken, or cannot be made.
        """
        self._loop = loop
        self._accepted = accepted
        self._trouble = trouble
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.bind(path)
            Path(path).chmod(0o600)
            self._sock.listen(_BACKLOG)
            self._sock.setblocking(False)
        except BaseException:
            self._sock.close()
            raise
        loop.watch(self._sock.fileno(), self._readable)

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
        self._accepted(tune(sock))

    async def _resume(self) -> None:
        await anyio.sleep(_PAUSE)
        if self._sock.fileno() >= 0:
            self._loop.watch(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Stop listening, and remove the path."""
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
        Path(self._path).unlink(missing_ok=True)


async def connect(path: str) -> socket.socket:
    """Connect to a listener of ours.

    Raises:
        OSError: nothing listens there.
        AuthenticationError: what listens there is another user's.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:  # its backlog is full, and nothing tells when it no longer is
                await anyio.sleep(_PAUSE)
            else:
                break
        check_peer(sock)
    except BaseException:
        sock.close()
        raise
    return tune(sock)
