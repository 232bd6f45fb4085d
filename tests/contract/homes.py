"""Places for actors, in which actors and pools are ended at random, and made again under their names."""

from __future__ import annotations

import math
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

import xoscar_sc as xsc
from tests.contract.driving import causes
from tests.contract.history import send_all


@contextmanager
def seeded() -> Iterator[int]:
    """A seed, another one each time unless ``XSC_SEED`` says which; whatever fails in the block names it."""
    seed = int(os.environ.get("XSC_SEED") or random.SystemRandom().getrandbits(32))
    print(f"\nXSC_SEED={seed}")
    try:
        yield seed
    except BaseException as exc:
        exc.add_note(f"XSC_SEED={seed}")
        raise


class Home:
    """A nursery for one pool at a time, with actors and a sender in it.

    Args:
        name: unique among the homes.
        seed: what happens follows from it.
        directory: where everybody writes.
        actors: the class of each by its uid, and what ``create_actor`` is told.
        odds: how often what is done to them is done; see the methods.
        ways: how the sender in the pool sends.
        uids: to whom it sends; filled in by whoever knows all homes.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        directory: Path,
        actors: dict[str, tuple[type[Any], dict[str, Any]]],
        odds: dict[str, int],
        ways: dict[str, int],
    ) -> None:
        self.name = name
        self.actors = actors
        self.uids: list[str] = []
        self.pool: xsc.Pool | None = None
        """The one that is there, or was there last."""
        self.done: Counter[str] = Counter()
        self.unexpected: list[BaseException] = []
        self._seed = seed
        self._directory = str(directory)
        self._odds = odds
        self._ways = ways
        self._chance = random.Random(f"{seed} {name}")
        self._calm = False
        self._closing = anyio.Event()

    def calm_down(self) -> None:
        """From now on nothing is ended."""
        self._calm = True

    def close(self) -> None:
        """Let it end."""
        self._closing.set()

    async def live(self) -> None:
        """Open the nursery, and again each time when a kill has ended it, up to :meth:`close`."""
        while not self._closing.is_set():
            try:
                async with xsc.open_pool_nursery(pools=0) as n:
                    while not self._closing.is_set():
                        await self._live_in_pool(n)
            except* xsc.PoolDied as group:
                self.unexpected += [
                    exc for exc in causes(group) if getattr(exc, "signal", 0) != signal.SIGKILL
                ]

    async def _live_in_pool(self, n: xsc.PoolNursery) -> None:
        self.done["pools"] += 1
        pool = self.pool = await n.start_pool()
        for uid in self.actors:
            await self._create(pool, uid)
        async with anyio.create_task_group() as group:
            group.start_soon(self._send, pool)
            while not self._calm and pool.exit is None:
                await anyio.sleep(self._chance.uniform(0, 0.1))
                what = self._chance.choices(list(self._odds), list(self._odds.values()))[0]
                self.done[what] += 1
                if what == "stop":
                    group.start_soon(self.stop, pool, self._chance.uniform(0, 1))
                else:
                    await getattr(self, what)(n, pool, self._chance.choice(list(self.actors)))
            if pool.exit is None:
                await self._closing.wait()
            group.cancel_scope.cancel()

    async def _create(self, pool: xsc.Pool, uid: str) -> None:
        cls, options = self.actors[uid]
        await pool.create_actor(cls, self._directory, uid=uid, **options)

    async def _send(self, pool: xsc.Pool) -> None:
        name = f"function-{self.name}-{self.done['pools']}"
        try:
            await pool.run(
                send_all, self._directory, name, self._seed, self.uids, self._ways, 10**6, math.inf
            )
        except xsc.PoolDied:
            pass

    # What is done to it

    async def destroy(self, n: xsc.PoolNursery, pool: xsc.Pool, uid: str) -> None:
        """End an actor in good order, and make another of its name."""
        await n.actors[uid].destroy()
        await self._create(pool, uid)

    async def kill(self, n: xsc.PoolNursery, pool: xsc.Pool, uid: str) -> None:
        """Kill an actor, and make another of its name."""
        await n.actors[uid].kill()
        await self._create(pool, uid)

    async def kill_pool(self, _n: xsc.PoolNursery, pool: xsc.Pool, _uid: str) -> None:
        """Have the pool killed by its nursery, which goes on with another."""
        pool.kill()
        await pool.wait()

    async def sigkill(self, _n: xsc.PoolNursery, pool: xsc.Pool, _uid: str) -> None:
        """Kill the pool from outside, by which its nursery fails."""
        os.kill(pool.pid, signal.SIGKILL)
        await anyio.sleep_forever()

    async def stop(self, pool: xsc.Pool, seconds: float) -> None:
        """Stop the pool for a while."""
        if pool.exit is not None:
            return
        os.kill(pool.pid, signal.SIGSTOP)
        try:
            await anyio.sleep(seconds)
        finally:
            if pool.exit is None:
                try:
                    os.kill(pool.pid, signal.SIGCONT)
                except ProcessLookupError:  # it has ended this moment
                    pass
