"""The ways to other programs, through their doors: a connection to each, made again when it is lost.

A reference to an actor of another tree has the address of a pool over there, which cannot be reached from here. So a
tree is known by the directory of its addresses, and all of them are reached through its door, whose side finds the
actor by its uid.

When a connection is lost, its open calls end with :exc:`ConnectionLost`, since nobody knows whether they have been
executed. Then it is tried again, for as long as the other side's lease lasts: later calls wait for that. After the
lease each call tries once.
"""

from __future__ import annotations

import random
import secrets
import socket
from typing import TYPE_CHECKING, Any

import anyio

from xoscar_sc.errors import ConnectionLost, ProtocolError, XoscarError
from xoscar_sc.events import HeartbeatLost
from xoscar_sc.ipc import (
    TLS,
    AnySocket,
    Auth,
    Channel,
    PlainChannel,
    Secret,
    Segments,
    encrypt,
    find_secret,
    knock,
    tcp,
)
from xoscar_sc.protocol import (
    NONCE,
    VERSION,
    AnyMessage,
    Call,
    ClientHandshake,
    Hello,
    Knock,
    TcpAddress,
    UnixAddress,
    Welcome,
    parse_address,
)

if TYPE_CHECKING:
    from xoscar_sc.runtime.runtime import Runtime

_SHORTEST, _LONGEST = 0.02, 1.0
"""Seconds between two tries."""
_MISSED = 3
"""Beats without an answer after which it is told."""


class Link:
    """The way to one program."""

    def __init__(self, runtime: Runtime, address: TcpAddress, auth: Auth | None, *, pickle: bool) -> None:
        self._runtime = runtime
        self._where = address
        self.address = str(address)
        self._auth = auth
        self._pickle = pickle
        self._session = secrets.token_hex(16)
        self._lock = anyio.Lock()
        self.channel: Channel | None = None
        self.welcome: Welcome | None = None
        """What the other side has said of itself; None until it has."""
        self.directories: set[str] = set()
        """Of the trees that have been found there."""
        self.users = 0
        """Blocks that are open."""
        self._until = 0.0
        """When those who wait for a new connection give up."""
        self._pulse = anyio.CancelScope()
        """In which the connection that there is looks for signs of life."""
        self.closed = False

    async def connect(self) -> Channel:
        """The connection, which is made if there is none.

        Raises:
            ConnectionLost: it cannot be made.
            AuthenticationError, ProtocolError: we are not let in, or do not want to be.
        """
        async with self._lock:
            channel = self.channel
            if channel is not None and not channel.closed:
                return channel
            if self.closed:
                raise ConnectionLost(f"the connection to {self.address} was closed from here")
            pause = _SHORTEST
            patience = self._runtime.loop.now() + self._runtime.timeouts.greeting
            while True:
                try:
                    return await self._connect_once()
                except (OSError, ConnectionLost) as exc:
                    # Who is hung up on may have been one of too many at the door: that is no answer yet.
                    until = max(self._until, patience) if isinstance(exc, ConnectionLost) else self._until
                    left = until - self._runtime.loop.now()
                    if left <= 0 or self.closed:
                        raise ConnectionLost(f"{self.address} cannot be reached: {exc}") from exc
                await anyio.sleep(min(pause * random.uniform(0.5, 1), left))
                pause = min(pause * 2, _LONGEST)

    async def _connect_once(self) -> Channel:
        runtime = self._runtime
        seconds = runtime.timeouts.greeting
        with anyio.move_on_after(seconds):
            sock = await tcp.connect(self._where, runtime.timeouts.silence)
            channel = await self._greet(sock)
            if self.closed or runtime.closed:
                channel.close()
                raise ConnectionLost(f"the connection to {self.address} was closed from here")
            self.channel = channel
            self._pulse.cancel()
            self._pulse = anyio.CancelScope()
            runtime.loop.spawn(self._beat, channel, self._pulse)
            return channel
        raise ConnectionLost(f"no answer within {seconds} s")

    async def _greet(self, connected: socket.socket) -> Channel:
        runtime = self._runtime
        channel: Channel | None = None
        sock: AnySocket = connected
        try:
            key: bytes | None = None
            if isinstance(self._auth, TLS):
                sock = await encrypt(connected, self._auth, host=self._where.host)
            else:
                key = self._secret(sock).__key__()
            place = runtime.place
            said = Knock(
                VERSION,
                secrets.token_bytes(NONCE),
                place.name,
                f"{place.tree}/{place.pool_id}",
                self._session,
            )
            welcome = await knock(sock, ClientHandshake(key, said))
            self.welcome = welcome
            self.directories.add(welcome.directory)
            hello = Hello(VERSION, welcome.tree, runtime.address, place.name, 0)
            kind = PlainChannel if welcome.plain or not self._pickle else Channel
            channel = kind(runtime.loop, sock, hello, _nothing, self._lost, runtime.timeouts.cancel)
            await channel.wait_greeting()
        except BaseException:
            if channel is None:
                sock.close()
            else:
                channel.close()
            raise
        return channel

    def _secret(self, sock: AnySocket) -> Secret:
        if isinstance(self._auth, Secret):
            return self._auth
        host, port = sock.getpeername()[:2]
        return find_secret(TcpAddress(host, port))

    def key(self) -> tuple[str, Auth | None, bool]:
        """What it takes to connect to the same program."""
        return self.address, self._auth, self._pickle

    @property
    def open(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        return self.channel is not None and not self.channel.closed

    async def ask(self, method: str, *args: Any) -> Any:
        """Ask the other side's porch."""
        return await self._runtime.ask(self.address, method, *args)

    def _lost(self, channel: Channel, error: Exception | None) -> None:
        why = f"the connection to {self.address} was lost" + (f": {error}" if error else "")
        channel.fail(lambda: ConnectionLost(why))
        self._runtime.peers.unroute(channel)
        if self.channel is channel:
            self.channel = None
            self._pulse.cancel()
            if self.users and not self.closed and not self._runtime.closed and self.welcome is not None:
                self._until = self._runtime.loop.now() + self.welcome.lease
                self._runtime.loop.spawn(self._restore)

    async def _restore(self) -> None:
        try:
            await self.connect()
        except XoscarError:  # whoever calls next hears of it
            pass

    async def _beat(self, channel: Channel, pulse: anyio.CancelScope) -> None:
        """Ask every so often whether the other program still does anything: its kernel may go on without it."""
        with pulse:
            await self._ask_often(channel)

    async def _ask_often(self, channel: Channel) -> None:
        runtime = self._runtime
        seconds = runtime.timeouts.heartbeat
        while seconds:
            await anyio.sleep(seconds)
            if channel.closed:
                return
            with anyio.move_on_after(seconds * _MISSED) as scope:
                try:
                    await self.ask("beat")
                except XoscarError:
                    return
            if scope.cancelled_caught and not channel.closed:
                runtime.emit(HeartbeatLost(self.address, "loop"))

    async def close(self) -> None:
        """Leave for good; what the other side has made for this one ends."""
        self.closed = True
        self._until = 0.0
        channel = self.channel
        if channel is not None and not channel.closed:
            with anyio.move_on_after(self._runtime.timeouts.cancel):
                try:
                    await self.ask("leave")
                except XoscarError:
                    pass
            channel.close()
        self._pulse.cancel()


class Links:
    """The ways to other programs, of one pool."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._links: dict[str, Link] = {}

    def open(self, address: TcpAddress, auth: Auth | None = None, *, pickle: bool = True) -> Link:
        """The link to an address; a new one if there is none.

        Raises:
            ValueError: there is one that was opened otherwise.
        """
        key = str(address)
        link = self._links.get(key)
        if link is not None and not link.users and not link.open and link.key() != (key, auth, pickle):
            link.closed = True  # it was tried otherwise, and led nowhere
        if link is None or link.closed:
            link = self._links[key] = Link(self._runtime, address, auth, pickle=pickle)
        elif link.key() != (key, link.key()[1] if auth is None else auth, pickle):
            raise ValueError(f"there is a connection to {key} already, which was opened with other arguments")
        return link

    def to(self, address: str) -> Link | None:
        """The link that an address is reached through; None if it belongs to this tree, or to nobody known.

        Raises:
            ValueError: it is no address.
        """
        parsed = parse_address(address)
        if isinstance(parsed, TcpAddress):
            return self.open(parsed) if str(parsed) not in self._links else self._links[str(parsed)]
        if isinstance(parsed, UnixAddress):
            directory = parsed.path.rpartition("/")[0]
            for link in reversed(self._links.values()):
                if directory in link.directories and not link.closed:
                    return link
        return None

    async def find(self, address: str) -> Link | None:
        """As :meth:`to`; what the root of this tree is connected to, its pools connect to as well."""
        link = self.to(address)
        if link is None and not self._runtime.is_root:
            known: tuple[str, Auth | None, bool] | None = await self._runtime.at_root("door_to", address)
            if known is not None:
                door, auth, pickle = known
                link = self.open(tcp.parse(door), auth, pickle=pickle)
                link.directories.add(address.removeprefix("unix://").rpartition("/")[0])
        return link

    def door_to(self, address: str) -> tuple[str, Auth | None, bool] | None:
        """What it takes to connect to the program that an address belongs to; None if that is not known."""
        link = self.to(address)
        return None if link is None else link.key()

    def entered(self) -> list[Link]:
        """Those in whose block some task is, the last first."""
        return [link for link in reversed(self._links.values()) if link.users and not link.closed]

    def forget(self, link: Link) -> None:
        """Nobody uses it any more."""
        if self._links.get(link.address) is link:
            del self._links[link.address]

    def close(self) -> None:
        """Close them all."""
        for link in list(self._links.values()):
            link.closed = True
            if link.channel is not None:
                link.channel.flush()
                link.channel.close()
        self._links.clear()


def _nothing(_channel: Channel, message: AnyMessage, _segments: Segments) -> None:
    """A program that was called asks for nothing."""
    if isinstance(message, Call):
        raise ProtocolError("the program that was called makes calls of its own")
