"""Where a pool can be reached, and who an actor is, as values."""

from __future__ import annotations

import os
from typing import Final, TypeAlias

import msgspec

MAX_UNIX_PATH: Final = 107
"""Longest path of a unix socket, in bytes of the file system's encoding (``sun_path`` less its final NUL)."""


class UnixAddress(msgspec.Struct, frozen=True, gc=False):
    """A unix socket: ``unix:///run/user/0/xoscar-sc/ab12/p1.sock``."""

    path: str
    """Absolute."""

    def __str__(self) -> str:
        return f"unix://{self.path}"


class TcpAddress(msgspec.Struct, frozen=True, gc=False):
    """A TCP port: ``tcp://127.0.0.1:7000``, ``tcp://[::1]:7000``; on input the scheme may be left out."""

    host: str
    """A name or a number; an IPv6 one without its brackets."""
    port: int
    """0 asks a listener to choose one."""

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


class LocalAddress(msgspec.Struct, frozen=True, gc=False):
    """A pool of this process: ``local://<id>``."""

    id: str

    def __str__(self) -> str:
        return f"local://{self.id}"


Address: TypeAlias = UnixAddress | TcpAddress | LocalAddress


class ActorId(msgspec.Struct, frozen=True, gc=False):
    """One actor of a uid: a restart makes a new one of the same uid."""

    uid: str
    incarnation: int
    """Counted from 1; 0 stands for whichever there is."""

    def __str__(self) -> str:
        return f"{self.uid}#{self.incarnation}" if self.incarnation else self.uid


def parse_address(text: str) -> Address:
    """The address that ``text`` spells; ``str()`` of the result is its one canonical spelling.

    Raises:
        ValueError: it is none; says what is wrong with it.
    """
    scheme, found, rest = text.partition("://")
    if not found:
        return _tcp(text, text)
    if scheme == "unix":
        return _unix(text, rest)
    if scheme == "tcp":
        return _tcp(text, rest)
    if scheme == "local":
        if not rest or not rest.isprintable() or "/" in rest or " " in rest:
            raise ValueError(f"{text!r}: local:// is followed by a pool's id, without blanks or slashes")
        return LocalAddress(rest)
    raise ValueError(f"{text!r}: the scheme {scheme!r} is unknown; there are unix, tcp and local")


def _unix(text: str, path: str) -> UnixAddress:
    if not path.startswith("/"):
        raise ValueError(f"{text!r}: the path of a unix socket must be absolute (unix:///...)")
    if "\0" in path:
        raise ValueError(f"{text!r}: the path of a unix socket must not contain NUL")
    try:
        length = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise ValueError(f"{text!r}: the file system's encoding cannot express this path") from None
    if length > MAX_UNIX_PATH:
        raise ValueError(f"{text!r}: a unix socket's path has at most {MAX_UNIX_PATH} bytes, this {length}")
    return UnixAddress(path)


def _tcp(text: str, rest: str) -> TcpAddress:
    host, colon, port = rest.rpartition(":")
    if not colon or host.endswith(":") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r}: expected host:port, and an IPv6 host in brackets ([::1]:7000)")
    if host.startswith("["):
        inner = host[1:-1]
        if not host.endswith("]") or ":" not in inner or not _plain(inner, ":.%-_"):
            raise ValueError(f"{text!r}: {host!r} is no IPv6 address in brackets")
        host = inner
    elif not host or not _plain(host, ".-_"):
        raise ValueError(f"{text!r}: {host!r} is no host's name or number")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"{text!r}: {port!r} is no port (0 to 65535)")
    return TcpAddress(host, int(port))


def _plain(text: str, others: str) -> bool:
    return all(c.isalnum() or c in others for c in text)
