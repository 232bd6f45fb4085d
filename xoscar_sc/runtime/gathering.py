"""Several things at the same time, in one block: their values, or the one error that came of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import anyio

from xoscar_sc.runtime.current import delegate, running_runtime, waiting_frame

V = TypeVar("V")


async def gather(functions: Iterable[Callable[[], Coroutine[Any, Any, V]]]) -> list[V]:
    """Run functions at the same time; their values, in order.

    Raises:
        what one of them raised, as itself; what several raised, as a group. The others are cancelled.
    """
    functions = list(functions)
    values: list[Any] = [None] * len(functions)
    runtime = running_runtime()
    reader = None if runtime is None else waiting_frame(runtime.loop)

    async def fill(index: int, function: Callable[[], Coroutine[Any, Any, V]]) -> None:
        delegate(reader)
        values[index] = await function()

    failure: BaseExceptionGroup | None = None
    try:
        async with anyio.create_task_group() as group:
            for index, function in enumerate(functions):
                group.start_soon(fill, index, function)
    except BaseExceptionGroup as exc:
        failure = exc
    if failure is not None:  # not while it is handled: what is raised keeps its own context
        raise alone(failure)
    return values


async def awaited(awaitable: Awaitable[V]) -> V:
    """What an awaitable gives, as a coroutine function."""
    return await awaitable


def alone(group: BaseExceptionGroup) -> BaseException:
    """The one exception of a group; the group, if it has several."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group


@asynccontextmanager
async def gather_contexts(
    managers: Iterable[AbstractAsyncContextManager[V]],
) -> AsyncIterator[tuple[V, ...]]:
    """Enter many context managers at the same time: ``async with gather_contexts([...]) as values``.

    The values are in the order of the managers. Each manager is entered and left in a task of its own, so that those
    with cancel scopes need no order; in the end all are left at the same time.

    Raises:
        what a manager raised when it was entered; those that were entered already are left.
        what the block or a manager raised, as itself if it is one; what several raised, as a group.

    Source: tractor.
    """
    managers = list(managers)
    values: list[Any] = [None] * len(managers)
    missing = len(managers)
    entered, over = anyio.Event(), anyio.Event()
    if not missing:
        entered.set()
    error: Exception | None = None
    """The block's own."""

    async def hold(index: int, manager: AbstractAsyncContextManager[V]) -> None:
        nonlocal missing
        try:
            async with manager as values[index]:
                missing -= 1
                if not missing:
                    entered.set()
                await over.wait()
                if error is not None:
                    raise error  # each manager sees it, as it would around the block
        except Exception as exc:
            if exc is not error:
                raise

    failures: list[BaseException] = []
    try:
        async with anyio.create_task_group() as group:
            for index, manager in enumerate(managers):
                group.start_soon(hold, index, manager)
            await entered.wait()
            try:
                yield tuple(values)
            except Exception as exc:
                error = exc
            over.set()
    except BaseExceptionGroup as exc:
        failures = list(exc.exceptions)
    failures = [*([] if error is None else [error]), *failures]
    if failures:  # not while one is handled: what is raised keeps its own context
        raise alone(BaseExceptionGroup("several contexts failed", failures))
