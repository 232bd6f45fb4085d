"""A supervisor's children as somebody sees them who looks, and decides otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xoscar_sc.loop import undisturbed
from xoscar_sc.supervise.child import ChildInfo
from xoscar_sc.supervise.nursery import PoolNursery
from xoscar_sc.supervise.siblings import Phase

if TYPE_CHECKING:
    from xoscar_sc.supervise.keeper import Keeper


class ChildCounts(NamedTuple):
    """What :meth:`Supervisor.count_children` tells."""

    specs: int
    """Children that are known."""
    active: int
    """... of which run."""
    supervisors: int
    """... of which are supervisors."""
    workers: int
    """... and which are anything else."""


class Looking(PoolNursery):
    """See the top of this file."""

    _keeper: Keeper

    def which_children(self) -> list[ChildInfo]:
        """The children, oldest first."""
        return [
            ChildInfo(
                child.name,
                child.kind,
                child.spec.restart,
                self._keeper.phase(child).value,
                child.restarts,
                child.exit,
            )
            for child in self._keeper.listed()
        ]

    def count_children(self) -> ChildCounts:
        """How many children there are, and of which kind."""
        children = self._keeper.listed()
        supervisors = sum(child.kind == "supervisor" for child in children)
        active = sum(self._keeper.phase(child) is Phase.UP for child in children)
        return ChildCounts(len(children), active, supervisors, len(children) - supervisors)

    @undisturbed
    async def terminate_child(self, name: str) -> None:
        """Stop a child, and wait for its end. Unless it is temporary it stays known, for :meth:`restart_child`.

        Raises:
            ValueError: there is no such child.

        Cancellation: it is stopped all the same.
        """
        await self._keeper.terminate(self._keeper.find(name))

    @undisturbed
    async def restart_child(self, name: str) -> None:
        """Start a child that is down, or that waits for its restart, and wait until it is ready.

        Raises:
            ValueError: there is no such child, or it runs.
            what prevented it; the child is down then.

        Cancellation: it is started all the same.
        """
        await self._keeper.restart(self._keeper.find(name))

    @undisturbed
    async def delete_child(self, name: str) -> None:
        """Forget a child that is down.

        Raises:
            ValueError: there is no such child, or it is not down.
        """
        self._keeper.delete(self._keeper.find(name))
