"""One message with an actor: from its arrival to its answer.

A work is made when a message arrives, waits in the actor's mailbox, runs as a turn of the loop, and answers exactly
once. Where the message came from, and where the answer goes, is what its two kinds differ in: :class:`RemoteWork` has
a channel, :class:`LocalWork` a slot of a task in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from xoscar_sc.errors import ActorDied, SerializationError
from xoscar_sc.loop import Scope, Slot, disturbed
from xoscar_sc.protocol import Link
from xoscar_sc.runtime.actor import Message
from xoscar_sc.runtime.current import Frame, current_frame
from xoscar_sc.runtime.dialogue import Context
from xoscar_sc.runtime.generators import KINDS, Feed, Left, run_generator
from xoscar_sc.serialize import describe

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell
    from xoscar_sc.runtime.conversations import Serving
    from xoscar_sc.runtime.declared import Declared

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
Chain: TypeAlias = tuple[Link, ...]


# How far a work has come. Plain numbers: they are looked at several times for each message.
QUEUED, RUNNING, ANSWERED = range(3)


@disturbed
def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a user's function: Ctrl-C reaches it, where it runs in the main thread."""
    return function(*args, **kwargs)


@disturbed
async def undergo(awaitable: Any) -> Any:
    """Wait for what a user's function gave: Ctrl-C reaches that, as it reaches the function."""
    return await awaitable


@disturbed
def run_one_step(
    function: Callable[..., Coroutine[Any, Any, Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    code: object,
) -> Any:
    """The value of a coroutine function that certainly does not wait, as its ``code`` tells.

    One that has other code, since the method was replaced, is given as it is.
    """
    coroutine = function(*args, **kwargs)
    if getattr(coroutine, "cr_code", None) is not code:
        return coroutine
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"{coroutine!r} waits, which its byte code does not tell")


class Work(Frame):
    """See the top of this file. Invariant: ``cell.finished`` is called once for each work that was started."""

    __slots__ = (
        "batch",
        "chain",
        "conversation",
        "deadline",
        "declared",
        "feed",
        "method",
        "returning",
        "scope",
        "stage",
        "token",
        "unwanted",
        "waits",
    )

    def __init__(self, cell: Cell, method: str, chain: Chain, timeout: float | None, batch: bool) -> None:
        self.cell = cell
        self.task = None
        self.ways = None
        self.method = method
        self.chain = chain
        self.batch = batch
        self.deadline = None if timeout is None else cell.runtime.loop.now() + timeout
        self.token = cell.runtime.serial()
        self.scope: Scope | None = None
        self.stage = QUEUED
        self.returning: Slot | None = None
        """Filled when it has the lock again that it has lent."""
        self.feed: Feed | None = None
        """Where the values of its stream go, if its caller reads one."""
        self.unwanted = False
        """Its caller has left its stream."""
        self.waits = False
        """See :class:`~xoscar_sc.runtime.mailbox.Message`."""
        self.conversation: Serving | None = None
        """The dialogue that it opens, if it does."""
        self.declared: Declared | None = None
        """What its value is checked by."""

    def links(self) -> Chain:
        # A function that runs in the pool is a link of nobody's: it hands on the chain it was called with.
        uid = self.cell.uid
        return (*self.chain, (uid, self.method, self.token)) if uid else self.chain

    # What the two kinds differ in

    def arguments(self) -> Arguments:
        """The call's arguments."""
        raise NotImplementedError

    def batch_arguments(self) -> list[Arguments]:
        """The arguments of each call of a batch."""
        raise NotImplementedError

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the answer."""
        raise NotImplementedError

    def answer_value(self, value: object) -> None:
        """Answer with a value; raises :exc:`SerializationError` if it cannot be sent, and has not answered then."""
        raise NotImplementedError

    def answer_error(self, exc: BaseException) -> None:
        """Answer with an exception; if nobody waits, it is the actor's failure."""
        raise NotImplementedError

    def answer_cancelled(self) -> None:
        """Answer that the call was cancelled."""
        raise NotImplementedError

    # Running

    def start(self, scope: Scope) -> Coroutine[Any, Any, None] | None:
        """Begin, as a turn of the loop."""
        cell = self.cell
        rest: Coroutine[Any, Any, None] | None = None
        try:
            if self.stage is QUEUED and (self.deadline is None or self._in_time(scope)):
                self.stage = RUNNING
                self.scope = scope
                self.task = cell.runtime.loop.task()
                current_frame.set(self)
                rest = self._begin(cell)
        except BaseException as exc:  # an exception of the user's, of any kind, has a place to go
            self._raised(exc)
        finally:
            if rest is None:
                self.scope = None  # the next turn's now
                cell.finished(self)
        return rest

    def _in_time(self, scope: Scope) -> bool:
        """Whether the deadline is still to come; then it is that of ``scope``."""
        assert self.deadline is not None
        if self.deadline > self.cell.runtime.loop.now():
            scope.deadline = self.deadline
            return True
        self.stage = ANSWERED
        self.answer_cancelled()
        return False

    def _begin(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        """Call the method; what is left to do if it gave something to wait for."""
        known = cell.methods.get(self.method)
        try:
            if known is None or self.batch or not known.plain or self.conversation is not None:
                known = None
                function, (args, kwargs) = self.prepare()
            else:
                function, (args, kwargs) = getattr(cell.instance, self.method), self.arguments()
        except (SerializationError, AttributeError, TypeError) as exc:
            self.not_executed(exc)
            return None
        if known is None:
            value = call(function, *args, **kwargs)
        elif known.one_step:
            value = run_one_step(function, args, kwargs, known.code)
        elif known.in_thread:
            value = anyio.to_thread.run_sync(partial(function, *args, **kwargs))
        else:
            value = call(function, *args, **kwargs)
        kind = value.__class__
        if kind is CoroutineType or kind in KINDS or hasattr(kind, "__await__"):
            return self._finish(value)
        self._returned(value)
        return None

    def prepare(self) -> tuple[Callable[..., Any], Arguments]:
        """What is to be called, and with what.

        Raises:
            AttributeError: there is no such method.
            TypeError: the arguments do not fit it; it is for dialogues, and this is none, or the other way round.
            SerializationError: the arguments cannot be decoded here.
        """
        cell = self.cell
        known = cell.methods.get(self.method)
        self.declared = None if known is None else known.declared
        if self.batch:
            calls = self.batch_arguments()
            if known is not None and self.declared is not None:
                calls = [known.check(*each) for each in calls]
            args: tuple[Any, ...] = [args for args, _ in calls], [kwargs for _, kwargs in calls]
            kwargs: dict[str, Any] = {}
        else:
            args, kwargs = self.arguments()
            if known is not None and self.declared is not None:
                args, kwargs = known.check(args, kwargs)
        talks = None if known is None else known.talks
        if (talks is None) is not (self.conversation is None):
            how = "is no context" if talks is None else "is a context: it is opened with open_context()"
            raise TypeError(f"{self.method}() {how}")
        if self.conversation is not None and talks is not None:
            self.conversation.declare(talks, self.cell.uid)
            args = (Context(self.conversation, opened=True), *args)
        message = Message(self.method, self.batch, args, kwargs)
        if cell.intercepts:
            return cell.instance.__on_receive__, ((message,), {})
        if self.batch:
            return cell.dispatch, ((message,), {})
        return cell.function(self.method), (args, kwargs)

    async def _finish(self, rest: Any) -> None:
        try:
            await self._wait_and_answer(rest)
        finally:
            self.scope = None  # the next turn's now
            if self.conversation is not None:
                self.conversation.finished()
                self.drop_arguments()
            self.cell.finished(self)

    async def _wait_and_answer(self, rest: Any) -> None:
        cancelled = self.cell.runtime.loop.cancelled
        valued = True
        try:
            value = rest if rest.__class__ in KINDS else await self.cell.awaiter(self)(rest)
            if value.__class__ in KINDS:
                if self.cell.asked_to_end:
                    self.end_stream()
                valued, value = await run_generator(value, self)
        except Left:
            self._left()
        except cancelled as exc:
            self._cancelled(exc)
        except BaseExceptionGroup as exc:
            others = exc.split(cancelled)[1]
            if others is None:
                self._cancelled(exc)
            else:
                self._raised(exc)
        except BaseException as exc:  # as above
            self._raised(exc)
        else:
            self._returned(value, valued=valued)

    # Answering

    def _returned(self, value: object, *, valued: bool = True) -> None:
        if self.stage is ANSWERED:
            return
        self.stage = ANSWERED
        if self.conversation is not None and self.conversation.reason is not None:
            self.answer_error(self.conversation.reason)
            return
        try:
            if self.declared is not None and valued and self.awaited:
                value = self.declared.give(self.method, value, batch=self.batch)
            self.answer_value(value if self.feed is None else (valued, value))
        except Exception as exc:  # it cannot be encoded, or is too large, or not what is declared
            self.answer_error(exc)

    def not_executed(self, exc: Exception) -> None:
        """The message makes no sense here, or has no place: its sender hears of it, and the actor goes on."""
        if self.stage is ANSWERED:
            return
        self.stage = ANSWERED
        if self.awaited:
            self.answer_error(exc)
        else:
            self.cell.runtime.dropped(self.cell.uid, self.method, describe(exc))

    def _raised(self, exc: BaseException) -> None:
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            # The process ends, and that is what the caller will hear.
            self.stage = ANSWERED
            self.cell.runtime.exit_with(exc)
        elif self.stage is not ANSWERED:
            self.stage = ANSWERED
            self.answer_error(exc)
            self.cell.raised(self.method, exc)

    def _cancelled(self, exc: BaseException) -> None:
        if self.stage is ANSWERED:
            return
        self.stage = ANSWERED
        if self.conversation is not None and self.conversation.reason is not None:
            self.answer_error(self.conversation.reason)
        elif self.cell.ending or self.cell.abandoned:
            self.answer_error(self.cell.died(maybe_executed=True))
        elif self.scope is not None and self.scope.cancel_called:
            self.answer_cancelled()
        else:
            self.answer_error(
                ActorDied(
                    f"{self.method}() was cancelled from inside: {exc!r}",
                    uid=self.cell.uid,
                    maybe_executed=True,
                )
            )

    def _left(self) -> None:
        """Its generator was closed before its end."""
        if self.stage is ANSWERED:
            return
        self.stage = ANSWERED
        if self.unwanted:
            self.answer_cancelled()
        else:
            self.answer_error(self.cell.died(maybe_executed=True))

    @property
    def answered(self) -> bool:
        """It has been answered, refused or cancelled."""
        return self.stage is ANSWERED

    def executed(self) -> None:
        """It has run, or never will: its sender may send another."""

    # Being cancelled

    def withdraw(self) -> None:
        """Its caller no longer wants it: it never runs, or is cancelled.

        A generator that waits for its reader is closed, and may wait for something while it is.
        """
        if self.conversation is not None:
            self.conversation.withdrawn()
        if self.unwanted:
            return  # it is being closed, and has its time for that
        feed = self.feed
        if feed is not None and feed.waiting and self.scope is not None:
            self.unwanted = True
            runtime = self.cell.runtime
            self.scope.deadline = min(self.scope.deadline, runtime.loop.now() + runtime.timeouts.cancel)
            feed.leave()
        else:
            self.cancel()

    def end_stream(self) -> None:
        """Its actor is to end: its generator is closed at its next ``yield``."""
        if self.conversation is not None:
            self.conversation.end(self.cell.died(maybe_executed=True))
        elif self.feed is not None:
            self.feed.leave()

    def cancel(self) -> None:
        """It never runs, or is cancelled."""
        if self.stage is QUEUED and not self.awaited:
            self.refuse(self.cell.died(maybe_executed=False))
        elif self.stage is QUEUED:
            self._never_runs()
            self.answer_cancelled()
        elif self.stage is RUNNING and self.scope is not None:
            self.scope.cancel()

    def _never_runs(self) -> None:
        """It is answered, and its arguments are of no use any more, however long it stays in its mailbox."""
        self.stage = ANSWERED
        self.cell.mailbox.answered(self)
        self.drop_arguments()

    def drop_arguments(self) -> None:
        """Forget the arguments."""
        raise NotImplementedError

    def break_off(self, exc: Exception) -> None:
        """Its caller gets ``exc`` now; if it runs, it is cancelled."""
        if self.stage is RUNNING:
            self.stage = ANSWERED
            self.answer_error(exc)
            if self.scope is not None:
                self.scope.cancel()
        else:
            self.refuse(exc)

    def break_dialogue(self, exc: Exception) -> None:
        """Cancel it; its caller gets ``exc``, when it has ended."""
        if self.stage is RUNNING and self.scope is not None:
            self.scope.cancel()
        else:
            self.refuse(exc)

    def pass_on(self, heir: Cell) -> None:
        """It is for the next incarnation of its actor."""
        self.cell = heir
        heir.accept(self)

    def refuse(self, exc: BaseException) -> None:
        """It never runs, because of ``exc``."""
        if self.stage is QUEUED:
            self._never_runs()
            self.answer_error(exc)
