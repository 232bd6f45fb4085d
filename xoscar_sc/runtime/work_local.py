"""A message from a task of this process: its arguments and its answer are handed over as they are."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from xoscar_sc.ipc import WINDOW, Flow
from xoscar_sc.loop import Slot
from xoscar_sc.runtime.generators import Feed
from xoscar_sc.runtime.work import Arguments, Chain, Work
from xoscar_sc.serialize import dumps, loads

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell


class LocalWork(Work):
    """A message from a task of this process; nothing is copied."""

    __slots__ = ("_calls", "slot")

    def __init__(
        self,
        cell: Cell,
        method: str,
        calls: Any,
        slot: Slot | None,
        chain: Chain,
        timeout: float | None,
        batch: bool,
    ) -> None:
        super().__init__(cell, method, chain, timeout, batch)
        self._calls = calls
        self.slot = slot

    def feed_into_flow(self, *, copy: bool) -> Flow:
        """Its caller reads a stream of it; ``copy``: of copies."""
        self.feed = feed = Feed(WINDOW, lambda value: flow.put(loads(dumps(value)) if copy else value))
        self.slot = flow = Flow(self.cell.runtime.loop, feed.demand)
        return flow

    @property
    def awaited(self) -> bool:
        return self.slot is not None

    def arguments(self) -> Arguments:
        return self._calls  # type: ignore[no-any-return]

    def drop_arguments(self) -> None:
        self._calls = None

    def batch_arguments(self) -> list[Arguments]:
        return self._calls  # type: ignore[no-any-return]

    def answer_value(self, value: object) -> None:
        if self.slot is not None:
            self.slot.set((True, value))

    def answer_error(self, exc: BaseException) -> None:
        if self.slot is None:
            self.cell.tell_failed(self.method, exc)
        else:
            self.slot.set((False, exc))

    def answer_cancelled(self) -> None:
        if self.slot is not None:
            self.slot.set((None, None))

    def _raised(self, exc: BaseException) -> None:
        super()._raised(exc)
        if self.slot is not None and isinstance(exc, (SystemExit, KeyboardInterrupt)):
            self.slot.set((False, exc))


class LocalRest(LocalWork):
    """What is left to do of a message whose method has been called already, and gave an awaitable."""

    __slots__ = ()

    def _begin(self, cell: Cell) -> Coroutine[Any, Any, None]:
        return self._finish(self._calls)
