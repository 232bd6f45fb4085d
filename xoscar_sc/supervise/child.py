"""A supervisor's children: how one of each kind is started, stopped and told of.

What is the same for all kinds is in :class:`Child`; :mod:`~xoscar_sc.supervise.keeper` says when.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import anyio
from msgspec.structs import replace

from xoscar_sc.errors import ActorNotExist, PoolDied, XoscarError
from xoscar_sc.events import Exit
from xoscar_sc.runtime import ActorRef, Ending
from xoscar_sc.serialize import record
from xoscar_sc.strategy import Strategy
from xoscar_sc.supervise.actors import Again, Ended, Wanted
from xoscar_sc.supervise.children import ChildSpec
from xoscar_sc.supervise.pool import Pool
from xoscar_sc.supervise.seats import Seat
from xoscar_sc.supervise.spec import PoolSpec, same_port

if TYPE_CHECKING:
    from xoscar_sc.supervise.supervisor import Supervisor

ChildKind: TypeAlias = Literal["actor", "pool", "function", "supervisor"]
How: TypeAlias = Literal["drain", "destroy", "recycle"]


class ChildInfo(NamedTuple):
    """What :meth:`Supervisor.which_children` tells of a child."""

    name: str
    """An actor's uid; the name of anything else."""
    kind: ChildKind
    restart: str
    phase: str
    """``"up"``, ``"waiting"`` (for its start), ``"starting"``, ``"doomed"`` (to be stopped), ``"stopping"`` or
    ``"down"``."""
    restarts: int
    """How often it has been started again."""
    exit: Exit | None
    """How it has ended last."""


class Child:
    """One child.

    Attributes:
        key: unique among the children.
        name: for people.
        up: it has been started, and its end has not been heard of.
        restarts: how often it has been started again.
        failures: how often it has failed in a row.
        since: when it was started.
        exit: how it has ended last.
    """

    kind: ChildKind

    def __init__(self, sup: Supervisor, key: str, name: str, spec: ChildSpec) -> None:
        self.sup = sup
        self.key = key
        self.name = name
        self.spec = spec
        self.up = False
        self.restarts = 0
        self.failures = 0
        self.since: float | None = None
        self.exit: Exit | None = None
        self.early: Exit | None = None
        """It has ended before its start was over."""

    def take_early(self) -> Exit | None:
        """How it has ended before its start was over, if it has; told once."""
        early, self.early = self.early, None
        return early

    @property
    def grace(self) -> float:
        """Seconds from asking it to end until it is killed."""
        return self.spec.grace(self.sup.shutdown)

    async def start(self) -> None:
        """Start it again.

        Raises:
            anything: it could not be started; nothing is left of it.

        Cancellation: nothing is left of it.
        """
        raise NotImplementedError

    async def stop(self, how: How) -> None:
        """End it: it is asked, waited for, killed.

        Cancellation: it is not waited for any more.
        """
        raise NotImplementedError

    async def drop(self) -> None:
        """It does not come back: nobody has to wait for it."""

    def record(self) -> dict[str, str]:
        """What a log record says of it."""
        return {"pool": "", "actor": ""}


class ActorChild(Child):
    """An actor."""

    kind = "actor"

    def __init__(
        self,
        sup: Supervisor,
        wanted: Wanted,
        spec: ChildSpec,
        pool: Pool | str | None,
        strategy: Strategy | None,
    ) -> None:
        assert wanted.uid is not None
        super().__init__(sup, wanted.uid, wanted.uid, spec)
        self.ref: ActorRef[Any]
        self._wanted = wanted
        self._pool = pool if pool is None or isinstance(pool, str) else pool.name
        self._strategy = strategy
        self._seat: Seat
        self._dropped = False
        self._lives = 0
        """How often it has been tried to start it."""

    async def create(self, again: Again | None) -> None:
        """Start it for the first time; ``again``: a supervisor before this one had it."""
        self._lives = 1 if again is None else again.life
        self._seat = await self.sup.sit(self._pool, self._strategy)
        if self._pool is not None:
            self.sup.keep(self._pool)
        self.ref = await self.sup.__actors__.create(self._wanted, self._seat, self._told, again)
        self._check_pool()

    async def start(self) -> None:
        seat = await self._sit()
        if seat.address != self._seat.address:
            await self._disown()
        self._seat = seat
        again = self.again()
        self._lives += 1
        self._dropped = False
        ref = await self.sup.__actors__.create(self._wanted, seat, self._told, again)
        if again is None:
            self.ref = ref
        self._check_pool()

    def record(self) -> dict[str, str]:
        return {"pool": self._seat.seats.pool, "actor": self.name}

    def again(self) -> Again | None:
        """What a supervisor after this one has to know to go on with it; None if nobody restarts it."""
        if not self._wanted.traits.child:
            return None
        return Again(self.ref, _ending(self._last_exit(), self.name), self._lives + 1)

    def _last_exit(self) -> Exit:
        """How it has ended; of one that still runs, that it is cancelled with its supervisor."""
        return Exit("cancelled") if self.up or self.exit is None else self.exit

    def _check_pool(self) -> None:
        if self._seat.seats.closed and self.early is None:  # no news of the actor can come
            pool = self._seat.seats.pool
            self.early = Exit("failed", error=PoolDied(f"pool {pool!r} ended meanwhile", pool=pool))

    async def _sit(self) -> Seat:
        """A seat where it was, if that pool lives or comes back; else where it would be put now."""
        was = self._seat.seats
        if not was.closed and (was.address == self.sup.runtime.address or self._usable(was.pool)):
            return was.take(self._seat.mark)
        if self._pool is not None or self.sup.__keeper__.expects(f"pool {was.pool}"):
            return await self.sup.sit(was.pool, None)
        return await self.sup.sit(None, self._strategy)

    def _usable(self, name: str) -> bool:
        pool = self.sup.pools.get(name)
        return pool is not None and pool.usable

    def _told(self, ended: Ended) -> None:
        self.sup.__keeper__.ended([self], ended.event.exit, asked=ended.wish == "actor")

    async def stop(self, how: How) -> None:
        runtime = self.sup.runtime
        target = self.ref.__target__()
        with contextlib.suppress(ActorNotExist, PoolDied):  # it has ended by itself
            with anyio.move_on_after(self.grace):
                if self.spec.shutdown != "kill":
                    await runtime.end_actor(target, how)
                    return
            with anyio.move_on_after(runtime.timeouts.cancel):
                await runtime.end_actor(target, "kill")
                return
            pool = self.sup.pools.get(self._seat.seats.pool)
            if pool is not None and pool.seats is self._seat.seats:  # it does not even answer to that
                pool.give_up()

    async def drop(self) -> None:
        if not self._dropped:
            self._dropped = True
            self.sup.__actors__.forget(self.ref)
            child = self._wanted.traits.child
            if child:
                ending = _ending(self._last_exit(), self.name)
                with contextlib.suppress(XoscarError):  # the root has gone, and its table with it
                    await self.sup.runtime.at_root("drop", self.name, child, ending)
                await self._disown()

    async def _disown(self) -> None:
        if self._wanted.traits.child and not self._seat.seats.closed:
            with contextlib.suppress(XoscarError):  # the pool has gone
                await self.sup.runtime.order(
                    self._seat.address, "disown", self.name, self._wanted.traits.child
                )


def _ending(exit_: Exit, uid: str) -> Ending:
    if exit_.error is None:
        return Ending(exit_, None)
    return Ending(replace(exit_, error=None), record(exit_.error, where=f"actor {uid!r}"))


class PoolChild(Child):
    """A pool."""

    kind = "pool"

    def __init__(self, sup: Supervisor, pool: Pool, spec: ChildSpec) -> None:
        super().__init__(sup, f"pool {pool.name}", pool.name, spec)
        gate = pool.spec.door
        if gate is not None and pool.door is not None:
            gate = replace(gate, address=same_port(gate.address, pool.door))
        self._spec = PoolSpec(pool.name, pool.spec.label, pool.spec.cpus, pool.spec.env, gate)
        self.pool = pool

    def record(self) -> dict[str, str]:
        return {"pool": self.name, "actor": ""}

    async def start(self) -> None:
        self.pool = await self.sup.__pools__.start(self._spec)
        if self.pool.exit is not None:
            self.early = self.pool.exit

    async def stop(self, how: How) -> None:
        if self.spec.shutdown == "kill":
            self.pool.kill()
        await self.pool.end(cancel=False, grace=self.grace)
