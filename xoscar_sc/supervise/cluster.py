"""A pool for each CPU, under names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from xoscar_sc.supervise.opening import open_pool_nursery
from xoscar_sc.supervise.pool import Pool
from xoscar_sc.supervise.spec import PoolSpec


@asynccontextmanager
async def open_actor_cluster(
    count: int | None = None, names: Sequence[str] | None = None, **options: Any
) -> AsyncIterator[dict[str, Pool]]:
    """Start many pools at the same time: ``async with open_actor_cluster(4) as pools``.

    Args:
        count: how many; one for each CPU that this process may use by default.
        names: what they are called; ``worker-0``, ``worker-1`` and so on by default.
        options: for :func:`open_pool_nursery`, whose block this is.

    Raises:
        TypeError, ValueError: an argument is wrong, or the two do not fit.
        what :func:`open_pool_nursery` raises.

    Source: tractor.
    """
    if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
        raise TypeError(f"count= is {count!r}; it is a number of pools")
    if count is not None and count < 1:
        raise ValueError(f"count= is {count}; it is 1 or more")
    if names is None:
        names = [f"worker-{number}" for number in range(count or len(os.sched_getaffinity(0)))]
    elif isinstance(names, str) or count not in (None, len(names)):
        raise ValueError(f"names= is {names!r}; it has one for each of the pools")
    async with open_pool_nursery([PoolSpec(name) for name in names], **options) as nursery:
        yield {name: nursery.pools[name] for name in names}
