"""The door of a tree for other programs: who may come in, and what they may use.

Behind the listener there is nothing but a handshake, in little memory and little time, until the one who knocks has
proved who it is. Those who have not are few at a time: where there are too many, the one that has knocked longest is
let go, so that a crowd that says nothing keeps nobody out who does.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from xoscar_sc.errors import (
    ActorNotExist,
    ConnectionLost,
    NotExposed,
    ProtocolError,
    XoscarError,
)
from xoscar_sc.events import ConnectionRefused
from xoscar_sc.ipc import TLS, AnySocket, Auth, Listener, Secret, admit, encrypt, keep_secret, tcp
from xoscar_sc.protocol import (
    NONCE,
    VERSION,
    Challenge,
    ServerHandshake,
    Welcome,
)
from xoscar_sc.runtime.exposure import Exposure
from xoscar_sc.runtime.gate_settings import GateSettings, Host, advertised
from xoscar_sc.runtime.guest import Guest

if TYPE_CHECKING:
    from xoscar_sc.runtime.ref import ActorRef
    from xoscar_sc.runtime.runtime import Runtime

STRANGERS = 128
"""Connections at a time that have not proved who they are."""


class _Session:
    """One client, over all of its connections."""

    def __init__(self) -> None:
        self.guests: set[Guest] = set()
        self.made: list[ActorRef[Any]] = []
        self.ended = False


class Gate:
    """See the top of this file."""

    def __init__(self, runtime: Runtime, settings: GateSettings, host: Host | None) -> None:
        self.runtime = runtime
        self.settings = settings
        self.plain = not settings.pickle
        self.exposure = Exposure(settings.expose)
        self._host = host
        self.address = ""
        """Where others reach it."""
        self._auth: Auth | None = settings.auth
        self._key_file: Path | None = None
        self._listener: Listener | None = None
        self._strangers: dict[socket.socket, anyio.CancelScope] = {}
        """Those who have not proved themselves yet, oldest first."""
        self._guests: set[Guest] = set()
        self._sessions: dict[str, _Session] = {}

    # Opening and closing

    async def open(self) -> None:
        """Let programs in from now on.

        Raises:
            ValueError: it is no TCP address.
            AuthenticationError: others than this host could knock, and nothing says who may come in.
            OSError: the address is taken, or is none of this host's.
            RuntimeDirError: there is no safe place for the tree's secret.
        """
        where = tcp.parse(self.settings.address)
        sock = await tcp.bind(where, alone=self._auth is None)
        try:
            bound = tcp.local(sock)
            if self._auth is None:
                self.runtime.make_directory()
                directory = self.runtime.place.directory
                self._key_file, self._auth = keep_secret(directory, bound, Secret.generate())
            reached = self.settings.advertise
            self.address = str(bound if reached is None else advertised(reached, bound))
            self._listener = tcp.listen(
                self.runtime.loop, sock, self._accept, self._trouble, self.runtime.timeouts.silence
            )
        except BaseException:
            sock.close()
            self._forget_key()
            raise
        self.runtime.gates.add(self)

    def _forget_key(self) -> None:
        if self._key_file is not None:
            with contextlib.suppress(OSError):
                self._key_file.unlink()
            self._key_file = None

    def shut(self) -> None:
        """Let nobody in any more."""
        if self._listener is not None:
            self._forget_key()  # while nobody else can listen there, and have another one of the same name
            self._listener.close()
            self._listener = None
        for scope in self._strangers.values():
            scope.cancel()

    def close(self) -> None:
        """Let nobody in any more, and show everybody out."""
        self.shut()
        self.runtime.gates.discard(self)
        for guest in list(self._guests):
            guest.close(f"{self.address} has been closed")

    # Coming in

    def _accept(self, sock: socket.socket) -> None:
        if len(self._strangers) >= STRANGERS:
            oldest = next(iter(self._strangers))
            self._strangers.pop(oldest).cancel()
        scope = self._strangers[sock] = anyio.CancelScope()
        self.runtime.loop.spawn(self._meet, sock, scope)

    async def _meet(self, sock: socket.socket, scope: anyio.CancelScope) -> None:
        try:
            scope.deadline = anyio.current_time() + self.runtime.timeouts.greeting
            who = "somebody"
            failure: Exception | None = None
            with scope:
                try:
                    who = str(tcp.remote(sock))
                    await self._greet(sock)
                except (XoscarError, OSError) as exc:
                    failure = exc
            if scope.cancelled_caught:
                late = self._listener is not None
                failure = ProtocolError(
                    "it has not said in time who it is" if late else "the door was closed meanwhile"
                )
            if failure is not None:
                sock.close()
                self.refused(f"{who}: {failure}")
        finally:
            self._strangers.pop(sock, None)

    async def _greet(self, sock: socket.socket) -> None:
        secure: AnySocket = sock
        try:
            if isinstance(self._auth, TLS):
                secure = await encrypt(sock, self._auth, host=None)
            handshake = self._handshake()
            knock = await admit(secure, handshake)
            if self._listener is None:
                raise ConnectionLost("the door was closed meanwhile")
            guest = Guest(self, secure, knock)
        except BaseException:
            secure.close()
            raise
        self._guests.add(guest)
        session = self._sessions.setdefault(knock.session, _Session())
        session.guests.add(guest)
        try:
            await guest.channel.wait_greeting()
        except ConnectionLost:  # who has proved itself may leave
            pass
        except BaseException:
            guest.close("it has not said hello")
            raise

    def _handshake(self) -> ServerHandshake:
        place = self.runtime.place
        key = self._auth.__key__() if isinstance(self._auth, Secret) else None
        incarnation = f"{place.tree}/{place.pool_id}"
        nonce = secrets.token_bytes(NONCE)
        challenge = Challenge(VERSION, nonce, "secret" if key else "none", place.name, incarnation)
        lease = self.runtime.timeouts.lease
        welcome = Welcome(b"", place.tree, place.directory, self.address, self.plain, lease)
        return ServerHandshake(key, challenge, welcome)

    def refused(self, reason: str, guest: Guest | None = None) -> None:
        """Somebody was not let in, or is shown out: one event says so."""
        if guest is not None:
            guest.close(reason)
        self.runtime.emit(ConnectionRefused(self.address, reason))

    def _trouble(self, exc: OSError) -> None:
        self.refused(f"no connection can be accepted: {exc}")

    # Being in

    def admits(self, uid: str) -> bool:
        """Whether guests may call an actor."""
        return self.exposure.admits(uid) or self.made(uid)

    def made(self, uid: str) -> bool:
        """Whether an actor was made for a guest."""
        return any(ref.uid == uid for session in self._sessions.values() for ref in session.made)

    async def place(self) -> tuple[str, Callable[[], None]]:
        """Where a function is to run; see :meth:`Host.place`."""
        if self._host is None:
            return self.runtime.address, lambda: None
        return await self._host.place()

    async def create_actor(
        self, guest: Guest, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], uid: str | None
    ) -> ActorRef[Any]:
        """Make an actor for a guest.

        Raises:
            NotExposed: the class is not for guests.
            ConnectionLost: the guest has gone meanwhile.
            and what :meth:`PoolNursery.create_actor` raises.
        """
        cls = self.exposure.cls(name)
        if self._host is None:
            raise NotExposed(
                f"actors are made at the door of a nursery, and {self.address} is that of a pool"
            )
        ref: ActorRef[Any] = await self._host.create_actor(cls, *args, uid=uid, **kwargs)
        session = self._sessions.get(guest.knock.session)
        if session is None or session.ended:
            await self._destroy(ref)
            raise ConnectionLost("the client has gone")
        session.made.append(ref)
        return ref

    # Leaving

    def left(self, guest: Guest, error: Exception | None) -> None:
        """A guest's connection has ended."""
        self._guests.discard(guest)
        if error is not None:
            self.refused(f"{guest.name} was cut off: {error}")
        session = self._sessions.get(guest.knock.session)
        if session is None:
            return
        session.guests.discard(guest)
        if session.guests or self.runtime.closed:
            return
        if session.made and self._listener is not None:
            self.runtime.loop.spawn(self._lease, guest.knock.session, session)
        else:
            del self._sessions[guest.knock.session]

    async def _lease(self, name: str, session: _Session) -> None:
        """Wait whether a client comes again."""
        await anyio.sleep(self.runtime.timeouts.lease)
        if not session.guests and self._sessions.get(name) is session:
            await self._end(name, session)

    async def bid_farewell(self, guest: Guest) -> None:
        """A client leaves for good."""
        name = guest.knock.session
        session = self._sessions.get(name)
        if session is not None:
            await self._end(name, session)

    async def _end(self, name: str, session: _Session) -> None:
        session.ended = True
        if self._sessions.get(name) is session:
            del self._sessions[name]
        for ref in reversed(session.made):
            await self._destroy(ref)

    async def _destroy(self, ref: ActorRef[Any]) -> None:
        with contextlib.suppress(ActorNotExist, XoscarError):
            await self.runtime.end_actor(ref.__target__(), "destroy")
