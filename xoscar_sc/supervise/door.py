"""The door of a nursery: where programs from outside come in, and what is made for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xoscar_sc.runtime import ActorRef, GateSettings, OpenGate

if TYPE_CHECKING:
    from xoscar_sc.supervise.nursery import PoolNursery


class Door:
    """See the top of this file. It is the :class:`Host` of the runtime's gate."""

    def __init__(self, nursery: PoolNursery) -> None:
        self._nursery = nursery
        self._gate: OpenGate | None = None

    @property
    def address(self) -> str | None:
        """Where others come in; None if they do not."""
        return None if self._gate is None else self._gate.address

    async def open(self, settings: GateSettings) -> None:
        """Let programs in from now on; see :meth:`Gate.open`."""
        self._gate = await self._nursery.runtime.open_gate(settings, self)

    async def create_actor(
        self, cls: type[Any], /, *args: Any, uid: str | None, **kwargs: Any
    ) -> ActorRef[Any]:
        """See :class:`Host`."""
        return await self._nursery.create_actor(cls, *args, uid=uid, **kwargs)

    async def place(self) -> tuple[str, Callable[[], None]]:
        """See :class:`Host`."""
        seat = await self._nursery.sit()
        return seat.address, seat.leave

    def shut(self) -> None:
        """Let nobody in any more; those who are in stay."""
        if self._gate is not None:
            self._gate.shut()

    def close(self) -> None:
        """Show everybody out."""
        if self._gate is not None:
            self._gate.close()
