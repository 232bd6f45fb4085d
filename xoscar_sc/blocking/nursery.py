"""The nursery itself: its thread, and what is called there."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio

from xoscar_sc.blocking.refs import BlockingPool, BlockingRef, BlockingStream, in_async, options_in_async
from xoscar_sc.errors import XoscarError
from xoscar_sc.runtime import ActorRef, ResultStream
from xoscar_sc.supervise import PoolNursery

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

T = TypeVar("T")
_ENDED = "the nursery has ended"


class BlockingNursery:
    """A block that owns processes, for sync code; see :func:`open_pool_nursery`.

    Its methods may be called from any thread.
    """

    def __init__(self, open_nursery: Callable[[], Any], backend: str) -> None:
        self._open = open_nursery
        self._backend = backend
        self._thread: threading.Thread | None = None
        self._opened = threading.Event()
        self._at_exit: Callable[[], None]
        self._portal: BlockingPortal | None = None
        self._nursery: PoolNursery | None = None
        self._leaving: anyio.Event
        self._scope: anyio.CancelScope
        self._failure: BaseException | None = None
        """What the nursery has ended with, until somebody has got it."""

    # The block

    def start(self) -> Self:
        """Open it; see :func:`open_pool_nursery`."""
        if self._thread is not None:
            raise RuntimeError("this nursery has been opened already; call open_pool_nursery() again")
        self._thread = threading.Thread(target=self._run, name="xoscar_sc", daemon=True)
        self._thread.start()
        self._at_exit = partial(_close, weakref.ref(self))
        atexit.register(self._at_exit)
        try:
            self._opened.wait()
        except BaseException:  # Ctrl-C
            self._opened.wait()
            self.close(cancel=True)
            raise
        if self._nursery is None:
            self.close()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            self.close(cancel=exc is not None)
        except BaseException as failure:
            if exc is None or failure is exc:
                raise
            raise BaseExceptionGroup("the block and its nursery failed", [exc, failure]) from None

    def close(self, *, cancel: bool = False) -> None:
        """End it, as leaving the block does.

        Args:
            cancel: as for leaving by an error: what it runs is cancelled.

        Raises:
            what its pools and actors failed with.
        """
        thread = self._thread
        if thread is None:
            return
        interrupted: BaseException | None = None
        while thread.is_alive():
            self._ask_to_end(cancel=cancel)
            try:
                thread.join()
            except BaseException as exc:  # Ctrl-C: less patience
                interrupted, cancel = exc, True
        atexit.unregister(self._at_exit)
        failure, self._failure = self._failure, None
        if interrupted is not None:
            raise interrupted
        if failure is not None:
            raise failure

    def _ask_to_end(self, *, cancel: bool) -> None:
        portal = self._portal
        if portal is not None:
            try:
                portal.start_task_soon(self._scope.cancel if cancel else self._leaving.set)
            except RuntimeError:  # it has ended this moment
                pass

    # In the thread

    def _run(self) -> None:
        try:
            anyio.run(self._serve, backend=self._backend)
        except BaseException as exc:  # it is raised where the block is left
            self._failure = exc
        finally:
            self._portal = None
            self._opened.set()

    async def _serve(self) -> None:
        from anyio.from_thread import BlockingPortal

        self._leaving = anyio.Event()
        async with BlockingPortal() as portal:
            try:
                with anyio.CancelScope() as self._scope:
                    async with self._open() as self._nursery:
                        self._portal = portal
                        self._opened.set()
                        await self._leaving.wait()
            except (
                BaseException
            ) as exc:  # it is raised where the block is left, and not in a group of the portal's
                self._failure = exc
            finally:
                self._portal = None

    # What others wait for

    def call(self, async_fn: Callable[..., Any], /, *args: Any) -> Any:
        """Run an async function in the thread of the event loop, where :attr:`nursery` is at home; what it returns.

        Ctrl-C cancels it, and waits until it has ended.

        Raises:
            what the function raises.
            XoscarError: the nursery has ended.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("this is the thread of the event loop, which must not block: await it instead")
        portal = self._portal
        if portal is None:
            raise XoscarError(_ENDED) from self._failure
        call = _Call(async_fn, args)
        try:
            portal.start_task_soon(call.run)
        except RuntimeError:
            raise XoscarError(_ENDED) from self._failure
        try:
            call.done.wait()
        except BaseException:  # Ctrl-C
            try:
                portal.start_task_soon(call.cancel)
            except RuntimeError:
                pass
            call.done.wait()
            raise
        return call.result()

    @property
    def nursery(self) -> PoolNursery:
        """The nursery itself, for async functions that :meth:`call` runs."""
        if self._nursery is None:
            raise XoscarError("the nursery has not been opened")
        return self._nursery

    # What a nursery does

    def create_actor(self, cls: type[T], /, *args: Any, **options: Any) -> BlockingRef[T]:
        """See :meth:`PoolNursery.create_actor`."""
        return self._make(partial(self.nursery.create_actor, cls), args, options)  # type: ignore[no-any-return]

    def create_group(self, cls: type[T], /, *args: Any, size: int, **options: Any) -> list[BlockingRef[T]]:
        """Create many actors of one class, side by side; their references. See :meth:`PoolNursery.create_group`."""
        make = partial(self.nursery.create_group, cls, size=size)
        group = self.call(partial(make, *map(in_async, args), **options_in_async(options)))
        return [BlockingRef(self, ref) for ref in group]

    def run(self, fn: Callable[..., T], /, *args: Any, pool: BlockingPool | str | None = None) -> T:
        """See :meth:`PoolNursery.run`."""
        return self._make(partial(self.nursery.run, fn), args, {"pool": pool})  # type: ignore[no-any-return]

    def start_pool(self, name: str | None = None, **options: Any) -> BlockingPool:
        """See :meth:`PoolNursery.start_pool`."""
        return BlockingPool(self, self.call(partial(self.nursery.start_pool, name, **options)))

    @property
    def pools(self) -> dict[str, BlockingPool]:
        """The pools that run, by name, oldest first."""
        return {name: BlockingPool(self, pool) for name, pool in self.nursery.pools.items()}

    def ref(self, ref: ActorRef[T]) -> BlockingRef[T]:
        """A reference whose methods wait."""
        return BlockingRef(self, ref)

    def _make(self, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return self.wrap(self.call(partial(function, *map(in_async, args), **options_in_async(options))))

    def wrap(self, value: Any) -> Any:
        """A value as sync code has it."""
        if isinstance(value, ActorRef):
            return BlockingRef(self, value)
        return BlockingStream(self, value) if isinstance(value, ResultStream) else value


class _Call:
    """An async function on its way to another thread, and its answer."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._scope: anyio.CancelScope | None = None
        self._unwanted = False
        self.done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def cancel(self) -> None:
        """Cancel it, in the thread where it runs."""
        self._unwanted = True
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        """Run it, in the thread of the event loop."""
        ended = False
        try:
            with anyio.CancelScope() as self._scope:
                if self._unwanted:
                    self._scope.cancel()
                self._value = await self._function(*self._args)
                ended = True
        except Exception as exc:  # it is the caller's
            self._error = exc
        except BaseException as exc:
            self._error = XoscarError(_ENDED)
            self._error.__cause__ = exc
            raise
        else:
            if not ended:
                self._error = XoscarError("the call was cancelled")
        finally:
            self.done.set()

    def result(self) -> Any:
        """What it returned; raises what it raised."""
        if self._error is None:
            return self._value
        try:
            raise self._error
        finally:
            self._error = None


def _close(nursery: weakref.ref[BlockingNursery]) -> None:
    """The program ends, and nobody has closed it."""
    found = nursery()
    if found is not None:
        found.close(cancel=True)
