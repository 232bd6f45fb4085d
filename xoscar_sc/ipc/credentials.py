"""What proves who may come in: a secret that both sides know, or certificates.

Secrets stand in files that only their user can read, or come through a descriptor; never in a command line, which
everybody on the host can read, nor in the environment, which every child gets.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
import stat
from pathlib import Path

from xoscar_sc.errors import AuthenticationError
from xoscar_sc.ipc.rundir import base_directory, find_in_trees
from xoscar_sc.protocol import TcpAddress

SHORTEST = 16
"""Bytes that a secret has at least."""
_LONGEST = 4096


class Secret:
    """What both sides of a connection know, and nobody else.

    It is proved, and never sent. What crosses the connection afterwards is neither encrypted nor signed: on a network
    that others may listen to, use :class:`TLS`.

    Args:
        value: 16 bytes at least, 4096 at most; a text counts as its UTF-8. White space at its ends does not count:
            editors put it into files. Take :meth:`generate`'s rather than words: who has seen a connection being
            opened can try out words.

    Raises:
        TypeError: it is neither bytes nor text.
        ValueError: it is too short, or too long.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes):
            raise TypeError(f"a secret is bytes or text, not {type(value).__name__}")
        data = data.strip()
        if not SHORTEST <= len(data) <= _LONGEST:
            raise ValueError(
                f"a secret has from {SHORTEST} to {_LONGEST} bytes, and this one has {len(data)}"
            )
        self._value = data

    @classmethod
    def generate(cls) -> Secret:
        """A new one, of 32 random bytes as text."""
        return cls(secrets.token_urlsafe(32))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Secret:
        """The secret in a file. The file is its user's alone (``chmod 600``).

        Raises:
            OSError: it cannot be read.
            AuthenticationError: others than its user may read or change it, or it belongs to somebody else.
            ValueError: it is too short, or too long for a secret.
        """
        # Nothing that only looks like a file, a pipe say, may make this wait.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise AuthenticationError(
                    f"{os.fspath(path)!r} is no regular file, and so no place for a secret"
                )
            if status.st_uid not in (os.getuid(), 0):
                raise AuthenticationError(
                    f"the secret in {os.fspath(path)!r} belongs to user {status.st_uid}"
                )
            if status.st_mode & 0o077:
                raise AuthenticationError(f"others may use the secret in {os.fspath(path)!r}; chmod 600 it")
            return cls(_whole(file.read(_LONGEST + 1), os.fspath(path)))

    @classmethod
    def from_descriptor(cls, descriptor: int) -> Secret:
        """The secret that another process has written to a pipe, up to its end; the descriptor is closed.

        Raises:
            OSError: it cannot be read.
            ValueError: it is too short, or too long for a secret.
        """
        if not isinstance(descriptor, int):
            raise TypeError(f"a descriptor is a number, not {type(descriptor).__name__}")
        with open(descriptor, "rb") as file:
            return cls(_whole(file.read(_LONGEST + 1), f"descriptor {descriptor}"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a new file that only this user can read.

        Raises:
            FileExistsError: there is such a file.
            OSError: it cannot be written.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret(<{len(self._value)} bytes>)"

    def __key__(self) -> bytes:
        return self._value


def _whole(data: bytes, where: str) -> bytes:
    if len(data) > _LONGEST:
        raise ValueError(f"what is in {where} is longer than {_LONGEST} bytes, and no secret")
    return data


class TLS:
    """Certificates, which both sides show: each must be signed by ``ca``, and the server's must name its address.

    Args:
        certificate: a PEM file with this program's certificate, and those between it and the authority's.
        key: a PEM file with its private key.
        ca: a PEM file with the certificates of the authorities whose word counts.
        server_name: what the server's certificate must name, if that is not the host of its address.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: it is not what it should be.
    """

    __slots__ = ("_ca", "_certificate", "_key", "_server_name")

    def __init__(
        self,
        certificate: str | os.PathLike[str],
        key: str | os.PathLike[str],
        ca: str | os.PathLike[str],
        *,
        server_name: str | None = None,
    ) -> None:
        self._certificate, self._key, self._ca = (os.path.abspath(each) for each in (certificate, key, ca))
        self._server_name = server_name
        self.__context__(server=True)  # what is wrong with the files shows here

    def __context__(self, *, server: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self._certificate, self._key)
        context.load_verify_locations(self._ca)
        if server:
            context.num_tickets = 0  # every connection is a new one: less for the client to wait for
        return context

    def __named__(self, host: str) -> str:
        return self._server_name or host

    def _values(self) -> tuple[str | None, ...]:
        return self._certificate, self._key, self._ca, self._server_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TLS) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"TLS({self._certificate!r})"


Auth = Secret | TLS


def _key_file(address: TcpAddress) -> str:
    """What the secret of a listener on loopback is called."""
    return f"tcp-{address.host.replace(':', '_')}-{address.port}.key"


def keep_secret(directory: str, address: TcpAddress, secret: Secret) -> tuple[Path, Secret]:
    """Put a tree's own secret into its directory, where programs of the same user find it; where, and the secret.

    If a listener of this tree was killed that had this address, its secret is there still, and goes on being used: who
    comes again meanwhile has read it.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(directory) / _key_file(address)
    try:
        secret.save(path)
    except FileExistsError:
        try:
            secret = Secret.from_file(path)
        except ValueError:  # it was killed as it wrote that
            path.unlink()
            secret.save(path)
    return path, secret


def find_secret(address: TcpAddress) -> Secret:
    """The secret of the tree of this user's that listens there.

    Raises:
        AuthenticationError: there is none.
    """
    name = _key_file(address)
    for path in find_in_trees(name):
        with contextlib.suppress(OSError, ValueError):  # it begins or ends at this moment
            return Secret.from_file(path)
    raise AuthenticationError(
        f"no program of this user's that listens at {address} has left its secret in {base_directory()}; give auth="
    )
