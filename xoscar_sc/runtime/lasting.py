"""The way to actors that are restarted: a reference to one reaches whichever incarnation there is.

The same verbs as those of :class:`~xoscar_sc.runtime.outgoing.Outgoing`. Before a message is sent its pool is reached;
if that has died, or the actor is no longer in it, the root of the tree is asked where the child is now, which answers
when it has been started again. What was certainly not executed is sent there; what may have been ends with
:exc:`ActorDied`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from xoscar_sc.errors import ActorDied, ActorNotExist, ConnectionLost, PoolDied
from xoscar_sc.loop import undisturbed

if TYPE_CHECKING:
    from xoscar_sc.ipc import Channel
    from xoscar_sc.runtime.conversations import Opening
    from xoscar_sc.runtime.names import Found
    from xoscar_sc.runtime.ref import Target
    from xoscar_sc.runtime.runtime import Runtime
    from xoscar_sc.runtime.streams import Source
    from xoscar_sc.runtime.work import Arguments

T = TypeVar("T")


class Gone(ActorNotExist):
    """A pool has no such child any more, and has not executed the message. It never reaches a user's code."""

    def __init__(self, uid: str, child: int) -> None:
        super().__init__(f"actor {uid!r} is not in this pool any more; its supervisor knows where it is")
        self.uid = uid
        self.child = child

    def __reduce__(self) -> tuple[type[Gone], tuple[str, int]]:
        return Gone, (self.uid, self.child)


class Lasting:
    """See the top of this file."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @undisturbed
    async def send(self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method, and wait for its value."""
        outgoing = self._runtime.outgoing
        return await self._persist(target, lambda: outgoing.send(target, method, args, kwargs))

    @undisturbed
    async def batch(self, target: Target, method: str, calls: list[Arguments]) -> Any:
        """Call a method many times by one message, and wait for the values."""
        outgoing = self._runtime.outgoing
        return await self._persist(target, lambda: outgoing.batch(target, method, calls))

    @undisturbed
    async def tell(self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Send a message that has no answer."""
        outgoing = self._runtime.outgoing
        await self._persist(target, lambda: outgoing.tell(target, method, args, kwargs))

    async def open_stream(
        self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Source:
        """Call a generator method; its values come as its caller reads them."""
        outgoing = self._runtime.outgoing
        return await self._persist(target, lambda: outgoing.open_stream(target, method, args, kwargs))

    async def open_dialogue(
        self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], peer: str
    ) -> Opening:
        """Call a method that takes part in a dialogue."""
        outgoing = self._runtime.outgoing
        return await self._persist(target, lambda: outgoing.open_dialogue(target, method, args, kwargs, peer))

    @undisturbed
    async def end_actor(self, target: Target, how: str) -> None:
        """End the actor; see :meth:`Control.end_actor`. While it is being restarted, it is waited for first."""
        await self._persist(target, lambda: self._runtime.end_actor(target, how))

    async def is_alive(self, target: Target) -> bool:
        """Whether the actor takes messages; not while it is being restarted."""
        found: Found | None = await self._runtime.at_root("find_up", target.uid)
        if found is None or found.traits.child != target.traits.child:
            return False
        target.rebind(found)
        try:
            asked = self._runtime.ask(target.address, "is_alive", target.uid, target.incarnation)
            return bool(await asked)
        except (PoolDied, ConnectionLost):
            return False

    async def _persist(self, target: Target, attempt: Callable[[], Awaitable[T]]) -> T:
        peers = self._runtime.peers
        if not peers.is_near(target.address):  # another program's: its names are not kept here
            return await attempt()
        if not target.incarnation:  # it was found by another program, which goes by the uid
            target.incarnation = target.traits.child
        while True:
            address, life = target.address, target.life
            channel: Channel | None = None
            try:
                if address != self._runtime.address:
                    channel = peers.get(address) or await peers.connect(address)
            except PoolDied:
                await self._find(target, life)
                continue
            try:
                return await attempt()
            except Gone as exc:
                if exc.child != target.traits.child or exc.uid != target.uid:
                    raise
            except PoolDied as exc:
                # Else it is the method's own, and tells of some other pool.
                if channel is None or not channel.closed or not _tells_of(exc, channel):
                    raise
                raise ActorDied(
                    f"actor {target.uid!r} died with its pool: {exc}",
                    uid=target.uid,
                    cause=str(exc),
                    maybe_executed=True,
                ) from exc
            await self._find(target, life)

    async def _find(self, target: Target, seen: int) -> None:
        """Wait until the child is somewhere in a later life than ``seen``, and turn to that."""
        if target.life > seen:  # another task has found it meanwhile
            return
        found: Found | None = await self._runtime.at_root("locate", target.uid, target.traits.child, seen)
        if found is None:
            raise ActorNotExist(f"there is no actor {target.uid!r}, any more: it is not started again")
        target.rebind(found)


def _tells_of(exc: PoolDied, channel: Channel) -> bool:
    return channel.peer is not None and exc.pid == channel.peer.pid
