"""Using the tree of another program: ``async with connect(address) as remote``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from xoscar_sc.errors import ActorNotExist
from xoscar_sc.ipc import TLS, Auth, Secret, tcp
from xoscar_sc.loop import undisturbed
from xoscar_sc.protocol import TcpAddress
from xoscar_sc.runtime import (
    ActorRef,
    Link,
    OpenContext,
    Runtime,
    Target,
    come_through,
    exposed_name,
    find_through,
    found_from,
)
from xoscar_sc.supervise.root import acquire, release
from xoscar_sc.timeouts import Timeouts

T = TypeVar("T")


def connect(
    address: str, auth: Auth | None = None, *, pickle: bool = True, timeouts: Timeouts | None = None
) -> AbstractAsyncContextManager[Connection]:
    """A block in which another program's tree can be used, through its door: ``async with connect(address) as remote``.

    In it :func:`find_actor`, :func:`wait_for_actor` and :func:`actor_ref` look in that tree too, and references to its
    actors work, in whichever of its pools they live. When the connection is lost, open calls end with
    :exc:`ConnectionLost`, and later ones wait until it is there again, as long as the other side's lease lasts.

    Args:
        address: where the other program listens: ``"tcp://host:port"``, or ``"host:port"``.
        auth: what both sides know: a :class:`Secret`, or a :class:`TLS`. None on loopback, for a program of the same
            user that has none of its own: its secret is found where only this user can read it.
        pickle: values may be pickled, if the other side does so; without it only msgspec's types cross.
        timeouts: bounds of waits; heeded by the first block of a program.

    Raises:
        TypeError, ValueError: an argument is wrong.
        ConnectionLost: nothing answers there, when the block is entered.
        AuthenticationError: it does not let us in, or could not prove who it is.
        ProtocolError: what answers is no program of ours, or of another version.

    Cancellation: the connection is closed, and what the other side has made for this one ends.
    """
    where = tcp.parse(address)
    if auth is not None and not isinstance(auth, (Secret, TLS)):
        raise TypeError(f"auth= is {type(auth).__name__}; it is a Secret or a TLS")
    if timeouts is not None and not isinstance(timeouts, Timeouts):
        raise TypeError(f"timeouts= is {timeouts!r}; it is a Timeouts")
    return _Block(where, auth, pickle, timeouts or Timeouts())


class Connection:
    """Another program's tree, from the outside. Made by :func:`connect`.

    Attributes:
        address: where the other program says that others reach it.
    """

    def __init__(self, runtime: Runtime, link: Link) -> None:
        self._runtime = runtime
        self._link = link

    @property
    def address(self) -> str:
        """Where the other program says that others reach it."""
        assert self._link.welcome is not None
        return self._link.welcome.address

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        return self._link.open

    async def actor_ref(self, uid: str) -> ActorRef[Any]:
        """A reference to an actor, by its uid.

        Raises:
            ActorNotExist: there is none, or none for programs from outside.
            ConnectionLost: the other program cannot be reached.
        """
        found = await self.find_actor(uid)
        if found is None:
            raise ActorNotExist(f"there is no actor {uid!r} in the tree at {self.address}")
        return found

    @undisturbed
    async def find_actor(self, uid: str) -> ActorRef[Any] | None:
        """As :meth:`actor_ref`; None if there is none."""
        return await find_through(self._link, uid, wait=False)

    @undisturbed
    async def wait_for_actor(self, uid: str) -> ActorRef[Any]:
        """As :meth:`actor_ref`; if there is none yet, as soon as there is one.

        Cancellation: leaves nothing behind.
        """
        return await come_through(self._link, uid)

    @undisturbed
    async def create_actor(
        self, cls: type[T] | str, /, *args: Any, uid: str | None = None, **kwargs: Any
    ) -> ActorRef[T]:
        """Have an actor made over there, which lives until this block is left, or its connection is lost for good.

        Args:
            cls: its class, or ``"module:name"`` of it; the other side has it among what it exposes.
            args: for ``__init__``, as ``kwargs``, which may hold what :meth:`PoolNursery.create_actor` takes.
            uid: its name, unique in the other tree; made up if it is None.

        Raises:
            NotExposed: there is no such class, or none for programs from outside.
            what :meth:`PoolNursery.create_actor` raises.

        Cancellation: no actor is left.
        """
        name = exposed_name(cls)
        made, found = await self._link.ask("create_actor", name, args, kwargs, uid)
        where = found_from(found)
        assert where is not None
        known = cls if isinstance(cls, type) else None
        return ActorRef(where.address, made, 0, known, traits=where.traits)  # type: ignore[arg-type]

    @undisturbed
    async def run(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Run a function in a pool of the other tree, and wait for what it returns.

        Args:
            fn: the function, or ``"module:name"`` of it; the other side has it among what it exposes.
            args: for it, as ``kwargs``.

        Raises:
            NotExposed: there is no such function, or none for programs from outside.
            the function's own exception.

        Cancellation: the function is cancelled at its next checkpoint, and waited for, as a method is.
        """
        return await self._link.ask("run", exposed_name(fn), args, kwargs)

    def open_context(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> OpenContext:
        """Open a dialogue with a function in a pool of the other tree; see :meth:`run` and :class:`OpenContext`."""
        name = exposed_name(fn)
        target = Target(self._link.address, "", 0)
        return OpenContext(target, "converse", (name, args, kwargs), {}, f"{self._link.address} {name}")


class _Block(AbstractAsyncContextManager[Connection]):
    """What ``async with`` drives."""

    def __init__(self, where: TcpAddress, auth: Auth | None, pickle: bool, timeouts: Timeouts) -> None:
        self._where = where
        self._auth = auth
        self._pickle = pickle
        self._timeouts = timeouts
        self._runtime: Runtime
        self._link: Link

    @undisturbed
    async def __aenter__(self) -> Connection:
        runtime = self._runtime = await acquire(self._timeouts)
        try:
            self._link = link = runtime.links.open(self._where, self._auth, pickle=self._pickle)
            link.users += 1
            try:
                await link.connect()
            except BaseException:
                await runtime.loop.run_shielded(self._leave)
                raise
        except BaseException:
            await runtime.loop.run_shielded(partial(release, runtime))
            raise
        return Connection(runtime, link)

    async def _leave(self) -> None:
        link = self._link
        link.users -= 1
        if not link.users:
            await link.close()
            self._runtime.links.forget(link)

    @undisturbed
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        loop = self._runtime.loop
        try:
            await loop.run_shielded(self._leave)
        finally:
            await loop.run_shielded(partial(release, self._runtime))
