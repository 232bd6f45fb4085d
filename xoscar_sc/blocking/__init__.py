"""Pool nurseries for programs that are not async: scripts, notebooks, the prompt.

The event loop runs in a thread of its own, so that it does not matter whether one runs already where the program is.
References, pools and streams are as in the rest of the package, with methods that wait in place of those that are
awaited.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from xoscar_sc.blocking.nursery import BlockingNursery
from xoscar_sc.blocking.refs import BlockingMethod, BlockingPool, BlockingRef, BlockingStream
from xoscar_sc.supervise import open_pool_nursery as open_async

__all__ = [
    "BlockingMethod",
    "BlockingNursery",
    "BlockingPool",
    "BlockingRef",
    "BlockingStream",
    "open_pool_nursery",
]


def open_pool_nursery(*args: Any, backend: str = "trio", **kwargs: Any) -> BlockingNursery:
    """A block that owns processes, and the actors in them, for sync code: ``with open_pool_nursery() as n``.

    Without a block, ``n = open_pool_nursery(...).start()`` opens it, and ``n.close()`` ends it, or the program's end.

    Args:
        args: as for :func:`xoscar_sc.open_pool_nursery`, as ``kwargs``.
        backend: the event loop in the thread, ``"trio"`` or ``"asyncio"``.
        kwargs: as ``args``.

    Raises:
        what :func:`xoscar_sc.open_pool_nursery` raises.
    """
    return BlockingNursery(partial(open_async, *args, **kwargs), backend)
