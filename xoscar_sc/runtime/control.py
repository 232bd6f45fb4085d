"""What a pool does for others: the actor without a name that every pool has.

It is called as any actor is, so that what it does has errors, cancellation and deadlines like everything else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
from msgspec.structs import replace

from xoscar_sc.errors import ActorNotExist
from xoscar_sc.events import Exit
from xoscar_sc.protocol import Failure, Link
from xoscar_sc.runtime.actor import StatelessActor
from xoscar_sc.runtime.cell import Cell, Owner
from xoscar_sc.runtime.current import current_frame, waiting_chain
from xoscar_sc.runtime.deadlock import Chase, Kind, Way
from xoscar_sc.runtime.dialogue import Context
from xoscar_sc.runtime.methods import apart, context, is_awaitable, talks_of
from xoscar_sc.runtime.names import Ending, Found
from xoscar_sc.runtime.traits import Traits
from xoscar_sc.runtime.work import Work
from xoscar_sc.serialize import Types, record

if TYPE_CHECKING:
    from xoscar_sc.runtime.gate_settings import GateSettings
    from xoscar_sc.runtime.runtime import Runtime
    from xoscar_sc.state import Snapshots


class Control(StatelessActor):
    """See the top of this file."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def create_actor(
        self,
        cls: type[StatelessActor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        uid: str,
        owner: tuple[str, int, str, int],
        traits: Traits,
        snapshot: Snapshots | None = None,
    ) -> int:
        """Make an actor in this pool, whose uid has been reserved; its incarnation.

        Cancellation: no actor is left.
        """
        runtime = self._runtime
        prepare = getattr(cls, "__xsc_prepare__", None)
        if prepare is not None:
            prepare = prepare(runtime)
        cell = runtime.new_cell(
            uid, cell_maker(runtime, cls, uid, Owner(*owner), traits, snapshot), traits.child
        )
        if prepare is not None:
            prepare(cell)
        created = runtime.loop.slot()
        runtime.loop.spawn(cell.host, args, kwargs, created, waiting_chain(runtime.loop))
        try:
            error = await created.wait()
        except BaseException:
            cell.end(kill=True)
            await runtime.loop.run_shielded(cell.wait_ended)
            raise
        if error is not None:
            await cell.wait_ended()
            raise error
        return cell.incarnation

    async def unmake_actor(self, uid: str, token: str) -> None:
        """Leave nothing of a creation: neither the actor, which is killed, nor the reservation of its uid.

        An actor that does not end within ``timeouts.cancel`` seconds keeps its uid until it does.
        """
        runtime = self._runtime
        cell = runtime.made_as(uid, token)
        if cell is None:
            await runtime.at_root("release", uid, token)
            return
        cell.taken_out = not cell.adopted
        cell.end(kill=True)
        with anyio.move_on_after(runtime.timeouts.cancel):
            with contextlib.suppress(Exception):  # what its end raised: nobody has ever known the actor
                await cell.wait_ended()

    async def end_actor(self, uid: str, incarnation: int, how: str) -> None:
        """End an actor of this pool, and wait until it has ended.

        Args:
            uid: which.
            incarnation: which of that uid; 0 for whichever.
            how: ``"drain"`` runs what is queued first, ``"destroy"`` does not, ``"cancel"`` cancels the message in
                hand too, and ``"kill"`` leaves out the hooks. ``"recycle"`` is as ``"destroy"``, of a child that is to
                come back; it also does so after a ``"kill"``, as after a failure.
        """
        runtime = self._runtime
        cell = runtime.cell(uid, incarnation)
        chain = waiting_chain(runtime.loop)
        own = any(waiting == uid for waiting, _, _ in chain)
        cell.taken_out = cell.taken_out or how not in ("kill", "recycle")
        cell.end(
            drain=how == "drain",
            cancel=how == "cancel",
            kill=how == "kill",
            chain=() if own else chain,
        )
        if own:
            return
        work = current_frame.get()
        assert isinstance(work, Work)
        way = Way(runtime.address, uid, Kind.END)
        work.wait_for(way)
        if chain and how in ("drain", "destroy", "recycle"):  # the others cancel what runs
            runtime.deadlocks.ending(work, cell)
        try:
            await cell.wait_ended()
        finally:
            work.waited(way)

    @apart
    async def watch(self, uid: str, incarnation: int) -> tuple[Exit, Failure | None]:
        """Wait until an actor has ended; how, with its error apart.

        Raises:
            ActorNotExist: it had ended, and how is forgotten.
        """
        runtime = self._runtime
        exit_ = await runtime.wait_exit(uid, incarnation)
        if exit_.error is None:
            return exit_, None
        return replace(exit_, error=None), record(exit_.error, where=f"actor {uid!r} {runtime.where()}")

    async def describe(self, uid: str, incarnation: int) -> Found | None:
        """What a reference has to know of an actor of this pool; None if it takes no messages."""
        runtime = self._runtime
        try:
            cell = runtime.cell(uid, incarnation)
        except ActorNotExist:
            return None
        return None if cell.ending else Found(runtime.address, cell.incarnation, cell.traits)

    async def is_alive(self, uid: str, incarnation: int) -> bool:
        """Whether an actor of this pool takes messages."""
        try:
            return not self._runtime.cell(uid, incarnation).ending
        except ActorNotExist:
            return False

    async def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function in this pool."""
        value = function(*args, **kwargs)
        return await value if is_awaitable(value) else value

    @context
    async def converse(
        self, ctx: Context, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a function of this pool that takes part in a dialogue."""
        name = getattr(function, "__qualname__", repr(function))
        ctx.__conversation__().declare(talks_of(function) or Types(), name)
        return await function(ctx, *args, **kwargs)

    def disown(self, uid: str, child: int) -> None:
        """A child is not started again in this pool."""
        self._runtime.heirs.disown(uid, child)

    async def open_gate(self, settings: GateSettings) -> str:
        """Let other programs in, to this pool; where."""
        return (await self._runtime.open_gate(settings, None)).address

    def stop_pool(self, cancel: bool) -> None:
        """Begin to end this pool."""
        self._runtime.stop(cancel=cancel)

    # Calls that wait for each other

    def chase(self, chase: Chase, uid: str, caller: Link, kind: Kind) -> None:
        """See :meth:`Deadlocks.visit`."""
        self._runtime.deadlocks.visit(chase, uid, caller, kind)

    def deadlocked(self, uid: str, token: int, cycle: list[tuple[str, str]]) -> None:
        """See :meth:`Deadlocks.found`."""
        self._runtime.deadlocks.found(uid, token, cycle)

    # At the root of the tree

    def door_to(self, address: str) -> tuple[str, Any, bool] | None:
        """See :meth:`Links.door_to`."""
        return self._runtime.links.door_to(address)

    def reserve(self, uid: str, address: str, token: str, makers: tuple[str, ...]) -> None:
        """See :meth:`Names.reserve`."""
        self._runtime.directory.names.reserve(uid, address, token, makers)

    def bind(self, uid: str, token: str, found: Found) -> None:
        """See :meth:`Names.bind`."""
        self._runtime.directory.bind(uid, token, found)

    def release(self, uid: str, token: str) -> None:
        """See :meth:`Names.release`."""
        self._runtime.directory.names.release(uid, token)

    def release_pool(self, address: str) -> None:
        """See :meth:`Names.release_pool`."""
        for uid in self._runtime.directory.names.release_pool(address):
            self._runtime.directory.changed(uid)

    async def find(self, uid: str, wait: bool) -> Found | None:
        """Where and what an actor of the tree; None if there is none, unless it is to be waited for."""
        return await self._runtime.directory.find(uid, wait=wait)

    # At the root, of actors that are restarted

    def find_up(self, uid: str) -> Found | None:
        """Where an actor of the tree is; None if it is not ready, or is being restarted."""
        return self._runtime.directory.names.find(uid, ready=True)

    @apart
    async def locate(self, uid: str, child: int, seen: int) -> Found | None:
        """See :meth:`Directory.find_child`; where it is, or None if it does not come back."""
        found, _ = await self._runtime.directory.find_child(uid, child, seen, wait=False)
        return found

    @apart
    async def follow(self, uid: str, child: int, seen: int) -> tuple[Found | None, Ending | None]:
        """See :meth:`Directory.find_child`; for those who watch, and wait in any case."""
        return await self._runtime.directory.find_child(uid, child, seen, wait=True)

    def renew(
        self, uid: str, child: int, address: str, token: str, makers: tuple[str, ...], last: Ending
    ) -> None:
        """See :meth:`Names.renew`."""
        self._runtime.directory.names.renew(uid, child, address, token, makers, last)

    def drop(self, uid: str, child: int, last: Ending) -> None:
        """See :meth:`Names.drop`."""
        self._runtime.directory.names.drop(uid, child, last)
        self._runtime.directory.changed(uid)


def cell_maker(
    runtime: Runtime,
    cls: type[StatelessActor],
    uid: str,
    owner: Owner,
    traits: Traits,
    snapshot: Snapshots | None,
) -> Callable[[int], Cell]:
    """What makes the surroundings of an actor, as it gets its incarnation."""
    if snapshot is None:
        return lambda incarnation: Cell(runtime, cls, uid, incarnation, owner, traits)
    # Loaded where it is used.
    from xoscar_sc.runtime.kept import KeptCell

    return lambda incarnation: KeptCell(runtime, cls, uid, incarnation, owner, traits, snapshot)
