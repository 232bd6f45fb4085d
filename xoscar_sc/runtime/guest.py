"""A program from outside that has come in: its connection, and where each of its messages goes.

What it calls lives in this pool, and is called as any peer calls it; or in another pool of the tree, and goes there
over a :class:`Leg`. Nothing it says is believed: whose calls wait for one of its own is not known here. The uid without
a name, which inside a tree is the pool itself, is its :class:`Porch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xoscar_sc.errors import ActorNotExist, ConnectionLost, NotExposed, ProtocolError, XoscarError
from xoscar_sc.ipc import AnySocket, Channel, GuestChannel, PlainGuestChannel, Segments, dialogue_key
from xoscar_sc.loop import Slot
from xoscar_sc.protocol import (
    VERSION,
    AnyMessage,
    Call,
    Cancel,
    Cancelled,
    Demand,
    End,
    Hello,
    Item,
    Knock,
    Notice,
    TcpAddress,
    Tell,
)
from xoscar_sc.runtime.cell import Cell, State
from xoscar_sc.runtime.leg import Leg
from xoscar_sc.runtime.methods import DURABLE
from xoscar_sc.runtime.porch import Porch
from xoscar_sc.runtime.work_remote import RemoteWork, post_failure
from xoscar_sc.serialize import dumps_call, loads_call

if TYPE_CHECKING:
    from xoscar_sc.runtime.gate import Gate
    from xoscar_sc.runtime.names import Found

_FUNCTIONS = ("run", "converse")
"""What is asked of the porch, and done by a pool."""


class Guest:
    """See the top of this file."""

    def __init__(self, gate: Gate, sock: AnySocket, knock: Knock) -> None:
        self.gate = gate
        self.runtime = runtime = gate.runtime
        self.knock = knock
        host, port = sock.getpeername()[:2]
        self.name = str(TcpAddress(host, port))
        """Who it is to those whom it calls."""
        self._legs: dict[str, Leg] = {}
        self._calls: dict[int, Leg] = {}
        """Its open calls to other pools."""
        self._asked: dict[int, Slot] = {}
        """Calls of its for functions, for which a place is being looked for."""
        self._held: dict[str, list[tuple[Call | Tell, Segments]]] = {}
        """What it says to actors that are being looked for, by uid, in order."""
        self._porch = Cell(runtime, Porch, "", 0)
        self._porch.instance = Porch(self)
        self._porch.state = State.ALIVE
        self._porch.mailbox.start()
        self.plain = gate.plain
        """Nothing that it is sent may be pickled: so it is here, or it wants it so."""
        kind = PlainGuestChannel if gate.plain else GuestChannel
        hello = Hello(VERSION, runtime.place.tree, gate.address, runtime.place.name, 0)
        self.channel = kind(runtime.loop, sock, hello, self._receive, self._lost, runtime.timeouts.cancel)
        self.channel.max_message = gate.settings.max_message

    def hello(self) -> Hello:
        """What is said for it to a pool of the tree."""
        return Hello(VERSION, self.runtime.place.tree, self.name, self.knock.pool, 0)

    # What it says

    def _receive(self, channel: Channel, message: AnyMessage, segments: Segments) -> None:
        if isinstance(message, (Call, Tell)):
            if isinstance(message, Call):
                message.chain = ()
                message.plain = self.plain = self.plain or message.plain
            self._begin(message, segments)
        elif isinstance(message, Cancel):
            self._cancel(message)
        elif isinstance(message, (Item, Demand, End)):
            work = channel.serving.get(message.id)
            leg = self._calls.get(message.id)
            if work is not None:
                work.hear(message, segments)
            elif leg is not None:
                leg.goes_on(message, segments, message.id)
        elif isinstance(message, Notice):
            raise ProtocolError("a program from outside has no news for a nursery")

    def _begin(self, message: Call | Tell, segments: Segments) -> None:
        uid = message.uid
        if not uid:
            self._ask(message, segments)
        elif message.method == DURABLE and self.gate.plain:
            self._refuse(
                message, NotExposed("what a durable tell writes down is pickled, and nothing is, here")
            )
        elif not self.gate.admits(uid):
            self._refuse(message, self._missing(uid))
        elif uid in self._held:
            self._held[uid].append((message, segments))
        elif (cell := self.runtime.find_cell(uid)) is not None:
            self._accept(cell, message, segments)
        elif (
            self.runtime.is_root and (found := self.runtime.directory.names.find(uid, ready=True)) is not None
        ):
            self._send(found.address, message, segments, found)
        else:
            self.look_for(message, segments, 0)

    def look_for(self, message: Call | Tell, segments: Segments, seen: int) -> None:
        """Send a message when it is known where its actor is: one that is restarted, in a later life than ``seen``."""
        held = self._held.get(message.uid)
        if held is not None:
            held.append((message, segments))
        else:
            self._held[message.uid] = [(message, segments)]
            self.runtime.loop.spawn(self._look_for, message.uid, seen)

    def _accept(self, cell: Cell, message: Call | Tell, segments: Segments) -> None:
        if cell.incarnation != message.incarnation != 0:
            self._refuse(message, self._missing(message.uid, " any more"))
        else:
            cell.accept(RemoteWork(cell, message, segments, self.channel))

    def _send(
        self, address: str, message: Call | Tell, segments: Segments, found: Found | None = None
    ) -> None:
        leg = self._legs.get(address)
        if leg is None:
            leg = self._legs[address] = Leg(self, address)
        try:
            leg.call(message, segments, found)
        except XoscarError as exc:
            self._refuse(message, exc)
            return
        if isinstance(message, Call):
            self._calls[message.id] = leg

    async def _look_for(self, uid: str, seen: int) -> None:
        """Find out where an actor is, and say there what has been said to it meanwhile."""
        found: Found | None = None
        failure: Exception | None = None
        try:
            found = await self.runtime.at_root("find", uid, False)
            if found is not None and found.traits.child:
                found = await self.runtime.at_root("locate", uid, found.traits.child, seen)
        except XoscarError as exc:
            found, failure = None, exc
        for message, segments in self._held.pop(uid, ()):
            if self.channel.closed:
                return
            if found is None:
                self._refuse(message, failure or self._missing(uid))
            elif (cell := self.runtime.find_cell(uid)) is not None:
                self._accept(cell, message, segments)
            else:
                self._send(found.address, message, segments, found)

    def _cancel(self, message: Cancel) -> None:
        call = message.id
        if (work := self.channel.serving.get(call)) is not None:
            work.withdraw()
        elif (leg := self._calls.get(call)) is not None:
            leg.cancel(message)
        elif (slot := self._asked.get(call)) is not None:
            slot.set(None)
        else:
            for held in self._held.values():
                for each in held:
                    if isinstance(each[0], Call) and each[0].id == call:
                        held.remove(each)
                        self.post(Cancelled(call), ())
                        return

    def _missing(self, uid: str, more: str = "") -> ActorNotExist:
        return ActorNotExist(f"there is no actor {uid!r} in the tree at {self.gate.address}{more}")

    def _refuse(self, message: Call | Tell, exc: Exception) -> None:
        if isinstance(message, Call):
            self.fail(message.id, exc)
        else:
            self.runtime.dropped(message.uid, message.method, str(exc))
            self.channel.executed(message.uid, 1)

    # What it asks of the porch

    def _ask(self, message: Call | Tell, segments: Segments) -> None:
        if isinstance(message, Tell):  # what pools tell each other is not for guests to say
            self._refuse(message, NotExposed("a program from outside has nothing to tell a pool"))
        elif message.method in _FUNCTIONS:
            self._asked[message.id] = self.runtime.loop.slot()
            self.runtime.loop.spawn(self._run, message, segments)
        else:
            self._porch.accept(RemoteWork(self._porch, message, segments, self.channel))

    async def _run(self, message: Call, segments: Segments) -> None:
        """Let a pool run a function: the call goes there, as the tree itself would make it."""
        asked = self._asked[message.id]
        try:
            (name, args, kwargs), _ = loads_call(message.body, segments)
            function = self.gate.exposure.function(name)
            large: list[memoryview] = []
            message.body = dumps_call((function, tuple(args), kwargs), {}, large)
            address, leave = await self.gate.place()
        except Exception as exc:  # what it sent may be anything
            del self._asked[message.id]
            self.fail(
                message.id, exc if isinstance(exc, XoscarError) else ProtocolError(f"no such call: {exc}")
            )
            return
        del self._asked[message.id]
        try:
            if self.channel.closed:
                return
            if asked.filled:
                self.post(Cancelled(message.id), ())
            elif address == self.runtime.address:
                cell = self.runtime.cell("", 0)
                cell.accept(RemoteWork(cell, message, large, self.channel))
            else:
                self._send(address, message, large)
        finally:
            leave()

    # What it hears

    def post(self, message: AnyMessage, segments: list[memoryview] | tuple[()]) -> None:
        """Send it a message."""
        channel = self.channel
        if channel.closed:
            return
        call = getattr(message, "id", None)
        channel.post(message, segments, None if call is None else dialogue_key(call))

    def fail(self, call: int, exc: Exception) -> None:
        """End a call of its with an exception."""
        if not self.channel.closed:
            post_failure(self.channel, call, exc, self.runtime.where(), plain=self.plain)

    def answered(self, call: int) -> None:
        """A call to another pool has ended."""
        self._calls.pop(call, None)

    def leg_ended(self, leg: Leg) -> None:
        """A pool of the tree has gone."""
        if self._legs.get(leg.address) is leg:
            del self._legs[leg.address]

    # The end

    def _lost(self, channel: Channel, error: Exception | None) -> None:
        for work in list(channel.serving.values()):
            work.withdraw()
        for leg in list(self._legs.values()):
            leg.close()
        self._legs.clear()
        self._calls.clear()
        self._held.clear()
        channel.fail(lambda: ConnectionLost("the client has gone"))
        self.gate.left(self, error)

    def close(self, reason: str) -> None:
        """Show it out."""
        self.channel.flush()
        self.channel.fail(lambda: ConnectionLost(reason))
