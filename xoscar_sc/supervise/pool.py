"""One pool from the outside: a process that a nursery has started."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from xoscar_sc.errors import ConnectionLost, PoolDied
from xoscar_sc.events import Exit, ExitKind
from xoscar_sc.launch import ProcessExit
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime import ActorRef, OpenContext, Target, died, talks_of
from xoscar_sc.supervise.seats import Seats
from xoscar_sc.supervise.spec import check_callable, check_seconds

if TYPE_CHECKING:
    from xoscar_sc.supervise.nursery import PoolNursery
    from xoscar_sc.supervise.spec import PoolSpec
    from xoscar_sc.supervise.start import Started

T = TypeVar("T")


class Pool:
    """A process of a nursery's, which runs trio and has actors in it.

    Attributes:
        name: unique in its nursery.
        address: where it is reached.
        pid: its process id.
        labels: what strategies look for.
        cpus: the CPUs it may run on; None for all that its parent may.
        gpus: the cards it is bound to.
        door: where other programs connect to it; None if they cannot.
        load: actors, those that are being made included, and functions that are running.
    """

    def __init__(self, nursery: PoolNursery, started: Started, spec: PoolSpec) -> None:
        place = started.place
        self._nursery = self.nursery = nursery
        self._process = started.process
        self._channel = started.channel
        self.name = place.name
        self.address = place.address
        self.pid = started.process.pid
        self.labels = place.labels
        self.cpus = None if spec.cpus is None else tuple(spec.cpus)
        self.gpus: tuple[str, ...] = ()
        self.door: str | None = None
        self.seats = Seats(place.name, place.address)
        """Who is in it, or is about to be."""
        self.asked = False
        """Somebody wants it to end: its end is no error."""
        self.stopping = False
        """... in good order: a supervisor does not start it again."""
        self.spec = spec
        self._killed = False
        self.exit: Exit | None = None
        """How it ended; None while it runs."""
        self.death: Callable[[], PoolDied] | None = None
        """What tells of its end, once it has ended."""
        self._names_released = anyio.Event()

    @property
    def load(self) -> int:
        """Actors, those that are being made included, and functions that are running."""
        return len(self.seats)

    @property
    def usable(self) -> bool:
        """Whether an actor may be placed here: it runs, and nobody wants it to end."""
        return not (self.asked or self._killed or self._channel.closed or self.exit is not None)

    @undisturbed
    async def run(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Run a sync or async function in this pool, and wait for what it returns. A sync one blocks the pool.

        Raises:
            the function's own exception.
            PoolDied: the pool ended first.
            SerializationError: the function, an argument or the value cannot be sent.

        Cancellation: the function is cancelled at its next checkpoint, and waited for, as a method is.
        """
        check_callable(fn)
        runtime = self._nursery.runtime
        seat = self.seats.take()
        try:
            return await runtime.ask(self.address, "run", fn, args, {})
        finally:
            seat.leave()

    async def create_actor(
        self, cls: type[T], /, *args: Any, uid: str | None = None, **kwargs: Any
    ) -> ActorRef[T]:
        """Create an actor in this pool; see :meth:`PoolNursery.create_actor`."""
        return await self._nursery.create_actor(cls, *args, uid=uid, pool=self, **kwargs)

    def open_context(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> OpenContext:
        """Open a dialogue with a function that runs in this pool, and is marked with :func:`context`.

        ``async with pool.open_context(fn, ...) as (ctx, first)``; see :class:`OpenContext`.

        Raises:
            TypeError: the function is not marked.
        """
        check_callable(fn)
        if talks_of(fn) is None:
            raise TypeError(f"{fn!r} is no context: mark it with context")
        target = Target(self.address, "", 0)
        name = getattr(fn, "__qualname__", repr(fn))
        return OpenContext(target, "converse", (fn, args, kwargs), {}, f"{self.address} {name}")

    async def stop(self, grace: float | None = None) -> Exit:
        """Ask this pool to end, and kill it if it does not.

        Messages in hand are completed, and those in mailboxes; then its actors end, newest first.

        Args:
            grace: seconds between asking and killing; the nursery's ``shutdown`` by default.

        Cancellation: the pool goes on stopping; the nursery that owns it still waits for it.
        """
        if grace is not None:
            check_seconds(grace, "grace")
        return await self.end(cancel=False, grace=self._nursery.shutdown if grace is None else grace)

    @undisturbed
    async def end(self, *, cancel: bool, grace: float) -> Exit:
        """As :meth:`stop`; ``cancel``: what the pool does now is cancelled, and its mailboxes are not emptied."""
        self.asked = self.stopping = True
        with anyio.move_on_after(grace):
            try:
                await self._nursery.runtime.order(self.address, "stop_pool", cancel)
            except (PoolDied, ConnectionLost):  # it is ending already
                pass
            return await self.wait()
        self.kill()
        return await self.wait()

    def kill(self) -> None:
        """Kill this pool's process, and the processes that it has started, at once."""
        self.asked = True
        self.give_up()

    def give_up(self) -> None:
        """Kill it because it is of no use any more; unless somebody has asked for its end, that is an error."""
        self._killed = True
        self._process.kill()

    async def wait(self) -> Exit:
        """Wait until the process has ended, and say how. The uids of its actors are free then.

        Cancellation: leaves everything as it is.
        """
        self._ended(await self._process.wait())
        assert self.exit is not None
        await self._names_released.wait()
        return self.exit

    def names_released(self) -> None:
        """The uids of its actors are free."""
        self._names_released.set()

    async def watch(self) -> None:
        """Wait for the end, so that somebody does."""
        await self.wait()

    def _ended(self, found: ProcessExit) -> None:
        """Tell of the end, whoever hears of it first: what the pool said last still counts, then its calls fail."""
        if self.exit is not None:
            return
        self.exit = exit_of(found)
        self.seats.close()
        self._channel.drain()
        reason = died(found, self.name, self.pid)
        self._channel.fail(reason)
        self.death = reason
        self._nursery.pool_ended(self, None if self.asked else reason())

    def __repr__(self) -> str:
        state = "" if self.exit is None else f", {self.exit.kind}"
        return f"<Pool {self.name!r} (pid {self.pid}{state})>"


def exit_of(found: ProcessExit) -> Exit:
    """How a pool ended, as an event says it."""
    kind: ExitKind = "killed" if found.signal is not None else "normal" if found.exit_code == 0 else "failed"
    return Exit(kind, exit_code=found.exit_code, signal=found.signal)
