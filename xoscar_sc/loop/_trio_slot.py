"""What one task waits for on trio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import trio
from trio.lowlevel import Abort, reschedule, wait_task_rescheduled


class TrioSlot(msgspec.Struct, eq=False):
    """See :class:`xoscar_sc.loop.Slot`. A Struct is made in a third of the time that another object takes."""

    filled: bool = False
    value: Any = None
    _task: trio.lowlevel.Task | None = None

    def set(self, value: object) -> None:
        if self.filled:
            return
        self.filled = True
        self.value = value
        if self._task is not None:
            reschedule(self._task)
            self._task = None

    async def wait(self) -> Any:
        if self.filled:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._task = trio.lowlevel.current_task()
            await wait_task_rescheduled(self._abort)
        return self.value

    def _abort(self, _raise_cancel: Callable[[], None]) -> Abort:
        self._task = None
        return Abort.SUCCEEDED
