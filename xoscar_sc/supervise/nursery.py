"""Pool nurseries: a block that owns processes, and the actors in them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import anyio

from xoscar_sc.errors import XoscarError
from xoscar_sc.events import ActorExited, Event, PoolExited
from xoscar_sc.ipc import Auth
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime import ActorGroup, ActorRef, Overflow, Pulse, Route, Runtime, Wish
from xoscar_sc.strategy import Strategy
from xoscar_sc.supervise.actors import Actors, Ended, Placed, one_strategy, wanted_actor
from xoscar_sc.supervise.door import Door
from xoscar_sc.supervise.groups import create_group
from xoscar_sc.supervise.listeners import EventStream
from xoscar_sc.supervise.outcome import is_consequence
from xoscar_sc.supervise.pool import Pool
from xoscar_sc.supervise.pools import Pools
from xoscar_sc.supervise.seats import Seat
from xoscar_sc.supervise.spec import PoolSpec, check_callable, door
from xoscar_sc.supervise.tasks import PoolTask, Task

T = TypeVar("T")


class PoolNursery:
    """A block that owns processes, and the actors in them: none of them outlives it.

    Made by :func:`open_pool_nursery`.

    Attributes:
        name: for people.
        cancel_scope: cancelling it cancels the block, and everything that the nursery runs.
        shutdown: seconds from asking a pool to end until it is killed.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        name: str,
        on_demand: bool,
        env: dict[str, str],
        loglevel: int | str | None,
        shutdown: float,
    ) -> None:
        self.runtime = runtime
        self.name = name
        self.shutdown = shutdown
        self.cancel_scope = anyio.CancelScope()
        self.id = runtime.serial()
        self.heartbeat: float | None = None
        """Seconds for which its pools may show no sign of life; None if nobody looks for one."""
        self.failures: list[BaseException] = []
        """What its children failed with, in order."""
        self.failed_actors: set[str] = set()
        self.tasks: set[Task[Any]] = set()
        self.closed = False
        self._pools = Pools(self, on_demand=on_demand, env=env, loglevel=loglevel)
        self._actors = Actors(self)
        self.door = Door(self)
        """Where programs from outside come in."""
        self._listeners: weakref.WeakSet[EventStream] = weakref.WeakSet()

    # What is there

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools that run, by name, oldest first."""
        return MappingProxyType(self._pools.by_name)

    @property
    def actors(self) -> Mapping[str, ActorRef[Any]]:
        """The actors that this nursery has created and that have not ended, by uid, oldest first."""
        return MappingProxyType(self._actors.by_uid)

    @property
    def address(self) -> str | None:
        """Where other programs connect; None if they cannot."""
        return self.door.address

    def events(self) -> EventStream:
        """What happens from now on, as an async iterator that ends with the nursery."""
        stream = EventStream(self.runtime.loop)
        self._listeners.add(stream)
        return stream

    # Pools

    async def start_pool(  # noqa: PLR0913 - each says one thing, by its name
        self,
        name: str | None = None,
        *,
        label: str | tuple[str, ...] | None = None,
        cpus: tuple[int, ...] | None = None,
        env: Mapping[str, str] | None = None,
        address: str | None = None,
        auth: Auth | None = None,
        expose: Sequence[Any] | None = None,
        pickle: bool = True,
        asyncio: bool = False,
        uvloop: bool = False,
    ) -> Pool:
        """Start one more pool, and wait until it is ready.

        Args:
            name: unique in the nursery; made up if it is None.
            label: what strategies look for.
            cpus: the CPUs that the process may run on; None for all that this one may.
            env: environment variables, on top of the nursery's.
            address: where other programs connect to this pool itself, and from there to the whole tree; what goes with
                it, ``auth``, ``expose`` (uids, references and functions, which run in this pool) and ``pickle``, is as
                for :func:`open_pool_nursery`.
            asyncio: its trio runs as a guest on an asyncio loop, so that asyncio code may run there; see
                :mod:`xoscar_sc.to_asyncio`. A message takes longer in such a pool.
            uvloop: that loop is one of uvloop's, a package of its own.

        Raises:
            OSError: the address cannot be listened at.
            LaunchError: it could not be started, or ended before it was ready.
            RuntimeDirError: there is no place for its socket.

        Cancellation: nothing is left of it.
        """
        gate = door(address, auth=auth, expose=expose, pickle=pickle, makes_actors=False)
        return await self.start(PoolSpec(name, label, cpus, env, gate, asyncio, uvloop))

    @undisturbed
    async def start(self, spec: PoolSpec) -> Pool:
        """Start one more pool; see :meth:`start_pool`."""
        self.check_open()
        return await self._pools.start(spec)

    async def start_all(self, specs: Sequence[PoolSpec]) -> None:
        """Start the pools that the nursery opens with; see :meth:`Pools.start_all`."""
        await self._pools.start_all(specs)

    def check_open(self) -> None:
        """Nothing is started any more when the block has been left."""
        if self.closed:
            raise XoscarError(f"the nursery {self.name!r} has been left")

    async def sit(self, pool: Pool | str | None = None, strategy: Strategy | None = None) -> Seat:
        """A seat in the pool that is to be used; see :meth:`Pools.sit`."""
        self.check_open()
        return await self._pools.sit(pool, strategy)

    # Actors

    @undisturbed
    async def create_actor(
        self,
        cls: type[T],
        /,
        *args: Any,
        uid: str | None = None,
        pool: Pool | str | None = None,
        strategy: Strategy | None = None,
        allocate_strategy: Strategy | None = None,
        address: str | None = None,
        mailbox: int | None = None,
        overflow: Overflow = "wait",
        **kwargs: Any,
    ) -> ActorRef[T]:
        """Create an actor in one of the pools, and wait until it is ready.

        Args:
            cls: its class, derived from :class:`Actor` or :class:`StatelessActor`; ``functools.partial`` of one is for
                parameters of its own that are named as one of those here.
            args: for ``__init__``, as ``kwargs``.
            uid: its name, unique in the tree; made up if it is None.
            pool: where it is to live, a pool of this nursery or its name.
            strategy: what chooses the pool; :class:`LeastLoaded` by default. ``allocate_strategy`` is the same.
            address: where it is to live, as an address.
            mailbox: tells that may wait for it, from each sending pool; 1000 by default. A call holds up its caller,
                and does not count.
            overflow: what becomes of one more: its sender waits, ``"raise"`` gives the sender :exc:`MailboxFull`,
                ``"drop_oldest"`` and ``"drop_newest"`` drop a message (:class:`MessageDropped`). Under all but
                ``"wait"`` a call that finds the mailbox full gets :exc:`MailboxFull` as well.
            kwargs: ``snapshot=``, a :class:`Snapshots`, says where the actor's state outlives its process; it goes with
                ``uid=``. All others are for ``__init__``.

        Raises:
            what ``__init__`` or ``__post_create__`` raised; no actor exists then.
            ActorAlreadyExist: the uid is taken.
            PoolNotExist, NoIdleSlot: there is no such pool.
            LaunchError: a pool could not be started for it.
            SerializationError: the class or an argument cannot be sent.
            StateError: its state cannot be read, or somebody else has it.

        Cancellation: no actor is left.
        """
        wanted = wanted_actor(cls, args, kwargs, uid, mailbox, overflow)
        strategy = one_strategy(pool, strategy, allocate_strategy, address)
        return await self._actors.create(wanted, await self.sit(pool, strategy))

    @undisturbed
    async def create_group(
        self,
        cls: type[T],
        /,
        *args: Any,
        size: int,
        route: Route = "round_robin",
        uid: str | None = None,
        **options: Any,
    ) -> ActorGroup[T]:
        """Create many actors of one class, side by side, and wait until all are ready.

        Args:
            cls: their class; each gets the same ``args``, and what else :meth:`create_actor` takes.
            size: how many.
            route: who gets a message: ``"round_robin"``, ``"least_busy"``, ``"hash"`` or ``"broadcast"``; see
                :class:`ActorGroup`.
            uid: their names are this with ``-0``, ``-1`` and so on behind it.
            options: for :meth:`create_actor`.

        Raises:
            what :meth:`create_actor` raises; none of them is left then.

        Cancellation: none of them is left.
        """
        return await create_group(self, cls, args, size=size, route=route, uid=uid, options=options)

    async def discard(self, ref: ActorRef[Any]) -> None:
        """End an actor that nobody knows; its hooks are of no use."""
        await ref.kill()

    # Functions

    @undisturbed
    async def run(self, fn: Callable[..., Any], /, *args: Any, pool: Pool | str | None = None) -> Any:
        """Run a sync or async function in one of the pools, and wait for what it returns.

        Raises:
            the function's own exception.
            PoolDied: its pool ended first.
            SerializationError: the function, an argument or the value cannot be sent.

        Cancellation: the function is cancelled at its next checkpoint, and waited for, as a method is.
        """
        check_callable(fn)
        seat = await self.sit(pool)
        try:
            return await self.runtime.ask(seat.address, "run", fn, args, {})
        finally:
            seat.leave()

    @undisturbed
    async def run_in_pool(
        self, fn: Callable[..., Any], /, *args: Any, name: str | None = None
    ) -> PoolTask[Any]:
        """Start a pool for one function, and run it there, beside the block; the pool ends when it has returned.

        An exception of the function that nobody waits for is the nursery's failure.

        Raises:
            LaunchError: the pool could not be started.

        Cancellation: nothing is left of it.
        """
        check_callable(fn)
        pool = await self.start(PoolSpec(name))
        task: PoolTask[Any] = PoolTask(self, pool, partial(self._run_and_stop, pool, fn, args))
        self._begin(task)
        return task

    async def _run_and_stop(self, pool: Pool, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            return await pool.run(fn, *args)
        finally:
            await self.runtime.loop.run_shielded(partial(pool.end, cancel=True, grace=self.shutdown))

    @undisturbed
    def start_soon(self, fn: Callable[..., Any], /, *args: Any, pool: Pool | str | None = None) -> None:
        """Run a function in one of the pools, beside the block, as a trio nursery runs a task.

        An exception of the function is the nursery's failure.
        """
        check_callable(fn)
        self.check_open()
        if pool is not None:
            self._pools.named(pool)
        self._begin(Task(self, partial(self.run, fn, *args, pool=pool)))

    def _begin(self, task: Task[Any]) -> None:
        self.tasks.add(task)
        self.runtime.loop.spawn(task.run)

    # What its children tell it

    def fail(self, exc: BaseException) -> None:
        """A child has failed: everything is cancelled, and the block raises ``exc``."""
        if self.closed and is_consequence(exc):  # of the end that is under way
            return
        self.failures.append(exc)
        self.cancel_scope.cancel()

    def task_ended(self, task: Task[Any]) -> None:
        """A function has returned."""
        self.tasks.discard(task)

    def pool_ended(self, pool: Pool, failure: BaseException | None) -> None:
        """A pool's process has ended; ``failure`` if nobody had asked it to."""
        self._bury(pool)
        if failure is not None:
            self.fail(failure)

    def _bury(self, pool: Pool) -> list[Placed]:
        """A pool's process has ended; those of its actors whose ends somebody else has to hear of."""
        self._pools.remove(pool)
        others = self._actors.pool_ended(pool.seats)
        self.runtime.loop.spawn(self._release_names, pool)
        assert pool.exit is not None
        self.happened(PoolExited(pool.name, pool.pid, pool.exit))
        return others

    def watch_pulse(self, pool: Pool, pulse: Pulse) -> None:
        """Look for signs of life of a pool that gives them."""
        raise NotImplementedError

    async def _release_names(self, pool: Pool) -> None:
        try:
            await self.runtime.at_root("release_pool", pool.address)
        except XoscarError:  # then the root is ending, and its table with it
            pass
        finally:
            pool.names_released()

    def happened(self, event: Event) -> None:
        """See :class:`Listening`."""
        for stream in list(self._listeners):
            stream.put(event)

    def actor_ended(
        self, event: ActorExited, unclaimed: BaseException | None, token: str, wish: Wish
    ) -> None:
        """See :class:`Listening`."""
        self._actors.ended(Ended(event, unclaimed, wish), token)

    def unreachable(self, address: str) -> None:
        """See :class:`Listening`."""
        for pool in self._pools:
            if pool.address == address and pool.exit is None:
                pool.give_up()

    def interrupted(self, exc: BaseException) -> None:
        """See :class:`Listening`."""
        self.fail(exc)

    # The end

    async def finish(self) -> None:
        """End everything in order: functions have returned, mailboxes are empty, newest first."""
        while self.tasks:
            await next(iter(self.tasks)).ended.wait()
        await self._actors.drain()
        while len(self._pools):
            for pool in reversed(self._pools):
                await pool.stop()

    async def wait_settled(self) -> None:
        """Wait until no pool is being started any more; one that comes too late ends at once."""
        await self._pools.wait_settled()

    async def cancel(self) -> None:
        """End everything at once: cancelled, given ``shutdown`` seconds, then killed."""
        for task in list(self.tasks):
            task.cancel()
        while True:
            async with anyio.create_task_group() as group:
                for pool in reversed(self._pools):
                    group.start_soon(partial(pool.end, cancel=True, grace=self.shutdown))
                group.start_soon(self._actors.cancel_here)
            for task in list(self.tasks):
                await task.ended.wait()
            # Another may have been started by a task. None of those that have ended needs its watcher to say so.
            if all(pool.exit is not None for pool in self._pools):
                return

    def kill(self) -> None:
        """The last resort: kill every pool, now."""
        for pool in self._pools:
            pool.kill()

    def end_listening(self) -> None:
        """There will be no more events."""
        for stream in list(self._listeners):
            stream.end()
