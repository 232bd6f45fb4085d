"""The pools of one nursery: which there are, how busy each is, and which one is next."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from xoscar_sc.errors import PoolNotExist
from xoscar_sc.events import PoolStarted
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime import GateSettings
from xoscar_sc.strategy import LeastLoaded, PoolView, Request, Strategy
from xoscar_sc.supervise.pool import Pool
from xoscar_sc.supervise.seats import Seat, Seats
from xoscar_sc.supervise.spec import PoolSpec
from xoscar_sc.supervise.start import Started, start_pool

if TYPE_CHECKING:
    from xoscar_sc.loop import Slot
    from xoscar_sc.supervise.nursery import PoolNursery


class Pools:
    """See the top of this file.

    Args:
        nursery: whose they are.
        on_demand: they start when they are needed, up to one for each usable CPU.
        env: environment variables of all of them.
        loglevel: theirs.
    """

    def __init__(
        self, nursery: PoolNursery, *, on_demand: bool, env: dict[str, str], loglevel: int | str | None
    ) -> None:
        self._nursery = nursery
        self._runtime = nursery.runtime
        self._on_demand = on_demand
        self._env = env
        self._loglevel = loglevel
        self.by_name: dict[str, Pool] = {}
        """Those that run, oldest first."""
        self._coming: set[str] = set()
        """The names of those that are being started."""
        self._waiting: list[Slot] = []
        """Of those who wait for one that is being started."""
        self._main = Seats(self._runtime.place.name, self._runtime.address)
        self._numbers = itertools.count(1)
        self._requests = itertools.count()
        self._random = random.Random()

    def __iter__(self) -> Iterator[Pool]:
        return iter(list(self.by_name.values()))

    def __reversed__(self) -> Iterator[Pool]:
        return reversed(list(self.by_name.values()))

    def __len__(self) -> int:
        return len(self.by_name)

    # Starting and ending

    @undisturbed
    async def start(self, spec: PoolSpec) -> Pool:
        """Start one more; see :meth:`PoolNursery.start_pool`."""
        taken = self.by_name.keys() | self._coming
        if spec.name is not None and spec.name in taken:
            raise ValueError(f"this nursery has a pool {spec.name!r} already")
        name = spec.name or next(each for n in self._numbers if (each := f"pool-{n}") not in taken)
        self._coming.add(name)
        try:
            started = await start_pool(
                self._runtime,
                self._nursery.id,
                name,
                spec,
                env=self._env,
                loglevel=self._loglevel,
                heartbeat=self._nursery.heartbeat,
            )
            public = "" if spec.door is None else await self._open_door(started, spec.door)
            if self._nursery.closed:  # a task beside the block has asked for it, and it came too late
                await self._undo(started)
                self._nursery.check_open()
            pool = self.by_name[name] = Pool(self._nursery, started, spec)
            pool.door = public or None
            self._nursery.happened(PoolStarted(name, pool.pid, pool.address))
            self._runtime.loop.spawn(pool.watch)
            if started.pulse is not None:
                self._nursery.watch_pulse(pool, started.pulse)
        finally:
            self._coming.discard(name)
            waiting, self._waiting = self._waiting, []
            for slot in waiting:
                slot.set(None)
        return pool

    async def _undo(self, started: Started) -> None:
        """Leave nothing of a pool that has just started."""
        started.channel.close()
        started.process.kill()
        await self._runtime.loop.run_shielded(started.process.wait)

    async def _open_door(self, started: Started, settings: GateSettings) -> str:
        """Let other programs in to a pool; where."""
        try:
            address: str = await self._runtime.ask(started.place.address, "open_gate", settings)
        except BaseException:
            await self._undo(started)
            raise
        return address

    async def start_all(self, specs: Sequence[PoolSpec]) -> None:
        """Start several at the same time. Their names and their order are those of ``specs``, whichever is ready first.

        Raises:
            LaunchError, RuntimeDirError: of the first that could not be started; the others are not waited for.
        """
        if not specs:
            return
        given = {spec.name for spec in specs}
        fresh = (name for n in self._numbers if (name := f"pool-{n}") not in given)
        named = [spec if spec.name is not None else replace(spec, name=next(fresh)) for spec in specs]
        try:
            async with anyio.create_task_group() as group:
                for spec in named:
                    group.start_soon(self.start, spec)
        except BaseExceptionGroup as exc:
            failure = exc.exceptions[0]
        else:
            failure = None
        if failure is not None:  # not while it is handled: it keeps its own cause
            raise failure
        for spec in named:
            assert spec.name is not None
            if spec.name in self.by_name:  # it may have ended since
                self.by_name[spec.name] = self.by_name.pop(spec.name)

    async def wait_settled(self) -> None:
        """Wait until none is being started any more."""
        while self._coming:
            slot = self._runtime.loop.slot()
            self._waiting.append(slot)
            await slot.wait()

    def remove(self, pool: Pool) -> None:
        """It has ended."""
        if self.by_name.get(pool.name) is pool:
            del self.by_name[pool.name]

    # Choosing

    def named(self, pool: Pool | str) -> Pool:
        """The pool of this name, or this pool.

        Raises:
            PoolNotExist: it is not one of these, or not any more.
        """
        name = pool if isinstance(pool, str) else pool.name
        found = self.by_name.get(name)
        if found is None or not (found is pool or isinstance(pool, str)):
            raise PoolNotExist(
                f"this nursery has no pool {name!r}; it has {', '.join(map(repr, self.by_name)) or 'none'}"
            )
        return found

    async def sit(self, pool: Pool | str | None, strategy: Strategy | None = None) -> Seat:
        """A seat in this pool, or in one that the strategy chooses; it is started if that is due.

        Between the choice and the seat no other task runs: whoever is next sees it taken.

        Raises:
            PoolNotExist: it is not one of these.
            what the strategy raises; nothing has been taken then.
            TypeError: the strategy has chosen what is no pool of these.
            LaunchError: a pool could not be started.

        Cancellation: no seat is taken.
        """
        if pool is not None:
            return self.named(pool).seats.take()
        if strategy is None and self._on_demand:
            await self._have_one()
        return self._choose(strategy or LeastLoaded())

    def _choose(self, strategy: Strategy) -> Seat:
        mark: object = getattr(strategy, "mark", None)
        if mark is not None and not isinstance(mark, str):
            raise TypeError(f"the mark of {strategy!r} is {mark!r}; it is a text")
        place = self._runtime.place
        offered = [(_view(self._main, place.labels, main=True), self._main)]
        offered += [(_view(pool.seats, pool.labels), pool.seats) for pool in self if pool.usable]
        request = Request(next(self._requests), self._random.random())
        chosen: object = strategy.choose([view for view, _ in offered], request)
        for view, seats in offered:
            if view is chosen or (isinstance(chosen, PoolView) and view == chosen):
                return seats.take(mark)
        raise TypeError(
            f"{strategy!r} has chosen {chosen!r}, which is none of the pools that it was given by the nursery"
            f" {self._nursery.name!r}"
        )

    async def _have_one(self) -> None:
        """See that there is a pool: start one if all are busy and a CPU is left, or wait for one that is coming."""
        while True:
            self._nursery.check_open()
            usable = [each for each in self if each.usable]
            busy = all(each.load for each in usable)
            if busy and len(usable) + len(self._coming) < len(os.sched_getaffinity(0)):
                await self.start(PoolSpec())
                return
            if usable:
                return
            slot = self._runtime.loop.slot()
            self._waiting.append(slot)
            await slot.wait()


def _view(seats: Seats, labels: tuple[str, ...], *, main: bool = False) -> PoolView:
    return PoolView(seats.pool, seats.address, labels, len(seats), main, seats.marks)
