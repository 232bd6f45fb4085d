"""Which loop is running here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from trio import lowlevel

from xoscar_sc.loop._base import Host, Loop

if TYPE_CHECKING:
    from xoscar_sc.loop._asyncio import AsyncioLoop
    from xoscar_sc.loop._trio import TrioLoop

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def running_library() -> str:
    """``"trio"`` or ``"asyncio"``.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return "trio"
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return "asyncio"
    raise RuntimeError("no event loop is running in this thread; use trio.run, anyio.run or asyncio.run")


def undisturbed(function: F) -> F:
    """Keep Ctrl-C out of a function on trio: it is noticed when the function waits, or has ended.

    Without that, it may come between two steps that belong together, of writing a message, say.
    """
    return lowlevel.enable_ki_protection(function)


def disturbed(function: F) -> F:
    """Let Ctrl-C in again: for what calls a user's code from an :func:`undisturbed` function."""
    return lowlevel.disable_ki_protection(function)


def preload_trio() -> None:
    """Import what trio's side needs, so that processes that are forked from this one need not."""
    for module in ("xoscar_sc.loop._trio", "anyio._backends._trio"):
        importlib.import_module(module)


def run_as_guest(fn: Callable[[Host], Coroutine[Any, Any, T]], *, uvloop: bool) -> T:
    """Run trio on an asyncio loop, which is imported now; what ``fn`` gives. See :class:`Host`."""
    from xoscar_sc.loop import _guest

    return _guest.run_as_guest(fn, uvloop=uvloop)


@asynccontextmanager
async def open_loop() -> AsyncIterator[Loop]:
    """Serve the running event loop for as long as the block lasts; what still runs at its end is cancelled."""
    if running_library() == "trio":
        from xoscar_sc.loop._trio import TrioLoop

        loop: TrioLoop | AsyncioLoop = TrioLoop()
    else:
        from xoscar_sc.loop._asyncio import AsyncioLoop

        loop = AsyncioLoop()
    await loop.open()
    try:
        yield loop
    finally:
        await loop.aclose()
