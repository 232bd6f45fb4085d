"""The block that opens a dialogue, and the law of it: when it has been left, the other side has ended."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime.dialogue import Context

if TYPE_CHECKING:
    from xoscar_sc.runtime.conversations import Opening
    from xoscar_sc.runtime.ref import Target


class OpenContext(AbstractAsyncContextManager[tuple[Context, Any]]):
    """``async with pool.open_context(fn, ...) as (ctx, first)``.

    Entering waits until the other side has called ``started``, and gives its value. Leaving waits until the other side
    has returned; leaving by an error or a cancellation cancels it first. If the other side fails, the block is
    cancelled, and raises that.

    Raises:
        RuntimeError: the other side returned before it called ``started``; or it was opened before.
        ContextCancelled: the other side has cancelled the dialogue.
        what the other side raised.
        PoolDied, ActorDied, ActorNotExist, ConnectionLost: there is no other side, any more.

    Cancellation: the other side is cancelled, and waited for, for at most ``Timeouts.cancel`` seconds; then a
    :class:`CancelUnconfirmed` event tells that it has not ended.
    """

    def __init__(
        self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], peer: str
    ) -> None:
        self._target = target
        self._method = method
        self._args = args
        self._kwargs = kwargs
        self._peer = peer
        self._scope = anyio.CancelScope()
        self._deadline = math.inf
        self._opening: Opening
        self._used = False

    @undisturbed
    async def __aenter__(self) -> tuple[Context, Any]:
        if self._used:
            raise RuntimeError("this dialogue has been opened already; call open_context() again")
        self._used = True
        outgoing = self._target.outgoing()
        self._deadline = anyio.current_effective_deadline()
        self._opening = opening = await outgoing.open_dialogue(
            self._target, self._method, self._args, self._kwargs, self._peer
        )
        self._args, self._kwargs = (), {}
        talk = opening.talk
        self._scope.__enter__()
        first: Any = None
        try:
            started = await talk.started.wait()
            if started is None:
                raise talk.failure() or RuntimeError(f"{self._peer} returned before it called started()")
            first = opening.begin(started)
        except BaseException as exc:
            failed = await self._leave(exc)
        else:
            failed = None
        if failed is not None:
            raise failed  # here, where it has no context but its own
        talk.when_failed = self._failed
        if talk.failure() is not None:
            self._failed()
        return Context(opening, opened=False), first

    def _failed(self) -> None:
        """The other side has failed: the block ends, unless it has asked for that."""
        if not self._opening.wanted(self._opening.talk.failure()):
            self._scope.cancel()

    @undisturbed
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        final = await self._leave(exc)
        if final is None:
            return True
        if final is exc:
            return False
        raise final

    async def _leave(self, exc: BaseException | None) -> BaseException | None:
        """End the other side, and wait for it; what is to be raised."""
        opening = self._opening
        talk = opening.talk
        if exc is None:
            talk.side.close()  # who still reads or writes over there need not wait for this side
            try:
                await talk.wait()
            except BaseException as cancelled:
                exc = cancelled
        if not talk.filled:
            try:
                await talk.loop.run_shielded(opening.close)
            except BaseException as interrupted:  # by asyncio's own cancellation, or Ctrl-C
                opening.give_up()
                exc = interrupted
        talk.side.close()
        talk.when_failed = None
        rest = leave_scope(self._scope, exc)
        failure = None if opening.wanted(talk.failure()) else talk.failure()
        if opening.timed_out:
            return rest or await self._wait_deadline() or failure
        return _one(rest, failure, talk.loop.cancelled)

    async def _wait_deadline(self) -> BaseException | None:
        """The other side has seen the deadline pass; it is bound to be here in a moment, as a cancellation."""
        try:
            if self._deadline < math.inf:
                await anyio.sleep_until(self._deadline)
                await anyio.lowlevel.checkpoint()
        except BaseException as exc:
            return exc
        return None


def _one(
    exc: BaseException | None, failure: Exception | None, cancelled: type[BaseException]
) -> BaseException | None:
    """What the block raises of what came out of it, and what the other side failed with."""
    if failure is None or exc is None:
        return exc or failure
    if isinstance(exc, (cancelled, anyio.EndOfStream, anyio.BrokenResourceError)):
        return failure  # which is why; as an exception that a call raises while it is being cancelled
    if _contains(exc, failure):
        return exc
    return BaseExceptionGroup("both sides of a dialogue failed", [exc, failure])


def _contains(exc: BaseException, other: BaseException | None) -> bool:
    return other is not None and any(each is other for each in _leaves(exc))


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from _leaves(each)
    else:
        yield exc


def leave_scope(scope: anyio.CancelScope, exc: BaseException | None) -> BaseException | None:
    """Leave a cancel scope with what its block raised; what it lets through."""
    try:
        swallowed = scope.__exit__(type(exc) if exc else None, exc, exc.__traceback__ if exc else None)
    except BaseException as rest:  # a group without its cancellations
        return rest
    return None if swallowed else exc
