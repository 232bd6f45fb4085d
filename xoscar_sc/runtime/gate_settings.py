"""What a door for other programs is opened with, and whether it can be opened so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from xoscar_sc.errors import AuthenticationError
from xoscar_sc.ipc import TLS, Secret, tcp
from xoscar_sc.protocol import TcpAddress
from xoscar_sc.runtime.exposure import Exposure


class GateSettings(msgspec.Struct, frozen=True):
    """What a door is opened with."""

    address: str
    """Where to listen."""
    advertise: str | None = None
    """Where others reach it, if that is another address."""
    auth: Any = None
    """A :class:`Secret` or a :class:`TLS`; None on loopback, for a secret of the tree's own."""
    expose: tuple[Any, ...] | None = None
    """See :class:`Exposure`."""
    pickle: bool = True
    """Values may be pickled."""
    max_message: int = 1 << 30
    """Bytes of one message from outside, with its segments."""


class Host(Protocol):
    """Who makes what a guest may have made."""

    async def create_actor(self, cls: type[Any], /, *args: Any, uid: str | None, **kwargs: Any) -> Any:
        """Make an actor; a reference to it."""

    async def place(self) -> tuple[str, Callable[[], None]]:
        """The address of a pool that is to run a function, and what to call when the function is there."""


class OpenGate(Protocol):
    """A door that is open."""

    address: str

    def shut(self) -> None:
        """Let nobody in any more."""

    def close(self) -> None:
        """Let nobody in any more, and show everybody out."""


def advertised(text: str, bound: TcpAddress) -> TcpAddress:
    """Where others reach a door: the port is that which it has got, unless another is named."""
    where = tcp.parse(text)
    return where if where.port else TcpAddress(where.host, bound.port)


def check_settings(settings: GateSettings) -> Exposure:
    """See that a door can be opened so, as far as that can be told beforehand; what it exposes.

    Raises:
        TypeError, ValueError: what is wrong.
        AuthenticationError: others than this host could knock, and nothing says who may come in.
    """
    where = tcp.parse(settings.address)
    if settings.advertise is not None:
        advertised(settings.advertise, where)
    if settings.auth is not None and not isinstance(settings.auth, (Secret, TLS)):
        raise TypeError(f"auth= is {type(settings.auth).__name__}; it is a Secret or a TLS")
    if settings.auth is None and where.host != "localhost" and not tcp.is_loopback(where.host):
        raise AuthenticationError(
            f"{where} can be reached from other hosts: give auth=Secret(...) or auth=TLS(...)"
        )
    if not isinstance(settings.pickle, bool):
        raise TypeError(f"pickle= is {settings.pickle!r}; it is True or False")
    return Exposure(settings.expose)
