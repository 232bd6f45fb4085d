"""Children that are code of the user's: functions with a pool of their own, and supervisors with children of theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from xoscar_sc.errors import PoolDied, XoscarError
from xoscar_sc.events import Exit, ExitKind
from xoscar_sc.loop import Slot, disturbed
from xoscar_sc.supervise.actors import Again
from xoscar_sc.supervise.child import Child, How
from xoscar_sc.supervise.children import ChildSpec
from xoscar_sc.supervise.pool import Pool
from xoscar_sc.supervise.spec import PoolSpec
from xoscar_sc.supervise.tasks import PoolTask

if TYPE_CHECKING:
    from xoscar_sc.supervise.supervisor import Supervisor


Memory: TypeAlias = dict[tuple[str, ...], Again]
"""The actors that supervisors go on with in their next incarnation, by the supervisors' names and the uid."""


class ChildTask(PoolTask[Any]):
    """A function that its supervisor runs again. Its result is that of the last run."""

    def __init__(self, child: FunctionChild) -> None:
        super().__init__(child.sup, child.pool, child.outcome)
        self._child = child

    def _unclaimed(self, exc: BaseException) -> None:
        if self._child.spec.restart != "temporary":
            super()._unclaimed(exc)


class FunctionChild(Child):
    """A function, with a pool for each run."""

    kind = "function"

    def __init__(
        self, sup: Supervisor, name: str, spec: ChildSpec, fn: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        super().__init__(sup, name, name, spec)
        self._fn = fn
        self._args = args
        self.pool: Pool
        self.task: ChildTask
        self._over: Slot
        self._outcome = sup.runtime.loop.slot()
        """Filled when it does not run any more: whether it has succeeded, and its value or its exception."""
        self._last: tuple[bool, Any] = (True, None)

    def record(self) -> dict[str, str]:
        return {"pool": self.pool.name, "actor": ""}

    async def start(self) -> None:
        self.sup.functions.add(self.name)
        try:
            self.pool = await self.sup.__pools__.start(PoolSpec(self.name))
        except BaseException:
            self.sup.functions.discard(self.name)
            raise
        if self.restarts or self.exit is not None:
            self.task.pool = self.pool
        self._over = self.sup.runtime.loop.slot()
        self.sup.runtime.loop.spawn(self._run, self.pool, self._over)

    async def _run(self, pool: Pool, over: Slot) -> None:
        """One run."""
        loop = self.sup.runtime.loop
        exit_ = Exit("normal")
        try:
            self._last = (True, await pool.run(self._fn, *self._args))
        except PoolDied as exc:
            kind: ExitKind = "killed" if exc.signal is not None else "failed" if exc.exit_code else "normal"
            exit_ = Exit(kind, exc.exit_code, exc.signal, None if kind == "normal" else exc)
            self._last = (kind == "normal", None if kind == "normal" else exc)
        except loop.cancelled:
            raise
        except BaseException as exc:  # the function's, for whoever waits for it
            exit_ = Exit("failed", error=exc)
            self._last = (False, exc)
        finally:
            await loop.run_shielded(partial(pool.end, cancel=True, grace=self.grace))
            over.set(None)
        self.sup.__keeper__.ended([self], exit_)

    async def stop(self, how: How) -> None:
        await self.pool.end(cancel=True, grace=self.grace)

    async def drop(self) -> None:
        self._outcome.set(self._last)
        self.sup.functions.discard(self.name)

    async def outcome(self) -> Any:
        """What it has returned, or raised, when it does not run any more.

        Cancellation: it is stopped.
        """
        try:
            succeeded, value = await self._outcome.wait()
        finally:
            if not self._outcome.filled and self.key in self.sup.__keeper__.children:
                self.sup.runtime.loop.spawn(self.sup.__keeper__.terminate, self)
        if not succeeded:
            raise value
        return value


class SupervisorChild(Child):
    """A supervisor, in this process, whose children a function of the user's creates."""

    kind = "supervisor"

    def __init__(
        self,
        sup: Supervisor,
        name: str,
        spec: ChildSpec,
        fill: Callable[[Supervisor], Awaitable[Any]],
        open_block: Callable[[], AbstractAsyncContextManager[Supervisor]],
    ) -> None:
        super().__init__(sup, name, name, spec)
        self._fill = fill
        self._open = open_block
        self.inner: Supervisor
        self.path = (*sup.path, name)
        self.memory: Memory = {} if sup.memory is None else sup.memory
        self._scope = anyio.CancelScope()
        self._over: Slot

    async def start(self) -> None:
        loop = self.sup.runtime.loop
        ready, self._over = loop.slot(), loop.slot()
        self._scope = anyio.CancelScope()
        loop.spawn(self._live, self._scope, ready, self._over)
        try:
            error = await ready.wait()
        except BaseException:
            self._scope.cancel()
            await loop.run_shielded(self._over.wait)
            raise
        if error is not None:
            raise error

    async def _live(self, scope: anyio.CancelScope, ready: Slot, over: Slot) -> None:
        exit_ = Exit("normal")
        try:
            with scope:
                async with self._open() as self.inner:
                    self.inner.memory, self.inner.above = self.memory, self.sup
                    self.inner.path = self.path
                    await _fill(self._fill, self.inner)
                    ready.set(None)
                    await anyio.sleep_forever()
        except self.sup.runtime.loop.cancelled:
            raise
        except BaseException as exc:  # whatever it is, it is its supervisor's
            exit_ = Exit("failed", error=exc)
        finally:
            over.set(None)
        if ready.filled:
            self.sup.__keeper__.ended([self], exit_)
        else:
            ready.set(exit_.error or XoscarError(f"supervisor {self.name!r} ended before it was ready"))

    def cancel(self) -> None:
        """End it, as everything around it ends."""
        self._scope.cancel()

    async def stop(self, how: How) -> None:
        self.inner.__keeper__.orderly = True
        self._scope.cancel()
        with anyio.move_on_after(self.grace):
            await self._over.wait()
            return
        self.inner.kill()
        await self._over.wait()

    async def wait_over(self) -> None:
        """Wait until nothing of it is left."""
        while not self._over.filled:
            await self.sup.__keeper__.wait_changed()

    async def drop(self) -> None:
        for key in [key for key in self.memory if key[: len(self.path)] == self.path]:
            again = self.memory.pop(key)
            child = again.ref.__target__().traits.child
            with contextlib.suppress(XoscarError):  # the root has gone, and its table with it
                await self.sup.runtime.at_root("drop", key[-1], child, again.last)


@disturbed
async def _fill(fill: Callable[[Supervisor], Awaitable[Any]], inner: Supervisor) -> None:
    await fill(inner)
