"""Pool nurseries: a block that owns processes, and the actors in them."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import anyio

from xoscar_sc.errors import ActorNotExist, XoscarError
from xoscar_sc.events import ActorCreated, ActorExited, Event, PoolExited
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime import BOUND, ActorRef, Capacity, Overflow, Runtime, is_actor_class
from xoscar_sc.strategy import AddressSpecified, Strategy
from xoscar_sc.supervise.listeners import EventStream
from xoscar_sc.supervise.outcome import is_consequence
from xoscar_sc.supervise.pool import Pool
from xoscar_sc.supervise.pools import Pools
from xoscar_sc.supervise.spec import PoolSpec, check_callable, check_capacity, check_name
from xoscar_sc.supervise.tasks import PoolTask, Task

T = TypeVar("T")

_LATER = ("restart", "backoff", "significant", "snapshot", "on_restart")
"""Keywords of create_actor that are the package's and no actor's, and have no effect yet."""


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
        self.failures: list[BaseException] = []
        """What its children failed with, in order."""
        self.failed_actors: set[str] = set()
        self.tasks: set[Task[Any]] = set()
        self.closed = False
        self._pools = Pools(self, on_demand=on_demand, env=env, loglevel=loglevel)
        self._actors: dict[str, ActorRef[Any]] = {}
        self._creating: dict[str, list[tuple[ActorExited, BaseException | None]]] = {}
        """Actors that are being made, and what has been heard of their end already."""
        self._listeners: weakref.WeakSet[EventStream] = weakref.WeakSet()

    # What is there

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools that run, by name, oldest first."""
        return MappingProxyType(self._pools.by_name)

    @property
    def actors(self) -> Mapping[str, ActorRef[Any]]:
        """The actors that this nursery has created and that have not ended, by uid, oldest first."""
        return MappingProxyType(self._actors)

    def events(self) -> EventStream:
        """What happens from now on, as an async iterator that ends with the nursery."""
        stream = EventStream(self.runtime.loop)
        self._listeners.add(stream)
        return stream

    # Pools

    async def start_pool(
        self,
        name: str | None = None,
        *,
        label: str | tuple[str, ...] | None = None,
        cpus: tuple[int, ...] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Pool:
        """Start one more pool, and wait until it is ready.

        Args:
            name: unique in the nursery; made up if it is None.
            label: what strategies look for.
            cpus: the CPUs that the process may run on; None for all that this one may.
            env: environment variables, on top of the nursery's.

        Raises:
            LaunchError: it could not be started, or ended before it was ready.
            RuntimeDirError: there is no place for its socket.

        Cancellation: nothing is left of it.
        """
        return await self.start(PoolSpec(name, label, cpus, env))

    @undisturbed
    async def start(self, spec: PoolSpec) -> Pool:
        """Start one more pool; see :meth:`start_pool`."""
        self._check_open()
        return await self._pools.start(spec)

    def _check_open(self) -> None:
        if self.closed:
            raise XoscarError(f"the nursery {self.name!r} has been left")

    async def _where(self, pool: Pool | str | None, strategy: Strategy | None = None) -> str:
        """The address of the pool that is to be used."""
        self._check_open()
        return await self._pools.choose(strategy) if pool is None else self._pools.named(pool).address

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

        Raises:
            what ``__init__`` or ``__post_create__`` raised; no actor exists then.
            ActorAlreadyExist: the uid is taken.
            PoolNotExist, NoIdleSlot: there is no such pool.
            LaunchError: a pool could not be started for it.
            SerializationError: the class or an argument cannot be sent.

        Cancellation: no actor is left.
        """
        actual, args, kwargs = _unwrap(cls, args, kwargs)
        _check_actor(actual, uid, kwargs)
        capacity = Capacity(BOUND if mailbox is None else mailbox, overflow)
        check_capacity(capacity)
        strategy = _one_strategy(pool, strategy, allocate_strategy, address)
        where = await self._where(pool, strategy)
        runtime = self.runtime
        uid = uid or f"{actual.__name__}-{runtime.place.pool_id}-{runtime.serial()}"
        self._pools.load(where, 1)
        try:
            await runtime.at_root("reserve", uid, where)
            early = self._creating[uid] = []
            try:
                owner = (runtime.address, self.id)
                incarnation = await runtime.ask(
                    where, "create_actor", actual, args, kwargs, uid, owner, capacity
                )
                await runtime.at_root("bind", uid, where, incarnation, capacity)
            except BaseException:
                await runtime.loop.run_shielded(partial(runtime.at_root, "release", uid, where))
                raise
            finally:
                del self._creating[uid]
        except BaseException:
            self._pools.load(where, -1)
            raise
        ref: ActorRef[T] = ActorRef(where, uid, incarnation, actual, capacity=capacity)
        self._actors[uid] = ref
        self.happened(ActorCreated(uid, self._pools.name_of(where)))
        for event, unclaimed in early:
            self.actor_ended(event, unclaimed)
        return ref

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
        where = await self._where(pool)
        self._pools.load(where, 1)
        try:
            return await self.runtime.ask(where, "run", fn, args, {})
        finally:
            self._pools.load(where, -1)

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
        self._check_open()
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
        self._pools.remove(pool)
        for uid in [uid for uid, ref in self._actors.items() if ref.address == pool.address]:
            del self._actors[uid]
        self.runtime.loop.spawn(self._release_names, pool.address)
        assert pool.exit is not None
        self.happened(PoolExited(pool.name, pool.pid, pool.exit))
        if failure is not None:
            self.fail(failure)

    async def _release_names(self, address: str) -> None:
        try:
            await self.runtime.at_root("release_pool", address)
        except XoscarError:  # then the root is ending, and its table with it
            pass

    def happened(self, event: Event) -> None:
        """See :class:`Listening`."""
        for stream in list(self._listeners):
            stream.put(event)

    def actor_ended(self, event: ActorExited, unclaimed: BaseException | None) -> None:
        """See :class:`Listening`."""
        if event.uid in self._creating:
            self._creating[event.uid].append((event, unclaimed))
            return
        ref = self._actors.pop(event.uid, None)
        if ref is not None:
            self._pools.load(ref.address, -1)
        self.happened(event)
        if event.exit.kind == "failed":
            self.failed_actors.add(event.uid)
        if unclaimed is not None:
            self.fail(unclaimed)

    def unreachable(self, address: str) -> None:
        """See :class:`Listening`."""
        for pool in self._pools:
            if pool.address == address and pool.exit is None:
                asked = pool.asked
                pool.kill()
                pool.asked = asked

    def interrupted(self, exc: BaseException) -> None:
        """See :class:`Listening`."""
        self.fail(exc)

    # The end

    async def finish(self) -> None:
        """End everything in order: functions have returned, mailboxes are empty, newest first."""
        while self.tasks:
            await next(iter(self.tasks)).ended.wait()
        for ref in reversed(list(self._actors.values())):
            try:
                await self.runtime.end_actor(ref.__target__(), "drain")
            except ActorNotExist:  # it has ended by itself
                pass
            except Exception as exc:  # a hook's; it is raised when everything has ended
                self.failures.append(exc)
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
                group.start_soon(self._cancel_actors_here)
            for task in list(self.tasks):
                await task.ended.wait()
            # Another may have been started by a task. None of those that have ended needs its watcher to say so.
            if all(pool.exit is not None for pool in self._pools):
                return

    async def _cancel_actors_here(self) -> None:
        """End those of this process; those of the pools end with their pools."""
        here = [ref for ref in self._actors.values() if ref.address == self.runtime.address]
        for ref in reversed(here):
            with anyio.move_on_after(self.shutdown) as scope:
                try:
                    await self.runtime.end_actor(ref.__target__(), "cancel")
                except ActorNotExist:
                    pass
                except Exception as exc:  # as above
                    self.failures.append(exc)
            if scope.cancelled_caught:
                with contextlib.suppress(ActorNotExist):
                    await self.runtime.end_actor(ref.__target__(), "kill")

    def kill(self) -> None:
        """The last resort: kill every pool, now."""
        for pool in self._pools:
            pool.kill()

    def end_listening(self) -> None:
        """There will be no more events."""
        for stream in list(self._listeners):
            stream.end()


def _unwrap(
    cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[type[Any], tuple[Any, ...], dict[str, Any]]:
    """The class and the arguments behind ``functools.partial``."""
    while isinstance(cls, partial):
        cls, args, kwargs = cls.func, (*cls.args, *args), {**cls.keywords, **kwargs}
        if is_actor_class(cls):
            break
    return cls, args, kwargs


def _check_actor(cls: object, uid: object, kwargs: dict[str, Any]) -> None:
    if not is_actor_class(cls):
        raise TypeError(f"{cls!r} is no actor class: derive it from Actor or StatelessActor")
    if uid is not None:
        check_name(uid, "uid")
    for name in _LATER:
        if name in kwargs:
            raise TypeError(f"{name}= is not supported yet")


def _one_strategy(
    pool: object, strategy: Strategy | None, allocate_strategy: Strategy | None, address: str | None
) -> Strategy | None:
    given = [each for each in (pool, strategy, allocate_strategy, address) if each is not None]
    if len(given) > 1:
        raise TypeError(
            "only one of pool=, strategy=, allocate_strategy= and address= says where an actor goes"
        )
    if address is not None:
        return AddressSpecified(address)
    return strategy or allocate_strategy
