"""A socket that encrypts: what a channel needs of one, over TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

import anyio

from xoscar_sc.errors import AuthenticationError
from xoscar_sc.ipc.credentials import TLS
from xoscar_sc.protocol import Refusal, said

_HELLO = b"\x16\x03"
"""How a client begins that speaks TLS."""
_PLENTY = 64 * 1024


class TlsSocket:
    """As a socket that does not block, as far as a channel uses one.

    What TLS has read ahead, the kernel tells nobody of: after each read, :attr:`pending` says whether there is more.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self.family = sock.family

    @property
    def pending(self) -> bool:
        """Whether there is something to read that the kernel does not know of."""
        return self._sock.pending() > 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def getpeername(self) -> tuple[str, int]:
        return self._sock.getpeername()  # type: ignore[no-any-return]

    def recv_into(self, buffer: memoryview | bytearray) -> int:
        try:
            return self._sock.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def recv(self, size: int) -> bytes:
        data = bytearray(size)
        return bytes(data[: self.recv_into(data)])

    def send(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def sendmsg(self, views: Sequence[bytes | memoryview], ancillary: Sequence[object] = ()) -> int:
        assert not ancillary, "descriptors cross no network"
        sent = 0
        for view in views:
            if not view:
                continue
            try:
                done = self.send(view)
            except BlockingIOError:
                if sent:
                    break
                raise
            sent += done
            if done < len(view):
                break
        return sent

    def close(self) -> None:
        self._sock.close()


async def encrypt(sock: socket.socket, tls: TLS, *, host: str | None) -> TlsSocket:
    """Open TLS over a connected socket, which is the result's from now on, or closed.

    Args:
        sock: connected, and not blocking.
        tls: what to show, and whom to believe.
        host: what the server's certificate has to name; None if this side is the server.

    Raises:
        AuthenticationError: the peer's certificate does not convince, or ours not the peer, as far as that shows here.
        OSError: the connection broke.
    """
    context = tls.__context__(server=host is None)
    name = None if host is None else tls.__named__(host)
    wrapped: ssl.SSLSocket | None = None
    try:
        if host is None:
            await _hear_tls(sock)
        wrapped = context.wrap_socket(
            sock, server_side=host is None, server_hostname=name, do_handshake_on_connect=False
        )
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await anyio.wait_readable(wrapped)
            except ssl.SSLWantWriteError:
                await anyio.wait_writable(wrapped)
            else:
                return TlsSocket(wrapped)
    except BaseException as exc:
        (wrapped or sock).close()
        if isinstance(exc, ssl.SSLCertVerificationError):
            raise AuthenticationError(
                f"the peer's certificate does not convince: {exc.verify_message}"
            ) from exc
        if isinstance(exc, ssl.SSLError):
            raise AuthenticationError(f"no TLS with this peer: {exc.reason or exc}") from exc
        raise


async def _hear_tls(sock: socket.socket) -> None:
    """Wait for the first bytes of a client; one that does not begin with TLS is told so in its own language.

    Raises:
        AuthenticationError: it does not.
    """
    await anyio.wait_readable(sock)
    head = sock.recv(2, socket.MSG_PEEK)
    if head and not _HELLO.startswith(head):
        sock.recv(_PLENTY)  # what is not read when it is closed, resets it
        sock.send(said(Refusal("only TLS is spoken here: give auth=TLS(...)")))
        raise AuthenticationError(f"the client does not speak TLS: it began with {head!r}")
