"""One pool from the inside: what lives in this process, and who is around it.

A runtime belongs to one event loop. It owns the actors of the pool; its peers own the channels, its outgoing side the
way of a call, its launcher the processes. In the root program it is opened by the first nursery; in a pool it is all
there is.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from xoscar_sc.errors import (
    ActorAlreadyExist,
    ActorNotExist,
    ConnectionLost,
    LaunchError,
    PoolDied,
    ProtocolError,
    XoscarError,
)
from xoscar_sc.events import ActorExited, Event, Exit
from xoscar_sc.ipc import Channel, Segments
from xoscar_sc.launch import Launcher, ProcessExit
from xoscar_sc.loop import Loop
from xoscar_sc.protocol import (
    VERSION,
    AnyMessage,
    Call,
    Cancel,
    Demand,
    End,
    Hello,
    Item,
    Notice,
    Tell,
)
from xoscar_sc.runtime.cell import Cell, Owner, State
from xoscar_sc.runtime.control import Control
from xoscar_sc.runtime.deadlock import Deadlocks
from xoscar_sc.runtime.directory import Directory
from xoscar_sc.runtime.drops import Drops
from xoscar_sc.runtime.exits import Exits, wait_exit
from xoscar_sc.runtime.heirs import Heirs
from xoscar_sc.runtime.lasting import Gone, Lasting
from xoscar_sc.runtime.links import Links
from xoscar_sc.runtime.news import News, packed, unpacked
from xoscar_sc.runtime.outgoing import Outgoing
from xoscar_sc.runtime.peers import Peers
from xoscar_sc.runtime.place import Listening, Place, Wish
from xoscar_sc.runtime.ref import Target
from xoscar_sc.runtime.targets import Targets
from xoscar_sc.runtime.traits import FIRST_CHILD
from xoscar_sc.runtime.work_remote import RemoteWork, post_failure
from xoscar_sc.timeouts import Timeouts

if TYPE_CHECKING:
    from xoscar_sc.runtime.gate_settings import GateSettings, Host, OpenGate
    from xoscar_sc.runtime.persistence import Writer

T = TypeVar("T")

_CRASHED = 70
"""A pool's exit code when something of this package's own has failed: that of an internal software error."""


class Runtime:
    """See the top of this file."""

    def __init__(
        self, loop: Loop, place: Place, timeouts: Timeouts, launch: Callable[[], Awaitable[Launcher]]
    ) -> None:
        self.loop = loop
        self.place = place
        self.timeouts = timeouts
        self.address = place.address
        self.directory = Directory(loop)
        self.peers = Peers(self)
        self.links = Links(self)
        self.gates: set[OpenGate] = set()
        """Doors for other programs."""
        self.outgoing = Outgoing(self)
        self.lasting = Lasting(self)
        self.heirs = Heirs(self)
        self.control = Control(self)
        self.deadlocks = Deadlocks(self)
        self.drops = Drops(loop, self.emit)
        self.open_launcher = launch
        """Makes :attr:`launcher`, if it is not there yet."""
        self.launcher: Launcher | None = None
        self.make_directory: Callable[[], None] = lambda: None
        """Makes the tree's directory, if it is not there yet."""
        self.nurseries: dict[int, Listening] = {}
        self.stopping = loop.slot()
        """Filled with the exit code, or None, when this pool is to end."""
        self.cancelling = False
        """What this pool does when it is to end is cancelled."""
        self.closed = False
        self.thread = threading.get_ident()
        """Where its loop runs."""
        self.serial = itertools.count(1).__next__
        """A number that no other call has given."""
        self._cells: dict[str, Cell] = {}
        self._leaving: set[Cell] = set()
        """Actors that have ended, and whose nurseries do not know it yet."""
        self.exits = Exits()
        self.shared: dict[Hashable, object] = {}
        """What tasks of this pool share, by its key; see :func:`shared_context`."""
        self.targets = Targets()
        """What others may copy into."""
        self.writers: dict[Hashable, Writer] = {}
        """What writes to the stores that actors of this pool keep their state in."""
        self._new_control()
        loop.crashed = self._crashed

    def _new_control(self) -> None:
        cell = Cell(self, Control, "", 0)
        cell.instance = self.control
        cell.state = State.ALIVE
        cell.mailbox.start()
        self._cells[""] = cell

    # Who it is

    @property
    def is_root(self) -> bool:
        """Whether this is the program that opened the tree."""
        return not self.place.parent

    def is_parent(self, address: str) -> bool:
        """Whether the pool that started this one is at ``address``."""
        return address == self.place.parent

    def where(self) -> str:
        """This pool, for the note of an exception."""
        return f"in pool {self.place.name!r} (pid {os.getpid()})"

    def greeting(self) -> Hello:
        """What this pool says first on a connection."""
        return Hello(VERSION, self.place.tree, self.address, self.place.name, os.getpid())

    # Messages

    def receive(self, channel: Channel, message: AnyMessage, segments: Segments) -> None:
        """Act on what a peer asks for."""
        if type(message) is Call or type(message) is Tell:
            if type(message) is Call and message.id in channel.serving:
                raise ProtocolError(f"call {message.id} was made twice")
            cell = self._cells.get(message.uid)
            if cell is None or cell.incarnation != message.incarnation != 0:
                self._refuse(channel, message, segments)
            else:
                cell.accept(RemoteWork(cell, message, segments, channel))
        elif isinstance(message, Cancel):
            work = channel.serving.get(message.id)
            if work is not None:
                work.withdraw()
        elif isinstance(message, (Item, Demand, End)):
            work = channel.serving.get(message.id)
            if work is not None:
                work.hear(message, segments)
        elif isinstance(message, Notice):
            self._noticed(message, segments)

    def _refuse(self, channel: Channel, message: Call | Tell, segments: Segments) -> None:
        heir = self.heirs.find(message.uid, message.incarnation)
        if heir is not None:
            heir.accept(RemoteWork(heir, message, segments, channel))
            return
        exc = self._not_here(message.uid, message.incarnation)
        if isinstance(message, Call):
            post_failure(channel, message.id, exc, self.where())
        else:
            self.dropped(message.uid, message.method, str(exc))
            channel.executed(message.uid, 1)

    async def ask(self, address: str, method: str, *args: Any) -> Any:
        """Call the control of the pool at ``address``."""
        return await self.outgoing.send(Target(address, "", 0), method, args, {})

    async def order(self, address: str, method: str, *args: Any) -> None:
        """Tell the control of the pool at ``address``; whether it obeys is not waited for."""
        await self.outgoing.tell(Target(address, "", 0), method, args, {})

    # Actors

    def new_cell(self, uid: str, make: Callable[[int], Cell], child: int = 0) -> Cell:
        """A place for an actor that is about to be made; ``make`` gets its incarnation, that of a child its number."""
        if self.stopping.filled:
            raise XoscarError(f"pool {self.place.name!r} is ending; it takes no more actors")
        if uid in self._cells:  # it has not ended in time, and its creator has gone on
            raise ActorAlreadyExist(f"there is an actor {uid!r} already {self.where()}; it is ending")
        cell = self._cells[uid] = make(child or self.serial())
        self.heirs.await_birth(cell)
        return cell

    def made_as(self, uid: str, token: str) -> Cell | None:
        """The actor of this pool that has come to be by this creation, unless it has ended."""
        cell = self._cells.get(uid)
        return None if cell is None or cell.owner is None or cell.owner.token != token else cell

    def find_cell(self, uid: str) -> Cell | None:
        """The actor of this pool, if there is one."""
        return self._cells.get(uid)

    def cell(self, uid: str, incarnation: int) -> Cell:
        """The actor of this pool.

        Raises:
            ActorNotExist: there is none, or not this one any more.
        """
        cell = self._cells.get(uid)
        if cell is None or (incarnation and cell.incarnation != incarnation):
            raise self._not_here(uid, incarnation)
        return cell

    def taker(self, uid: str, incarnation: int) -> Cell:
        """What takes messages for an actor of this pool: as :meth:`cell`, and also while it is being restarted."""
        cell = self._cells.get(uid)
        if cell is None or (incarnation and cell.incarnation != incarnation):
            return self.heirs.find(uid, incarnation) or self.cell(uid, incarnation)
        return cell

    def _not_here(self, uid: str, incarnation: int) -> ActorNotExist:
        if incarnation >= FIRST_CHILD:
            return Gone(uid, incarnation)
        return ActorNotExist(
            f"there is no actor {uid!r} {self.where()}" + (", any more" if incarnation else "")
        )

    async def end_actor(self, target: Target, how: str) -> None:
        """End an actor, wherever it lives; see :meth:`Control.end_actor`. What it has been told comes first."""
        channel = self.peers.get(target.address) if how in ("drain", "destroy") else None
        if channel is not None:
            await channel.wait_sent(target.uid)
        await self.ask(target.address, "end_actor", target.uid, target.incarnation, how)

    async def is_alive(self, target: Target) -> bool:
        """Whether an actor takes messages, wherever it lives."""
        if target.traits.child and self.peers.is_near(target.address):
            return await self.lasting.is_alive(target)
        try:
            return bool(await self.ask(target.address, "is_alive", target.uid, target.incarnation))
        except (PoolDied, ConnectionLost):
            return False

    async def forget(self, cell: Cell) -> None:
        """An actor of this pool has ended: its uid is free."""
        if self._cells.get(cell.uid) is cell:
            del self._cells[cell.uid]
        self._leaving.add(cell)
        self.peers.forget(cell.uid)
        if cell.owner is not None and not self.stopping.filled:
            try:
                await self.at_root("release", cell.uid, cell.owner.token)
            except (ConnectionLost, PoolDied):  # then the tree has ended, and the table with it
                pass

    async def wait_exit(self, uid: str, incarnation: int) -> Exit:
        """Wait until an actor of this pool has ended; how.

        Raises:
            ActorNotExist: it had ended, and how is forgotten.
        """
        here = [*self._cells.values(), *self._leaving]
        cell = next((each for each in here if each.uid == uid and incarnation in (0, each.incarnation)), None)
        if cell is None:
            known = self.exits.find(uid, incarnation)
            if known is None:
                raise self._not_here(uid, incarnation)
            return known
        return await wait_exit(cell)

    def actor_ended(self, cell: Cell, exit_: Exit, unclaimed: BaseException | None) -> None:
        """An actor of this pool has ended: tell its nursery."""
        self._leaving.discard(cell)
        self.exits.add(cell.uid, cell.incarnation, exit_)
        if cell.owner is not None:
            event = ActorExited(cell.uid, self.place.name, exit_)
            wish: Wish = "pool" if self.stopping.filled else "actor" if cell.taken_out else ""
            self._tell_owner(cell.owner, event, unclaimed, wish)

    def _tell_owner(
        self, owner: Owner, event: ActorExited, unclaimed: BaseException | None, wish: Wish
    ) -> None:
        if owner.address == self.address:
            nursery = self.nurseries.get(owner.nursery)
            if nursery is not None:
                nursery.actor_ended(event, unclaimed, owner.token, wish)
            return
        channel = self.peers.get(owner.address)
        if channel is None:
            return
        news = News(event, unclaimed, owner.token, wish)
        channel.post(Notice(owner.nursery, packed(news, f"actor {event.uid!r} {self.where()}")))

    # Names

    async def at_root(self, method: str, *args: Any) -> Any:
        """Call the control of the root, which keeps the names."""
        if self.is_root:
            value = getattr(self.control, method)(*args)
            return await value if hasattr(value, "__await__") else value
        return await self.ask(self.place.root, method, *args)

    # Events

    def emit(self, event: Event) -> None:
        """Tell this pool's nurseries, and those above, that something happened."""
        for nursery in list(self.nurseries.values()):
            nursery.happened(event)
        channel = None if self.is_root else self.peers.get(self.place.parent)
        if channel is not None:
            channel.post(Notice(self.place.nursery, packed(News(event), self.where())))

    def dropped(self, uid: str, method: str, reason: str) -> None:
        """A message that nobody waits for will not be executed."""
        self.drops.add(uid, method, reason)

    def _noticed(self, message: Notice, segments: Segments) -> None:
        event, unclaimed, token, wish = unpacked(message.body, segments)
        nursery = self.nurseries.get(message.nursery)
        if not isinstance(event, ActorExited):
            self.emit(event)
        elif nursery is not None:
            nursery.actor_ended(event, unclaimed, token, wish)

    async def open_gate(self, settings: GateSettings, host: Host | None) -> OpenGate:
        """Let other programs in; see :meth:`Gate.open`."""
        from xoscar_sc.runtime.gate import Gate

        gate = Gate(self, settings, host)
        await gate.open()
        return gate

    # Processes

    async def exit_of(self, pool_id: str) -> ProcessExit | None:
        """How a pool of the tree ended, once it has; None if that cannot be known."""
        if self.launcher is None:
            return None
        try:
            return await self.launcher.exit_of(pool_id)
        except LaunchError:
            return None

    def unreachable(self, address: str) -> None:
        """The connection to a pool was lost, and nothing is known of its end."""
        for nursery in list(self.nurseries.values()):
            nursery.unreachable(address)

    # The end

    def _crashed(self, exc: BaseException) -> None:
        """Something of this package's own has failed: nobody may go on as if nothing were, or wait for ever."""
        if self.is_root and self.nurseries:
            self.exit_with(exc)
            return
        traceback.print_exception(exc)
        if not self.is_root:
            sys.stderr.flush()
            os._exit(_CRASHED)

    def exit_with(self, exc: BaseException) -> None:
        """Code of the user's wants the process to end."""
        if self.is_root:
            for nursery in list(self.nurseries.values()):
                nursery.interrupted(exc)
        else:
            code = exc.code if isinstance(exc, SystemExit) else 130
            self.stop(cancel=True, code=code)

    def stop(self, *, cancel: bool, code: Any = 0) -> None:
        """End this pool; ``cancel``: what it does now is cancelled."""
        self.cancelling = self.cancelling or cancel
        if cancel and self.stopping.filled:
            for cell in list(self._cells.values()):
                cell.abandon(cancel=True)
        self.stopping.set(code)

    def orphaned(self) -> None:
        """The pool that started this one has gone: nothing here has a reason to live."""
        os.killpg(0, 9)

    async def end_actors(self, *, cancel: bool) -> None:
        """End what lives here, newest first. What goes wrong with an actor, its nursery hears."""
        functions = self._cells[""]
        if cancel:
            # Together, so that all unwind at the same time; an actor still answers the hooks of newer ones.
            for cell in list(self._cells.values()):
                cell.abandon(cancel=True)
        else:
            await functions.wait_idle()
        cells = sorted((cell for cell in self._cells.values() if cell.uid), key=_age, reverse=True)
        for cell in cells:
            cell.end(drain=not cancel, cancel=cancel)
            await cell.gone.wait()
        for cell in list(self._leaving):  # what they ended with has still to be told
            await cell.gone.wait()
        self.heirs.clear()
        self.drops.close()


def _age(cell: Cell) -> int:
    return cell.age
