"""Carrying out a handshake over a connected socket, before there is a channel."""

from __future__ import annotations

import contextlib
import socket
import ssl

import anyio

from xoscar_sc.errors import AuthenticationError, ConnectionLost, ProtocolError
from xoscar_sc.ipc.tls import TlsSocket
from xoscar_sc.protocol import (
    HANDSHAKE_HEAD,
    ClientHandshake,
    Knock,
    Refusal,
    ServerHandshake,
    Welcome,
    said,
    said_length,
)

AnySocket = socket.socket | TlsSocket


async def knock(sock: AnySocket, handshake: ClientHandshake) -> Welcome:
    """Ask to be let in.

    Raises:
        AuthenticationError, ProtocolError: we were not, or do not want to be.
        ConnectionLost: the server went away.
        OSError: the connection broke.
    """
    await _write(sock, handshake.knock())
    await _write(sock, handshake.challenged(await _read(sock)))
    return handshake.welcomed(await _read(sock))


async def admit(sock: AnySocket, handshake: ServerHandshake) -> Knock:
    """Let a client in, if it proves itself; who it is. If not, it is told why, as far as it takes that at once.

    Raises:
        AuthenticationError, ProtocolError: it has not proved itself.
        ConnectionLost: it went away.
        OSError: the connection broke.
    """
    try:
        await _write(sock, handshake.knocked(await _read(sock)))
        await _write(sock, handshake.proved(await _read(sock)))
    except (AuthenticationError, ProtocolError) as exc:
        kind = "authentication" if isinstance(exc, AuthenticationError) else "protocol"
        with contextlib.suppress(OSError):
            sock.send(said(Refusal(str(exc)[:200], kind)))  # type: ignore[arg-type]
        raise
    return handshake.client


async def _read(sock: AnySocket) -> bytes:
    """The next frame, and not a byte more: what follows is another's to read."""
    head = await _exactly(sock, HANDSHAKE_HEAD)
    return head[-1:] + await _exactly(sock, said_length(head) - 1)


async def _exactly(sock: AnySocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            more = sock.recv(size - len(data))
        except BlockingIOError:
            await anyio.wait_readable(sock.fileno())
            continue
        except ssl.SSLError as exc:  # what a server thinks of a client's certificate comes last
            raise AuthenticationError(f"the peer does not go on with TLS: {exc.reason or exc}") from exc
        if not more:
            raise ConnectionLost("the peer went away before it had said who it is")
        data += more
    return data


async def _write(sock: AnySocket, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[sock.send(left) :]
        except BlockingIOError:
            await anyio.wait_writable(sock.fileno())
        except (BrokenPipeError, ConnectionResetError):
            return  # what the peer has said last, which is read next, tells why
