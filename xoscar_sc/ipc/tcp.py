"""Connections over a network: TCP, by IPv4 and IPv6.

A peer whose host or network has gone says nothing more, and so has to be asked: the kernel does it, on both sides,
whatever the program is busy with (keep-alive probes; ``TCP_USER_TIMEOUT`` where something was sent). So a connection
whose kernel does not answer for the ``silence`` that is given is lost, and one whose program merely hangs is not.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

import anyio

from xoscar_sc.errors import AuthenticationError
from xoscar_sc.ipc.listener import BACKLOG, Listener
from xoscar_sc.loop import Loop
from xoscar_sc.protocol import TcpAddress, parse_address

_PROBES = 4
"""Probes without an answer after which a silent peer has gone."""
_LONGEST = 32767
"""Seconds between two probes that the kernel admits at most."""


def tune(sock: socket.socket, silence: float) -> socket.socket:
    """No delay for small messages, and an end to connections whose other side has been silent for so many seconds."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    silence = min(silence, _LONGEST)
    step = max(1, int(silence / (_PROBES + 1)))
    for name, value in (
        ("TCP_KEEPIDLE", step),
        ("TCP_KEEPINTVL", step),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", max(100, int(silence * 1000))),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


def parse(text: str) -> TcpAddress:
    """The address of a door: ``"tcp://host:port"``, or ``"host:port"``.

    Raises:
        ValueError: it is none, or one of another transport.
    """
    found = parse_address(text)
    if isinstance(found, TcpAddress):
        return found
    raise ValueError(f"{text!r}: other programs come by tcp://host:port")


def is_loopback(host: str) -> bool:
    """Whether a number stands for this host alone; a name never does."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def local(sock: socket.socket) -> TcpAddress:
    """This side's address, in numbers."""
    host, port = sock.getsockname()[:2]
    return TcpAddress(host, port)


def remote(sock: socket.socket) -> TcpAddress:
    """The peer's address, in numbers.

    Raises:
        OSError: it has gone already.
    """
    host, port = sock.getpeername()[:2]
    return TcpAddress(host, port)


async def resolve(address: TcpAddress, *, passive: bool = False) -> list[tuple[int, Any]]:
    """The families and socket addresses that an address stands for, in the order to try them.

    Raises:
        OSError: the host has no address.
    """
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = await anyio.getaddrinfo(
            address.host, address.port, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM, flags=flags
        )
    except (OSError, UnicodeError) as exc:  # its numbers (EAI_...) are no errno
        why = exc.strerror if isinstance(exc, OSError) else exc
        raise OSError(errno.EHOSTUNREACH, f"the host {address.host!r} is not known: {why}") from exc
    return list(dict.fromkeys((int(family), where) for family, _, _, _, where in found))


async def bind(address: TcpAddress, *, alone: bool = False) -> socket.socket:
    """A socket that listens at an address; at port 0, the kernel chooses one.

    A name of several addresses is listened for at the first that this host has.

    Args:
        address: where.
        alone: others than this host must not be able to connect.

    Raises:
        AuthenticationError: they could; nothing has listened.
        OSError: the port is taken, or the address is none of this host's; the text names it.
    """
    failure: OSError | None = None
    for family, where in await resolve(address, passive=True):
        if alone and not is_loopback(where[0]):
            raise AuthenticationError(
                f"{address} can be reached from other hosts: give auth=Secret(...) or auth=TLS(...)"
            )
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(where)
            sock.listen(BACKLOG)
        except OSError as exc:
            sock.close()
            failure = failure or OSError(
                exc.errno, f"cannot listen at {address}: {os.strerror(exc.errno or 0)}"
            )
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(errno.EADDRNOTAVAIL, f"cannot listen at {address}: it has no address")


def listen(
    loop: Loop,
    sock: socket.socket,
    accepted: Callable[[socket.socket], None],
    trouble: Callable[[OSError], None],
    silence: float,
) -> Listener:
    """Accept connections at a socket of :func:`bind`."""

    def tuned(each: socket.socket) -> None:
        try:
            tune(each, silence)
        except OSError:  # it was reset before it was met
            each.close()
            return
        accepted(each)

    return Listener(loop, sock, tuned, trouble, lambda: None)


async def connect(address: TcpAddress, silence: float) -> socket.socket:
    """Connect to an address: to the first of those it stands for that answers.

    Raises:
        OSError: none does; what the first one said.
    """
    failure: OSError | None = None
    for family, where in await resolve(address):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            tune(sock, silence)
            code = sock.connect_ex(where)
            if code == errno.EINPROGRESS:
                await anyio.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            if sock.getpeername() == sock.getsockname():
                # Nobody listens, and the kernel has chosen that very port for this side.
                raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        except OSError as exc:
            sock.close()
            failure = failure or exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(errno.EHOSTUNREACH, f"the host {address.host!r} has no address")
