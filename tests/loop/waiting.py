"""How tests of what runs on a loop wait: for what they wait for, and never for the clock."""

from __future__ import annotations

from collections.abc import Callable

import anyio.lowlevel
import trio

from xoscar_sc.loop import running_library

PASSES = 100
"""Passes of asyncio's loop in which everything happens that is going to."""


async def settle() -> None:
    """Wait until nothing happens any more, unless something comes in from outside."""
    if running_library() == "trio":
        await trio.testing.wait_all_tasks_blocked()
    else:
        for _ in range(PASSES):
            await anyio.lowlevel.checkpoint()


async def until(condition: Callable[[], object]) -> None:
    """Let everybody else run until something is the case; the test's own bound is around it."""
    while not condition():
        await anyio.lowlevel.checkpoint()
