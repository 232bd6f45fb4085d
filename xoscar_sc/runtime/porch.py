"""What a tree does for a program from outside, when it is asked: the actor without a name, as a guest finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xoscar_sc.errors import ActorNotExist, NotExposed
from xoscar_sc.events import Exit
from xoscar_sc.protocol import Failure
from xoscar_sc.runtime.actor import StatelessActor
from xoscar_sc.runtime.methods import apart
from xoscar_sc.runtime.names import Ending, Found

if TYPE_CHECKING:
    from xoscar_sc.runtime.guest import Guest


_REMEMBERED = 256


class Porch(StatelessActor):
    """See the top of this file. Its methods are all that a guest can ask for, but for functions: see :class:`Guest`."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._gate = guest.gate
        self._runtime = guest.runtime
        self._seen: dict[str, Found] = {}
        """Where the last few actors were that the guest has been told of, by uid."""

    def beat(self) -> None:
        """Say nothing: that is a sign of life."""

    async def leave(self) -> None:
        """The client does not come again: what was made for it ends."""
        await self._gate.bid_farewell(self._guest)

    # Actors

    @apart
    async def find(self, uid: str, wait: bool) -> Found | None:
        """Where and what an actor is; None if there is none, unless it is to be waited for."""
        if not self._gate.admits(uid):
            if wait:
                await self._runtime.loop.slot().wait()  # as for one that never comes
            return None
        found: Found | None = await self._runtime.at_root("find", uid, wait)
        if found is not None:
            self._saw(uid, found)
        # Which of that uid it is does not matter to who knows it by its uid: it may be started again.
        return None if found is None else found._replace(incarnation=0)

    async def describe(self, uid: str, incarnation: int) -> Found | None:
        """As :meth:`find`, for one that is known."""
        return await self.find(uid, False)

    async def is_alive(self, uid: str, incarnation: int) -> bool:
        """Whether an actor takes messages."""
        try:
            found = await self._where(uid)
        except ActorNotExist:
            return False
        return bool(await self._runtime.ask(found.address, "is_alive", uid, incarnation))

    @apart
    async def watch(self, uid: str, incarnation: int) -> tuple[Exit, Failure | None]:
        """Wait until an actor has ended; see :meth:`Control.watch`."""
        found = await self._watched(uid)
        exit_: tuple[Exit, Failure | None] = await self._runtime.ask(found.address, "watch", uid, incarnation)
        return exit_

    @apart
    async def follow(self, uid: str, child: int, seen: int) -> tuple[Found | None, Ending | None]:
        """See :meth:`Control.follow`."""
        if (await self._watched(uid)).traits.child != child:
            raise self._missing(uid)
        known: tuple[Found | None, Ending | None] = await self._runtime.at_root("follow", uid, child, seen)
        return known

    async def _watched(self, uid: str) -> Found:
        # Where it was knows for a while how it ended, if it has ended already.
        found = await self.find(uid, False) or self._seen.get(uid)
        if found is None or not self._gate.admits(uid):
            raise self._missing(uid)
        return found

    async def end_actor(self, uid: str, incarnation: int, how: str) -> None:
        """End an actor that a guest has had made; the others are the tree's own."""
        found = await self._where(uid)
        if not self._gate.made(uid):
            raise NotExposed(f"actor {uid!r} is not for programs from outside to end")
        await self._runtime.ask(found.address, "end_actor", uid, incarnation, how)

    async def create_actor(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], uid: str | None
    ) -> tuple[str, Found]:
        """Make an actor of an exposed class, which lives as long as the guest's connection and its lease; its uid."""
        ref = await self._gate.create_actor(self._guest, name, tuple(args), kwargs, uid)
        target = ref.__target__()
        found = Found(target.address, 0, target.traits, target.life)
        self._saw(target.uid, found)
        return target.uid, found

    async def _where(self, uid: str) -> Found:
        found = await self.find(uid, False)
        if found is None:
            raise self._missing(uid)
        return found

    def _saw(self, uid: str, found: Found) -> None:
        self._seen[uid] = found
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def _missing(self, uid: str) -> ActorNotExist:
        return ActorNotExist(f"there is no actor {uid!r} in the tree at {self._gate.address}")
