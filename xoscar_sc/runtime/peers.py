"""The channels of a pool to others, by address: the parent's and the children's, and siblings' when first needed.

A sibling is connected by a task of its own, so that one that is slow to answer delays those who call it, and nobody
else.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from xoscar_sc.errors import AuthenticationError, ConnectionLost, PoolDied, ProtocolError
from xoscar_sc.events import ConnectionRefused
from xoscar_sc.ipc import Channel, Listener, check_peer, connect, is_outside, listen
from xoscar_sc.launch import ProcessExit
from xoscar_sc.protocol import Hello, UnixAddress, parse_address

if TYPE_CHECKING:
    from xoscar_sc.loop import Slot
    from xoscar_sc.runtime.runtime import Runtime


_REMEMBERED = 256


class Peers:
    """The channels of one pool."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._channels: dict[str, Channel] = {}
        self._dialling: dict[str, list[Slot]] = {}
        self._strangers: set[Channel] = set()
        """Connections that have been accepted, and have not said yet who they are; and second ones of a peer."""
        self._lost_ones: dict[str, tuple[str, int]] = {}
        """Name and pid of pools whose connection has ended, by address; the last few."""
        self._listener: Listener | None = None
        self._near = f"unix://{runtime.place.directory}/"
        self.get = self._channels.get
        """The channel to an address, if there is one."""

    def listen(self) -> None:
        """Let siblings in.

        Raises:
            OSError: the address is taken, or the directory cannot be written.
        """
        address = parse_address(self._runtime.address)
        assert isinstance(address, UnixAddress)
        self._listener = listen(self._runtime.loop, address.path, self._accept, self._trouble)

    def open(self, sock: socket.socket) -> Channel:
        """A channel over a connected socket; it is this pool's in every respect but the table."""
        runtime = self._runtime
        grace = runtime.timeouts.cancel
        return Channel(runtime.loop, sock, runtime.greeting(), runtime.receive, self._lost, grace)

    def add(self, address: str, channel: Channel) -> None:
        """Reach ``address`` over this channel."""
        if not channel.closed:
            self._channels[address] = channel

    def is_near(self, address: str) -> bool:
        """Whether an address is that of a pool of this tree."""
        return address.startswith(self._near)

    def unroute(self, channel: Channel) -> None:
        """A connection to another program has ended, and with it the way to whatever was reached through it."""
        for address in [each for each, used in self._channels.items() if used is channel]:
            del self._channels[address]

    def forget(self, uid: str) -> None:
        """An actor of this pool has ended: nobody is owed anything for it any more."""
        for channel in [*self._channels.values(), *self._strangers]:
            channel.forget(uid)

    # Connecting

    async def connect(self, address: str) -> Channel:
        """The channel to an address, which is connected if it is not yet.

        Raises:
            PoolDied: the pool has ended.
            ConnectionLost: it cannot be reached.
            ValueError: this is no address.

        Cancellation: the connection is made all the same.
        """
        channel = self._channels.get(address)
        if channel is not None:
            return channel
        waiting = self._dialling.get(address)
        if waiting is None:
            waiting = self._dialling[address] = []
            self._runtime.loop.spawn(self._dial, address)
        slot = self._runtime.loop.slot()
        waiting.append(slot)
        outcome: Channel | Exception = await slot.wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _dial(self, address: str) -> None:
        outcome: Callable[[], object]
        try:
            channel = await self._dial_once(address)
            outcome = lambda: channel  # noqa: E731
        except (OSError, AuthenticationError, ConnectionLost, ProtocolError, ValueError) as exc:
            failure = exc
            outcome = lambda: type(failure)(*failure.args)  # noqa: E731
            if self.is_near(address):
                why = f"{address} cannot be reached: {exc}"
                outcome, _ = await self.obituary(address, why, maybe_executed=False)
        for slot in self._dialling.pop(address):
            slot.set(outcome())

    async def _dial_once(self, address: str) -> Channel:
        parsed = parse_address(address)
        if not self.is_near(address):
            link = await self._runtime.links.find(address)
            if link is None:
                raise ConnectionLost(f"{address} belongs to another program, to which there is no connection")
            channel = await link.connect()
            self.add(address, channel)
            return channel
        assert isinstance(parsed, UnixAddress)
        with anyio.move_on_after(self._runtime.timeouts.greeting):
            channel = self.open(await connect(parsed.path))
            try:
                await channel.wait_greeting()
            except BaseException:
                channel.close()
                raise
            return self._known(address, channel)
        raise ConnectionLost(f"no answer within {self._runtime.timeouts.greeting} s")

    # Being connected to

    def _accept(self, sock: socket.socket) -> None:
        try:
            check_peer(sock)
        except AuthenticationError as exc:
            sock.close()
            self._refused(str(exc))
            return
        channel = self.open(sock)
        self._strangers.add(channel)
        self._runtime.loop.spawn(self._meet, channel)

    async def _meet(self, channel: Channel) -> None:
        with anyio.move_on_after(self._runtime.timeouts.greeting) as scope:
            try:
                hello = await channel.wait_greeting()
            except (ConnectionLost, ProtocolError) as exc:
                self._refused(str(exc))
                return
            self._known(hello.address, channel)
        if scope.cancelled_caught:
            self._strangers.discard(channel)
            channel.close()
            self._refused("no greeting in time")

    def _known(self, address: str, channel: Channel) -> Channel:
        """The channel to use for an address: this one, unless both sides have connected at the same time."""
        if channel.closed or not self.is_near(
            address
        ):  # in the second case a client's, and only it has its number
            return channel
        chosen = self._channels.setdefault(address, channel)
        if chosen is channel:
            self._strangers.discard(channel)
        else:
            self._strangers.add(channel)
        return chosen

    def _refused(self, reason: str) -> None:
        self._runtime.emit(ConnectionRefused(self._runtime.address, reason))

    def _trouble(self, exc: OSError) -> None:
        self._refused(f"no connection can be accepted: {exc}")

    # Losing

    def _lost(self, channel: Channel, error: Exception | None) -> None:
        self._strangers.discard(channel)
        for work in list(channel.serving.values()):
            work.withdraw()
        if self._runtime.closed:
            return
        hello = channel.peer
        if hello is None:
            channel.fail(lambda: error or ConnectionLost("the peer went away before it said who it is"))
            return
        if self._channels.get(hello.address) is channel:
            del self._channels[hello.address]
            self._lost_ones[hello.address] = (hello.pool, hello.pid)
            if len(self._lost_ones) > _REMEMBERED:
                del self._lost_ones[next(iter(self._lost_ones))]
        # Of a program from outside, its door tells why it has gone; the way from there to here is merely closed.
        if error is not None and not (isinstance(error, ConnectionLost) and is_outside(channel)):
            self._refused(f"{hello.pool!r} was cut off: {error}")
        if not self.is_near(hello.address):
            channel.fail(lambda: ConnectionLost(f"{hello.pool!r} has gone"))
        elif self._runtime.is_parent(hello.address):
            channel.fail(lambda: ConnectionLost("the pool that started this one has gone"))
            self._runtime.orphaned()
        else:
            self._runtime.loop.spawn(self._bury, channel, hello, error)

    async def _bury(self, channel: Channel, hello: Hello, error: Exception | None) -> None:
        why = f"the connection to pool {hello.pool!r} was lost" + (f": {error}" if error else "")
        reason, known = await self.obituary(hello.address, why, pool=hello.pool, pid=hello.pid)
        channel.fail(reason)
        if not known:
            self._runtime.unreachable(hello.address)

    async def obituary(
        self, address: str, otherwise: str, *, pool: str = "", pid: int = 0, maybe_executed: bool = True
    ) -> tuple[Callable[[], Exception], bool]:
        """What the calls to a pool end with that cannot be reached any more, and whether it is known to have ended."""
        pool_id = Path(address).stem
        if not pool:
            pool, pid = self._lost_ones.get(address, (pool_id, 0))
        found: ProcessExit | None = None
        with anyio.move_on_after(self._runtime.timeouts.obituary):
            found = await self._runtime.exit_of(pool_id)
        if found is None:
            return (lambda: ConnectionLost(otherwise)), False
        return died(found, pool, pid, maybe_executed=maybe_executed), True

    # Closing

    def stop_listening(self) -> None:
        """Let nobody in any more."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        """Close every channel, and every door."""
        self.stop_listening()
        for gate in list(self._runtime.gates):
            gate.close()
        self._runtime.links.close()
        for channel in [*self._channels.values(), *self._strangers]:
            channel.flush()
            channel.close()
        self._channels.clear()
        self._strangers.clear()


def died(found: ProcessExit, pool: str, pid: int, *, maybe_executed: bool = True) -> Callable[[], PoolDied]:
    """What tells of the end of a pool, made anew for each call that hears of it."""
    tail = "".join(f"\n  {line}" for line in found.last_lines)
    text = f"pool {pool!r} (pid {pid}) {found.describe()}" + (f"; its last lines were:{tail}" if tail else "")

    def make() -> PoolDied:
        return PoolDied(
            text,
            pool=pool,
            pid=pid,
            exit_code=found.exit_code,
            signal=found.signal,
            last_lines=found.last_lines,
            maybe_executed=maybe_executed,
        )

    return make
