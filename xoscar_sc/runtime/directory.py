"""Looking for actors by name, at the root of the tree: the table of names, and those who wait for one to change."""

from __future__ import annotations

from xoscar_sc.errors import ActorUnavailable
from xoscar_sc.loop import Loop, Slot
from xoscar_sc.runtime.names import Ending, Found, Names


class Directory:
    """See the top of this file.

    Attributes:
        names: the table.
    """

    def __init__(self, loop: Loop) -> None:
        self.names = Names()
        self._loop = loop
        self._waiters: dict[str, list[Slot]] = {}

    def bind(self, uid: str, token: str, found: Found) -> None:
        """An actor is ready: those who wait for it hear of it."""
        self.names.bind(uid, token, found)
        self.changed(uid)

    def changed(self, uid: str) -> None:
        """Those who wait for an actor of this uid look again."""
        for slot in self._waiters.pop(uid, ()):
            slot.set(None)

    async def find(self, uid: str, *, wait: bool) -> Found | None:
        """Where an actor of the tree is; None if there is none, unless it is to be waited for."""
        while (found := self.names.find(uid, ready=wait)) is None and wait:
            await self._wait(uid)
        return found

    async def find_child(
        self, uid: str, child: int, seen: int, *, wait: bool
    ) -> tuple[Found | None, Ending | None]:
        """A child in a later life than ``seen``, and how the one before has ended; without a place, if it never comes.

        Raises:
            ActorUnavailable: it is to be waited for, and its calls are not to wait, and ``wait`` does not say so.
        """
        while (known := self.names.look(uid, child, seen)) is None:
            if not (wait or self.names.waits(uid)):
                raise ActorUnavailable(f"actor {uid!r} is being restarted")
            await self._wait(uid)
        return known

    async def _wait(self, uid: str) -> None:
        slot = self._loop.slot()
        waiters = self._waiters.setdefault(uid, [])
        waiters.append(slot)
        try:
            await slot.wait()
        finally:
            if not slot.filled:
                waiters.remove(slot)
                if not waiters:
                    del self._waiters[uid]
