"""The pools of one nursery: which there are, how busy each is, and which one is next."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xoscar_sc.errors import PoolNotExist, XoscarError
from xoscar_sc.events import PoolStarted
from xoscar_sc.strategy import LeastLoaded, PoolView, Request, Strategy
from xoscar_sc.supervise.pool import Pool
from xoscar_sc.supervise.spec import PoolSpec
from xoscar_sc.supervise.start import start_pool

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
        self._main_load = 0
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

    async def start(self, spec: PoolSpec) -> Pool:
        """Start one more; see :meth:`PoolNursery.start_pool`."""
        taken = self.by_name.keys() | self._coming
        if spec.name is not None and spec.name in taken:
            raise ValueError(f"this nursery has a pool {spec.name!r} already")
        name = spec.name or next(each for n in self._numbers if (each := f"pool-{n}") not in taken)
        self._coming.add(name)
        try:
            started = await start_pool(
                self._runtime, self._nursery.id, name, spec, env=self._env, loglevel=self._loglevel
            )
            if self._nursery.closed:  # a task beside the block has asked for it, and it came too late
                started.channel.close()
                started.process.kill()
                await self._runtime.loop.run_shielded(started.process.wait)
                raise XoscarError(f"the nursery {self._nursery.name!r} has been left")
            pool = self.by_name[name] = Pool(self._nursery, started, spec)
            self._nursery.happened(PoolStarted(name, pool.pid, pool.address))
            self._runtime.loop.spawn(pool.watch)
        finally:
            self._coming.discard(name)
            waiting, self._waiting = self._waiting, []
            for slot in waiting:
                slot.set(None)
        return pool

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

    async def choose(self, strategy: Strategy | None) -> str:
        """The address of the pool that is to be used next; it is started if that is due."""
        if strategy is None and self._on_demand:
            await self._have_one()
        views = [PoolView(each.name, each.address, each.labels, each.load) for each in self.by_name.values()]
        place = self._runtime.place
        main = PoolView(place.name, place.address, place.labels, self._main_load, main=True)
        request = Request(next(self._requests), self._random.random())
        return (strategy or LeastLoaded()).choose([main, *views], request).address

    async def _have_one(self) -> None:
        """See that there is a pool: start one if all are busy and a CPU is left, or wait for one that is coming."""
        while True:
            busy = all(each.load for each in self.by_name.values())
            if busy and len(self.by_name) + len(self._coming) < len(os.sched_getaffinity(0)):
                await self.start(PoolSpec())
                return
            if self.by_name:
                return
            slot = self._runtime.loop.slot()
            self._waiting.append(slot)
            await slot.wait()

    def name_of(self, address: str) -> str:
        """The name of the pool at an address."""
        names = (pool.name for pool in self.by_name.values() if pool.address == address)
        return next(names, self._runtime.place.name)

    def load(self, address: str, change: int) -> None:
        """So many more actors and functions are in the pool at ``address``."""
        for pool in self.by_name.values():
            if pool.address == address:
                pool.load += change
                return
        if address == self._runtime.address:
            self._main_load += change
