"""Supervisors: pool nurseries whose children come back."""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from xoscar_sc.errors import ActorAlreadyExist, PoolDied
from xoscar_sc.events import Event, Exit
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime import FIRST_CHILD, ActorRef, Overflow, Pulse, Runtime
from xoscar_sc.strategy import Strategy
from xoscar_sc.supervise.actors import Actors, Again, one_strategy, wanted_actor
from xoscar_sc.supervise.backoff import Backoff
from xoscar_sc.supervise.child import ActorChild, Child, PoolChild
from xoscar_sc.supervise.child_code import ChildTask, FunctionChild, Memory, SupervisorChild
from xoscar_sc.supervise.children import ChildSpec, OnRestart, Queued, Restart, Supervision
from xoscar_sc.supervise.keeper import Keeper
from xoscar_sc.supervise.looking import Looking
from xoscar_sc.supervise.pool import Pool
from xoscar_sc.supervise.pools import Pools
from xoscar_sc.supervise.pulses import watch
from xoscar_sc.supervise.seats import Seat
from xoscar_sc.supervise.spec import PoolSpec, check_callable, check_name
from xoscar_sc.supervise.tasks import PoolTask

T = TypeVar("T")


class Supervisor(Looking):
    """A pool nursery whose children come back when they end.

    Made by :func:`open_supervisor`. Its children are the actors, pools, functions and supervisors that it is asked for,
    in that order; the pools it opens with, and those that start on demand, are where they live, and come back when they
    are needed.
    """

    def __init__(self, runtime: Runtime, *, supervision: Supervision, **settings: Any) -> None:
        super().__init__(runtime, **settings)
        self.supervision = supervision
        self.heartbeat = supervision.heartbeat
        self.memory: Memory | None = None
        """Actors that live on from one incarnation of this supervisor to the next, if it has a supervisor."""
        self.path: tuple[str, ...] = ()
        """The names of the supervisors from the uppermost to this one."""
        self.above: Supervisor | None = None
        """Its own supervisor."""
        self._keeper = Keeper(self, supervision)
        self.functions: set[str] = set()
        """The names of the pools that have a function each."""

    # For its children

    @property
    def __actors__(self) -> Actors:
        return self._actors

    @property
    def __pools__(self) -> Pools:
        return self._pools

    @property
    def __keeper__(self) -> Keeper:
        return self._keeper

    async def sit(self, pool: Pool | str | None = None, strategy: Strategy | None = None) -> Seat:
        """A seat in the pool that is to be used; while that is being restarted, it is waited for."""
        keeper = self._keeper
        if isinstance(pool, Pool) and pool.nursery is not self:
            self._pools.named(pool)
        name = pool.name if isinstance(pool, Pool) else pool
        while True:
            self.check_open()
            if name is not None:
                found = self._pools.by_name.get(name)
                if found is not None and found.usable:
                    return found.seats.take()
                if not keeper.expects(f"pool {name}"):
                    return self._pools.named(name).seats.take()
            elif any(each.usable for each in self._pools) or not self._awaits_pools():
                return await self._pools.sit(None, strategy)
            await keeper.wait_changed()

    def _awaits_pools(self) -> bool:
        children = self._keeper.children.values()
        return any(isinstance(child, PoolChild) and self._keeper.expects(child.key) for child in children)

    # Children

    @undisturbed
    async def create_actor(  # noqa: PLR0913 - each is a keyword of its own
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
        restart: Restart = "permanent",
        shutdown: float | Literal["kill"] | None = None,
        backoff: Backoff | None = None,
        significant: bool = False,
        on_restart: OnRestart = "wait",
        queued: Queued = "keep",
        **kwargs: Any,
    ) -> ActorRef[T]:
        """Create an actor that comes back, and wait until it is ready.

        A restart makes it anew from the same class and the same arguments, in the same pool, or, if that has ended for
        good, where it would be put then. The reference that is returned, and every other one, reaches the new one.

        Args:
            cls: see :meth:`PoolNursery.create_actor`, also for what is not named here.
            restart: ``"permanent"`` always, ``"transient"`` only after a failure, ``"temporary"`` never; then its
                failure is no error of the supervisor either.
            shutdown: seconds from asking it to end until it is killed; ``math.inf`` waits for ever, ``"kill"`` does not
                ask; the supervisor's by default.
            backoff: how long it waits to be started again; by default not at all, unless it cannot be started.
            significant: its normal end counts for ``auto_shutdown``.
            on_restart: what becomes of a call meanwhile: it waits, or raises :exc:`ActorUnavailable`.
            queued: what becomes of the messages that wait in its mailbox when it ends: ``"keep"`` for the next one, or
                ``"fail"``. Where its process has died, or calls are not to wait, they fail.

        Raises:
            what :meth:`PoolNursery.create_actor` raises; there is no such child then.
            TypeError, ValueError: a keyword makes no sense.

        Cancellation: no actor is left.
        """
        spec = ChildSpec(restart, significant, shutdown, backoff, on_restart, queued)
        wanted = wanted_actor(cls, args, kwargs, uid, mailbox, overflow)
        strategy = one_strategy(pool, strategy, allocate_strategy, address)
        self._check_free(uid)
        uid = uid or f"{wanted.cls.__name__}-{self.runtime.place.pool_id}-{self.runtime.serial()}"
        again = self._remembered(uid)
        number = 0
        if restart != "temporary":
            number = FIRST_CHILD + secrets.randbits(52)
            if again is not None:
                number = again.ref.__target__().traits.child
        traits = wanted.traits._replace(child=number, waits=on_restart == "wait", keeps=queued == "keep")
        child = ActorChild(self, wanted._replace(uid=uid, traits=traits), spec, pool, strategy)
        await child.create(again if number else None)
        self._keeper.add(child)
        if self.memory is not None and (known := child.again()) is not None:
            self.memory[*self.path, uid] = known
        return child.ref

    def _remembered(self, uid: str) -> Again | None:
        """What a supervisor before this one has left of an actor."""
        if self.memory is None:
            return None
        key = *self.path, uid
        again = self.memory.get(key)
        if again is not None:
            self.memory[key] = again._replace(life=again.life + 1)
        return again

    async def start_pool(
        self,
        name: str | None = None,
        *,
        restart: Restart | None = None,
        shutdown: float | Literal["kill"] | None = None,
        backoff: Backoff | None = None,
        significant: bool = False,
        **options: Any,
    ) -> Pool:
        """Start one more pool, and wait until it is ready; it comes back when its process ends, and its actors with it.

        A restart is another process under the same name: ``supervisor.pools[name]`` is it, and the old :class:`Pool`
        has ended.

        Args:
            name: unique in the supervisor; made up if it is None.
            restart: makes it a child, with its place in the order: those created after it are younger siblings. Without
                it, it is only where children live, and comes back with them.
            shutdown: as for an actor, see :meth:`create_actor`; so are ``backoff`` and ``significant``.
            options: see :meth:`PoolNursery.start_pool`.

        Raises:
            what :meth:`PoolNursery.start_pool` raises.
        """
        spec = ChildSpec(restart or "permanent", significant, shutdown, backoff)
        pool = await super().start_pool(name, **options)
        if restart is not None:
            self._keeper.promote(f"pool {pool.name}", spec)
        return pool

    @undisturbed
    async def start(self, spec: PoolSpec) -> Pool:
        """Start one more pool; see :meth:`start_pool`."""
        pool = await super().start(spec)
        self._house(pool)
        return pool

    def keep(self, name: str) -> None:
        """A pool that was started on demand comes back from now on: an actor wants to live there and nowhere else."""
        pool = self._pools.by_name.get(name)
        if pool is not None and f"pool {name}" not in self._keeper.children and name not in self.functions:
            self._house(pool)

    async def start_all(self, specs: Sequence[PoolSpec]) -> None:
        """Start the pools that the supervisor opens with."""
        await super().start_all(specs)
        for pool in self._pools:
            self._house(pool)

    def _house(self, pool: Pool) -> None:
        child = PoolChild(self, pool, ChildSpec())
        child.early = pool.exit
        self._keeper.add(child, housing=True)

    @undisturbed
    async def run_in_pool(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        name: str | None = None,
        restart: Restart = "transient",
        shutdown: float | Literal["kill"] | None = None,
        backoff: Backoff | None = None,
        significant: bool = False,
    ) -> PoolTask[Any]:
        """Run a function in a pool of its own, beside the block, and again as ``restart`` says, each time in a new one.

        ``await task.result()`` is what the last run returns, when there will be no other. A permanent one is ended when
        the block is left.

        Args:
            fn: sync or async; returning is its normal end.
            args: for it.
            name: of the child and its pool; made up if it is None.
            restart: as for an actor, see :meth:`create_actor`; so are ``shutdown``, ``backoff`` and ``significant``.

        Raises:
            LaunchError: the pool could not be started.

        Cancellation: nothing is left of it.
        """
        check_callable(fn)
        if name is not None:
            check_name(name, "name")
        self.check_open()
        self._check_free(name)
        spec = ChildSpec(restart, significant, shutdown, backoff)
        name = name or f"{getattr(fn, '__name__', 'function')}-{self.runtime.serial()}"
        child = FunctionChild(self, name, spec, fn, args)
        await child.start()
        child.task = ChildTask(child)
        self._keeper.add(child)
        self._begin(child.task)
        return child.task

    @undisturbed
    async def start_supervisor(
        self,
        fill: Callable[..., Awaitable[Any]],
        /,
        *args: Any,
        name: str | None = None,
        restart: Restart = "permanent",
        shutdown: float | Literal["kill"] | None = math.inf,
        backoff: Backoff | None = None,
        significant: bool = False,
        **options: Any,
    ) -> Supervisor:
        """Start a supervisor under this one, in this process, and wait until ``fill(supervisor, *args)`` has returned.

        When it gives up, that is the failure of one child: it is ended, opened and filled again. References to actors
        that ``fill`` gives a ``uid`` reach the new ones. ``supervisor.supervisors[name]`` is the one that runs.

        Args:
            fill: an async function that creates its children.
            args: for ``fill``, behind the supervisor.
            name: of the child; made up if it is None.
            restart: as for an actor, see :meth:`create_actor`; so are ``backoff`` and ``significant``.
            shutdown: as there; by default its children take the time that each of them has.
            options: for :func:`open_supervisor`.

        Raises:
            what ``fill`` raises; nothing is left then.

        Cancellation: nothing is left of it.
        """
        from xoscar_sc.supervise.opening import open_supervisor

        check_callable(fill)
        if name is not None:
            check_name(name, "name")
        self.check_open()
        self._check_free(name)
        spec = ChildSpec(restart, significant, shutdown, backoff)
        name = name or f"{getattr(fill, '__name__', 'supervisor')}-{self.runtime.serial()}"
        open_block = partial(open_supervisor, name=name, **options)
        open_block()  # what is wrong with the options is told at once
        child = SupervisorChild(self, name, spec, lambda inner: fill(inner, *args), open_block)
        await child.start()
        self._keeper.add(child)
        return child.inner

    async def discard(self, ref: ActorRef[Any]) -> None:
        """End an actor that nobody knows, and let it not come back."""
        child = self._keeper.children.get(ref.uid)
        if child is not None:
            await self._keeper.terminate(child)
        if ref.uid in self._keeper.children:
            await self.delete_child(ref.uid)

    def _check_free(self, name: str | None) -> None:
        if name is not None and name in self._keeper.children:
            raise ActorAlreadyExist(f"supervisor {self.name!r} has a child {name!r} already")

    @property
    def supervisors(self) -> dict[str, Supervisor]:
        """The supervisors under this one that run, by name."""
        children = self._keeper.listed()
        return {each.name: each.inner for each in children if isinstance(each, SupervisorChild) and each.up}

    # What its children tell it

    def pool_ended(self, pool: Pool, failure: PoolDied | BaseException | None) -> None:
        """A pool's process has ended: so have those who live in it."""
        placed = self._bury(pool)
        assert pool.exit is not None
        assert pool.death is not None
        exit_ = pool.exit
        if exit_.kind != "normal":
            exit_ = Exit(exit_.kind, exit_.exit_code, exit_.signal, pool.death())
        keeper = self._keeper
        members: list[Child] = []
        own = keeper.children.get(f"pool {pool.name}")
        if isinstance(own, PoolChild) and own.pool is pool:
            members.append(own)
        members += [keeper.children[each.ref.uid] for each in placed if each.ref.uid in keeper.children]
        if members:
            keeper.ended(members, exit_, asked=pool.stopping)
        elif failure is not None and pool.name not in self.functions:
            keeper.lost(PoolChild(self, pool, ChildSpec()), exit_)

    def watch_pulse(self, pool: Pool, pulse: Pulse) -> None:
        """Look for signs of life of a pool that gives them."""
        self.runtime.loop.spawn(watch, self, pool, pulse)

    def fail(self, exc: BaseException) -> None:
        """A child has failed that is not restarted, or something here has: everything ends."""
        self._keeper.closing = True
        super().fail(exc)

    def happened(self, event: Event) -> None:
        """See :class:`Listening`; the supervisors above hear of it too."""
        super().happened(event)
        if self.above is not None:
            self.above.happened(event)

    async def let_go(self, child: Child) -> None:
        """A child ends with this supervisor; who waits for it may wait for the supervisor's next incarnation."""
        if self.memory is None:
            await child.drop()
        elif isinstance(child, ActorChild) and (known := child.again()) is not None:
            self.memory[*self.path, child.name] = known

    # The end

    async def finish(self) -> None:
        """End everything in order; functions have returned that are not to run for ever."""
        for child in self._keeper.listed():
            if isinstance(child, FunctionChild) and child.spec.restart == "permanent":
                await self._keeper.terminate(child)
        while self.tasks:
            await next(iter(self.tasks)).ended.wait()
        await self._keeper.close()
        await self._keeper.stop_all("drain")
        await super().finish()

    async def cancel(self) -> None:
        """End everything at once; in order, if it ends of itself."""
        await self._keeper.close()
        if self._keeper.orderly:
            await self._keeper.stop_all("destroy")
        inner = [each for each in self._keeper.listed() if isinstance(each, SupervisorChild)]
        for child in inner:
            child.cancel()
        await super().cancel()
        for child in inner:
            await child.wait_over()
        for each in self._keeper.listed():
            await self.let_go(each)

    def kill(self) -> None:
        """The last resort: kill every pool, now."""
        super().kill()
        for inner in self.supervisors.values():
            inner.kill()
