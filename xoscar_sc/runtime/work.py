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

from xoscar_sc.errors import ActorDied, FrameTooLarge, SerializationError
from xoscar_sc.ipc import Channel, Segments
from xoscar_sc.loop import Scope, Slot, disturbed
from xoscar_sc.protocol import Call, Cancelled, Failed, Failure, Link, Tell
from xoscar_sc.runtime.current import Frame, current_frame
from xoscar_sc.serialize import dumps, loads_batch, loads_call, record

if TYPE_CHECKING:
    from xoscar_sc.runtime.cell import Cell

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
Chain: TypeAlias = tuple[Link, ...]


# How far a work has come. Plain numbers: they are looked at several times for each message.
_QUEUED, _RUNNING, _ANSWERED = range(3)


def is_awaitable(value: object) -> bool:
    """Whether a value has to be awaited to get the real one."""
    return value.__class__ is CoroutineType or hasattr(value.__class__, "__await__")


@disturbed
def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a user's function: Ctrl-C reaches it, where it runs in the main thread."""
    return function(*args, **kwargs)


@disturbed
def run_one_step(coroutine: Any) -> Any:
    """The value of a coroutine that certainly does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"{coroutine!r} waits, which its byte code does not tell")


class Work:
    """See the top of this file. Invariant: ``cell.finished`` is called once for each work that was started."""

    __slots__ = ("batch", "cell", "chain", "deadline", "method", "returning", "scope", "stage", "token")

    def __init__(self, cell: Cell, method: str, chain: Chain, timeout: float | None, batch: bool) -> None:
        self.cell = cell
        self.method = method
        self.chain = chain
        self.batch = batch
        self.deadline = None if timeout is None else cell.runtime.loop.now() + timeout
        self.token = cell.runtime.serial()
        self.scope: Scope | None = None
        self.stage = _QUEUED
        self.returning: Slot | None = None
        """Filled when it has the lock again that it has lent."""

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
        if self.stage is not _QUEUED:
            cell.finished(self)
            return None
        self.stage = _RUNNING
        if self.deadline is not None:
            if self.deadline <= cell.runtime.loop.now():
                self.stage = _ANSWERED
                self.answer_cancelled()
                cell.finished(self)
                return None
            scope.deadline = self.deadline
        self.scope = scope
        # A function that runs in the pool is a link of nobody's: it hands on the chain it was called with.
        links = (*self.chain, (cell.uid, self.method, self.token)) if cell.uid else self.chain
        current_frame.set(Frame(cell, cell.runtime.loop.task(), links))
        known = cell.methods.get(self.method)
        rest = False
        try:
            function, arguments = self.prepare()
        except (SerializationError, AttributeError) as exc:
            self.not_executed(exc)
            cell.finished(self)
            return None
        try:
            if known is not None and known.in_thread and not self.batch:
                value = anyio.to_thread.run_sync(partial(function, *arguments[0], **arguments[1]))
            else:
                value = call(function, *arguments[0], **arguments[1])
            if known is not None and known.one_step and not self.batch:
                value = run_one_step(value)
            else:
                rest = is_awaitable(value)
        except BaseException as exc:  # an exception of the user's, of any kind, has a place to go
            self._raised(exc)
        else:
            if rest:
                return self._finish(value)
            self._returned(value)
        cell.finished(self)
        return None

    def prepare(self) -> tuple[Callable[..., Any], Arguments]:
        """What is to be called, and with what.

        Raises:
            AttributeError: there is no such method.
            SerializationError: the arguments cannot be decoded here.
        """
        if self.batch:
            return self._run_batch, ((self.batch_arguments(),), {})
        return self.cell.function(self.method), self.arguments()

    async def _finish(self, rest: Any) -> None:
        cancelled = self.cell.runtime.loop.cancelled
        try:
            value = await rest
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
            self._returned(value)
        self.cell.finished(self)

    async def _run_batch(self, calls: list[Arguments]) -> list[Any]:
        cell = self.cell
        batch = cell.batch_function(self.method)
        if batch is not None:
            values = batch([args for args, _ in calls], [kwargs for _, kwargs in calls])
            if is_awaitable(values):
                values = await values
            if values is None:
                return [None] * len(calls)
            if len(values) != len(calls):
                raise TypeError(
                    f"the batch version of {self.method}() gave {len(values)} results for {len(calls)} calls"
                )
            return list(values)
        function = cell.function(self.method)
        results = []
        for args, kwargs in calls:
            value = call(function, *args, **kwargs)
            results.append(await value if is_awaitable(value) else value)
        return results

    # Answering

    def _returned(self, value: object) -> None:
        if self.stage is _ANSWERED:
            return
        self.stage = _ANSWERED
        try:
            self.answer_value(value)
        except SerializationError as exc:
            self.answer_error(exc)

    def not_executed(self, exc: Exception) -> None:
        """The message makes no sense here, or has no place: its sender hears of it, and the actor goes on."""
        if self.stage is _ANSWERED:
            return
        self.stage = _ANSWERED
        if self.awaited:
            self.answer_error(exc)
        else:
            self.cell.runtime.dropped(self.cell.uid, self.method, str(exc))

    def _raised(self, exc: BaseException) -> None:
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            # The process ends, and that is what the caller will hear.
            self.stage = _ANSWERED
            self.cell.runtime.exit_with(exc)
        elif self.stage is not _ANSWERED:
            self.stage = _ANSWERED
            self.answer_error(exc)

    def _cancelled(self, exc: BaseException) -> None:
        if self.stage is _ANSWERED:
            return
        self.stage = _ANSWERED
        if self.cell.ending or self.cell.abandoned:
            self.answer_error(self.cell.died(maybe_executed=True))
        elif self.scope is not None and self.scope.cancel_called:
            self.answer_cancelled()
        else:
            self.answer_error(
                ActorDied(f"{self.method}() was cancelled from inside: {exc!r}", uid=self.cell.uid)
            )

    @property
    def answered(self) -> bool:
        """It has been answered, refused or cancelled."""
        return self.stage is _ANSWERED

    def executed(self) -> None:
        """It has run, or never will: its sender may send another."""

    # Being cancelled

    def cancel(self) -> None:
        """Its caller no longer wants it: it never runs, or is cancelled."""
        if self.stage is _QUEUED and not self.awaited:
            self.refuse(self.cell.died(maybe_executed=False))
        elif self.stage is _QUEUED:
            self.stage = _ANSWERED
            self.answer_cancelled()
        elif self.stage is _RUNNING and self.scope is not None:
            self.scope.cancel()

    def refuse(self, exc: BaseException) -> None:
        """It never runs, because of ``exc``."""
        if self.stage is _QUEUED:
            self.stage = _ANSWERED
            self.answer_error(exc)


class RemoteWork(Work):
    """A message from another process."""

    __slots__ = ("body", "channel", "id", "segments")

    def __init__(self, cell: Cell, message: Call | Tell, segments: Segments, channel: Channel) -> None:
        self.body = message.body
        self.segments = segments
        self.channel = channel
        if isinstance(message, Call):
            self.id: int | None = message.id
            channel.serving[message.id] = self
            super().__init__(cell, message.method, message.chain, message.timeout, message.batch)
        else:
            self.id = None
            super().__init__(cell, message.method, (), None, message.batch)

    @property
    def awaited(self) -> bool:
        return self.id is not None

    def arguments(self) -> Arguments:
        return loads_call(self.body, self.segments)

    def batch_arguments(self) -> list[Arguments]:
        return loads_batch(self.body, self.segments)

    def answer_value(self, value: object) -> None:
        if self.id is not None:
            segments: list[memoryview] = []
            body = dumps(value, segments)
            del self.channel.serving[self.id]
            self.channel.reply(self.id, body, segments)

    def answer_error(self, exc: BaseException) -> None:
        if self.id is None:
            self.cell.tell_failed(self.method, exc)
        else:
            del self.channel.serving[self.id]
            post_failure(self.channel, self.id, exc, self.cell.where())

    def executed(self) -> None:
        if self.id is None:
            # At the end nothing is gathered: nobody would give it back.
            bound = 1 if self.cell.ending else self.cell.mailbox.bound
            self.channel.executed(self.cell.uid, bound)

    def answer_cancelled(self) -> None:
        if self.id is not None:
            del self.channel.serving[self.id]
            self.channel.post(Cancelled(self.id))


def post_failure(channel: Channel, call: int, exc: BaseException, where: str) -> None:
    """Answer a call with an exception, in short if it is too large to be sent."""
    failure = record(exc, where=where)
    try:
        channel.post(Failed(call, failure))
    except FrameTooLarge:
        text = f"{failure.text[:2000]} ... (shortened: the exception is too large to be sent)"
        channel.post(Failed(call, Failure(failure.type_name, text, traceback=failure.traceback[-20000:])))


class LocalWork(Work):
    """A message from a task of this process; nothing is copied."""

    __slots__ = ("_calls", "slot")

    def __init__(
        self,
        cell: Cell,
        method: str,
        calls: Any,
        slot: Slot | None,
        chain: Chain,
        timeout: float | None,
        batch: bool,
    ) -> None:
        super().__init__(cell, method, chain, timeout, batch)
        self._calls = calls
        self.slot = slot

    @property
    def awaited(self) -> bool:
        return self.slot is not None

    def arguments(self) -> Arguments:
        return self._calls  # type: ignore[no-any-return]

    def batch_arguments(self) -> list[Arguments]:
        return self._calls  # type: ignore[no-any-return]

    def answer_value(self, value: object) -> None:
        if self.slot is not None:
            self.slot.set((True, value))

    def answer_error(self, exc: BaseException) -> None:
        if self.slot is None:
            self.cell.tell_failed(self.method, exc)
        else:
            self.slot.set((False, exc))

    def answer_cancelled(self) -> None:
        if self.slot is not None:
            self.slot.set((None, None))

    def _raised(self, exc: BaseException) -> None:
        super()._raised(exc)
        if self.slot is not None and isinstance(exc, (SystemExit, KeyboardInterrupt)):
            self.slot.set((False, exc))


class LocalRest(LocalWork):
    """What is left to do of a message whose method has been called already, and gave an awaitable."""

    __slots__ = ()

    def prepare(self) -> tuple[Callable[..., Any], Arguments]:
        return _given, ((self._calls,), {})


def _given(value: Any) -> Any:
    return value
