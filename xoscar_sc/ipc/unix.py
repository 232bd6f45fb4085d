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
from xoscar_sc.ipc.listener import BACKLOG, PAUSE, Listener
from xoscar_sc.loop import Loop

_BUFFER = 1 << 20


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


def listen(
    loop: Loop,
    path: str,
    accepted: Callable[[socket.socket], None],
    trouble: Callable[[OSError], None],
) -> Listener:
    """Listen at ``path``, which must not exist, and is removed when the listener is closed.

    Raises:
        OSError: the path is taken, or cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        Path(path).chmod(0o600)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return Listener(
        loop, sock, lambda each: accepted(tune(each)), trouble, lambda: Path(path).unlink(missing_ok=True)
    )


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
                await anyio.sleep(PAUSE)
            else:
                break
        check_peer(sock)
    except BaseException:
        sock.close()
        raise
    return tune(sock)
