"""What the package asks of the event loop: a seam of one class, on trio and on asyncio.

Pools run trio. The program that opens the outermost nursery may run asyncio instead; nurseries are written on
anyio, which serves both. The path of a message is not: a scheduler pass costs more there than all the rest, so
it asks for a few primitives by name, and each loop brings its best.

Sockets are watched by callbacks, level-triggered, on both. A callback must not block and must not raise.
"""

from __future__ import annotations

from xoscar_sc.loop._base import Host, Loop, Scope, Slot, Turn
from xoscar_sc.loop._current import (
    disturbed,
    open_loop,
    preload_trio,
    run_as_guest,
    running_library,
    undisturbed,
)
from xoscar_sc.loop._ends import BrokenResourceError, ClosedResourceError, EndOfStream, WouldBlock

__all__ = [
    "BrokenResourceError",
    "ClosedResourceError",
    "EndOfStream",
    "Host",
    "Loop",
    "Scope",
    "Slot",
    "Turn",
    "WouldBlock",
    "disturbed",
    "open_loop",
    "preload_trio",
    "run_as_guest",
    "running_library",
    "undisturbed",
]
