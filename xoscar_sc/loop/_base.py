"""The seam itself: what both loops provide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Slot(Protocol):
    """A value that one task waits for, once."""

    filled: bool
    value: Any

    def set(self, value: object) -> None:
        """Give the value, and wake the task. The first value counts; later ones are ignored."""

    async def wait(self) -> Any:
        """Wait for the value.

        Cancellation: the slot stays as it is, and can be waited for again.
        """


class Scope(Protocol):
    """What a cancel scope of trio's and one of anyio's have in common."""

    deadline: float

    @property
    def cancel_called(self) -> bool: ...
    def cancel(self) -> None: ...


class Turn(Protocol):
    """A piece of work that :meth:`Loop.submit` runs: one message's method, say."""

    def start(self, scope: Scope) -> Coroutine[Any, Any, None] | None:
        """Do the work, if it is sync; else begin it, and give the rest as a coroutine.

        It runs in a copy of the loop's context, so that what one turn sets the next does not see. ``scope`` is around
        the whole turn, and may be cancelled until the turn has ended. Neither ``start`` nor the coroutine may raise
        anything but the loop's own cancellation.
        """


class Loop(Protocol):
    """One event loop, as the package sees it."""

    library: str
    """``"trio"`` or ``"asyncio"``: what its tasks are."""
    cancelled: type[BaseException]
    """What a cancelled task gets."""
    crashed: Callable[[BaseException], None]
    """Called with what a turn or a task of :meth:`spawn` has raised, which it must not. The loop goes on."""
    filters_groups: bool
    """The loop's cancel scopes find a cancellation in a group of exceptions too."""

    def now(self) -> float:
        """Seconds on the loop's own clock."""

    def seconds_left(self) -> float | None:
        """Seconds until the running task's deadline; None if it has none."""

    def watch(self, fd: int, readable: Callable[[], None]) -> None:
        """Call ``readable`` whenever ``fd`` has something to read, until :meth:`unwatch`."""

    def unwatch(self, fd: int) -> None:
        """Stop calling for ``fd``, for reading and for writing. Call it before ``fd`` is closed."""

    def watch_writable(self, fd: int, writable: Callable[[], None]) -> None:
        """Call ``writable`` once, when ``fd``, which is being watched, takes bytes again."""

    def at_end_of_pass(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, after the tasks that are ready now and before the loop waits.

        The callback must not wake a task; :meth:`soon` may be called for that.
        """

    def soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, in the loop's thread, soon. May be called from any thread and any place."""

    def task(self) -> object:
        """The running task."""

    def within(self, task: object) -> bool:
        """Whether the running task is ``task``, or one that ``task`` waits for: in a nursery that it has opened.

        On asyncio, where a task does not know who waits for it, only the first can be told.
        """

    def slot(self) -> Slot:
        """A new empty slot."""

    def wait_reading(self, slot: Slot, fd: int) -> Awaitable[Any]:
        """As ``slot.wait()``, where the value will come through the watched ``fd``.

        On trio the waiting task itself reads ``fd`` for everybody meanwhile, if no other does so already:
        one scheduler pass less for each answer.
        """

    def fresh_context(self) -> Context:
        """A copy of the context that the loop was opened in: what turns run in."""

    def breathe(self) -> Awaitable[None]:
        """Notice a cancellation, and every so often let others have the loop."""

    def open_nursery(self) -> AbstractAsyncContextManager[Any]:
        """The loop's own nursery: trio's, or a task group of anyio's."""

    def submit(self, turn: Turn) -> None:
        """Run a turn soon, in the order submitted; it may share a task with others until it waits."""

    def spawn(self, fn: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Run a coroutine function in a task of its own, out of reach of every user's cancel scope."""

    async def run_shielded(self, fn: Callable[[], Awaitable[T]]) -> T:
        """``await fn()``, which runs to its end whatever cancellations arrive meanwhile."""


class Host(Protocol):
    """The asyncio loop that trio runs on as a guest, in a pool where both kinds of code run."""

    exited: Callable[[BaseException], None] | None
    """Called, by trio, with what makes an asyncio task that nobody awaits end the process."""

    def serving(self) -> AbstractAsyncContextManager[None]:
        """Let asyncio code run trio code, as long as the block lasts; at its end all asyncio tasks are cancelled."""

    async def run_task(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await an asyncio coroutine from trio, in a task of its own.

        Raises:
            what the coroutine raises.
            AsyncioCancelled: its task was cancelled, and not from here.

        Cancellation: the task is cancelled, and waited for.
        """

    async def run_trio(self, fn: Callable[..., Awaitable[T]], *args: Any, deadline: float = ...) -> T:
        """Await a trio function from asyncio, in a task of its own.

        Raises:
            what the function raises.
            TimeoutError: ``deadline``, on trio's clock, has passed.
            XoscarError: trio is ending.

        Cancellation: the trio task is cancelled, and waited for.
        """
