"""Functions that a nursery runs in pools, beside its block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from xoscar_sc.loop import Slot
    from xoscar_sc.supervise.nursery import PoolNursery
    from xoscar_sc.supervise.pool import Pool

T = TypeVar("T")


class Task(Generic[T]):
    """A function that runs in a pool, in a task of the nursery's.

    Its exception goes to whoever waits for the result; if nobody does when it is raised, the nursery fails with it.
    """

    def __init__(self, nursery: PoolNursery, fn: Callable[[], Awaitable[T]]) -> None:
        self._nursery = nursery
        self._fn = fn
        self._scope = anyio.CancelScope()
        self._waiting: list[Slot] = []
        self._outcome: tuple[bool, Any] | None = None
        self.ended = nursery.runtime.loop.slot()

    async def run(self) -> None:
        """The task's life."""
        cancelled = self._nursery.runtime.loop.cancelled
        outcome: tuple[bool, Any] = (False, cancelled)
        try:
            with self._scope:
                await anyio.lowlevel.checkpoint_if_cancelled()
                outcome = (True, await self._fn())
        except cancelled:  # asyncio's own: the loop is being torn down
            raise
        except BaseException as exc:  # the function's, for whoever waits for it
            outcome = (False, exc)
        finally:
            self._end(outcome)

    def _end(self, outcome: tuple[bool, Any]) -> None:
        self._outcome = outcome
        succeeded, value = outcome
        if not succeeded and not self._waiting and isinstance(value, BaseException):
            self._unclaimed(value)
        for slot in self._waiting:
            slot.set(None)
        self.ended.set(None)
        self._nursery.task_ended(self)

    def _unclaimed(self, exc: BaseException) -> None:
        self._nursery.fail(exc)

    def cancel(self) -> None:
        """Cancel it."""
        self._scope.cancel()

    async def result(self) -> T:
        """Wait for the function's value.

        Raises:
            the function's own exception.
            PoolDied: its pool ended first.

        Cancellation: the function goes on running.
        """
        if self._outcome is None:
            slot = self._nursery.runtime.loop.slot()
            self._waiting.append(slot)
            try:
                await slot.wait()
            finally:
                if not slot.filled:
                    self._waiting.remove(slot)
        assert self._outcome is not None
        succeeded, value = self._outcome
        if succeeded:
            return value  # type: ignore[no-any-return]
        if isinstance(value, BaseException):
            raise value
        raise RuntimeError("the function was cancelled with its nursery")


class PoolTask(Task[T]):
    """A function with a pool of its own, which ends when the function has returned."""

    def __init__(self, nursery: PoolNursery, pool: Pool, fn: Callable[[], Awaitable[T]]) -> None:
        super().__init__(nursery, fn)
        self.pool = pool

    def __repr__(self) -> str:
        return f"<PoolTask in {self.pool!r}>"
