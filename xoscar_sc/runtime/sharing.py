"""One resource for many tasks of a pool: opened by the first that asks, closed after the last has left."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import anyio

from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime.current import check_library, require_runtime

if TYPE_CHECKING:
    from xoscar_sc.loop import Slot
    from xoscar_sc.runtime.runtime import Runtime

T = TypeVar("T")


def shared_context(
    factory: Callable[[], AbstractAsyncContextManager[T]], *, key: Hashable = None
) -> AbstractAsyncContextManager[T]:
    """A resource that the tasks of this pool share: ``async with shared_context(open_database) as database``.

    The first to ask opens it, the others wait until it is open, and the last to leave closes it. It lives in a task of
    its own: an asker that is cancelled takes it from nobody else.

    Args:
        factory: makes the context manager of the resource.
        key: what makes two askers share; the factory itself by default.

    Raises:
        XoscarError: there is no pool nursery, and this is no pool.
        what opening it raised: each that waits for it gets that.
        what closing it raised: the last to leave gets that; if it ended by itself, each that leaves.

    Cancellation: while the last one leaves, it is closed all the same, and waited for.

    Source: tractor.
    """
    return _Asker(factory, factory if key is None else key)


class _Asker(AbstractAsyncContextManager[T]):
    """One task's use of a resource."""

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[T]], key: Hashable) -> None:
        self._factory = factory
        self._key = key
        self._resource: _Resource[T]

    @undisturbed
    async def __aenter__(self) -> T:
        runtime = require_runtime()
        check_library(runtime.loop, "a shared context")
        while True:
            resource = cast("_Resource[T] | None", runtime.shared.get(self._key))
            if resource is None:
                resource = _Resource(runtime, self._key, self._factory)
            if not resource.closing:
                break
            await resource.wait(resource.closed)  # and look again
        self._resource = resource
        resource.users += 1
        try:
            await resource.wait(resource.opened)
        except BaseException:
            await runtime.loop.run_shielded(resource.leave)
            raise
        if not resource.is_open:
            resource.users -= 1
            raise resource.error
        return cast("T", resource.value)

    @undisturbed
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        resource = self._resource
        await resource.runtime.loop.run_shielded(resource.leave)
        if resource.failed:
            raise resource.error


class _Resource(Generic[T]):
    """What is shared, and the task that it lives in."""

    def __init__(
        self, runtime: Runtime, key: Hashable, factory: Callable[[], AbstractAsyncContextManager[T]]
    ) -> None:
        self.runtime = runtime
        self._key = key
        self._factory = factory
        self._unused = anyio.Event()
        self._scope = anyio.CancelScope()
        self.users = 0
        self.opened: list[Slot] = []
        """Of those who wait until it is open, or cannot be opened."""
        self.closed: list[Slot] = []
        """Of those who wait until it is closed."""
        self.value: T | None = None
        self.error: BaseException = RuntimeError("a shared resource was closed before it was open")
        self.failed = False
        self.is_open = False
        self.closing = False
        self._over = False
        runtime.shared[key] = self
        runtime.loop.spawn(self._live)

    async def _live(self) -> None:
        try:
            with self._scope:
                async with self._factory() as self.value:
                    self.is_open = True
                    _fill(self.opened)
                    await self._unused.wait()
        except self.runtime.loop.cancelled:
            raise
        except BaseException as exc:  # whatever it is, it is the users'
            self.error = exc
            self.failed = True
        finally:
            self.closing = self._over = True
            if self.runtime.shared.get(self._key) is self:
                del self.runtime.shared[self._key]
            _fill(self.opened)
            _fill(self.closed)

    async def wait(self, waiting: list[Slot]) -> None:
        """Wait until it is open, or closed, as ``waiting`` says."""
        if self._over or (waiting is self.opened and self.is_open):
            await anyio.lowlevel.checkpoint()
            return
        slot = self.runtime.loop.slot()
        waiting.append(slot)
        try:
            await slot.wait()
        finally:
            if not slot.filled:
                waiting.remove(slot)

    async def leave(self) -> None:
        """One user less; the last waits until it is closed."""
        self.users -= 1
        if self.users:
            return
        self.closing = True
        self._unused.set()
        if not self.is_open:
            self._scope.cancel()
        await self.wait(self.closed)


def _fill(waiting: list[Slot]) -> None:
    for slot in waiting:
        slot.set(None)
    waiting.clear()
