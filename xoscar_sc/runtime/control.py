"""What a pool does for others: the actor without a name that every pool has.

It is called as any actor is, so that what it does has errors, cancellation and deadlines like everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xoscar_sc.errors import ActorNotExist
from xoscar_sc.runtime.actor import StatelessActor
from xoscar_sc.runtime.cell import Owner
from xoscar_sc.runtime.current import waiting_chain
from xoscar_sc.runtime.mailbox import Capacity
from xoscar_sc.runtime.names import Found
from xoscar_sc.runtime.work import is_awaitable

if TYPE_CHECKING:
    from xoscar_sc.runtime.runtime import Runtime


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
        owner: tuple[str, int] | None,
        capacity: Capacity,
    ) -> int:
        """Make an actor in this pool, whose uid has been reserved; its incarnation.

        Cancellation: no actor is left.
        """
        runtime = self._runtime
        cell = runtime.new_cell(cls, uid, None if owner is None else Owner(*owner), capacity)
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

    async def end_actor(self, uid: str, incarnation: int, how: str) -> None:
        """End an actor of this pool, and wait until it has ended.

        Args:
            uid: which.
            incarnation: which of that uid; 0 for whichever.
            how: ``"drain"`` runs what is queued first, ``"destroy"`` does not, ``"cancel"`` cancels the message in
                hand too, and ``"kill"`` leaves out the hooks.
        """
        cell = self._runtime.cell(uid, incarnation)
        cell.end(drain=how == "drain", cancel=how == "cancel", kill=how == "kill")
        if all(waiting != uid for waiting, _, _ in waiting_chain(self._runtime.loop)):
            await cell.wait_ended()

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

    def stop_pool(self, cancel: bool) -> None:
        """Begin to end this pool."""
        self._runtime.stop(cancel=cancel)

    # At the root of the tree

    def reserve(self, uid: str, address: str) -> None:
        """See :meth:`Names.reserve`."""
        self._runtime.names.reserve(uid, address)

    def bind(self, uid: str, address: str, incarnation: int, capacity: Capacity) -> None:
        """See :meth:`Names.bind`."""
        self._runtime.bind_name(uid, Found(address, incarnation, capacity))

    def release(self, uid: str, address: str) -> None:
        """See :meth:`Names.release`."""
        self._runtime.names.release(uid, address)

    def release_pool(self, address: str) -> None:
        """See :meth:`Names.release_pool`."""
        self._runtime.names.release_pool(address)

    async def find(self, uid: str, wait: bool) -> Found | None:
        """Where and what an actor of the tree; None if there is none, unless it is to be waited for."""
        return await self._runtime.find_name(uid, wait=wait)
