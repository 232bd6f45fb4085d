"""How messages come to an actor: who may start, who waits, who is refused.

The mailbox decides (:mod:`xoscar_sc.runtime.mailbox`); here it is carried out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import anyio

from xoscar_sc.errors import ActorDied, DeadlockError, MailboxFull, StateError
from xoscar_sc.runtime.actor import Actor, Message, StatelessActor
from xoscar_sc.runtime.current import current_frame
from xoscar_sc.runtime.generators import KINDS, AsyncSteps, Steps, run_generator
from xoscar_sc.runtime.mailbox import Mailbox
from xoscar_sc.runtime.methods import DURABLE, LOCAL, Method, intercepts, is_awaitable, methods_of
from xoscar_sc.runtime.traits import Traits
from xoscar_sc.runtime.work import Work, call, undergo

if TYPE_CHECKING:
    from xoscar_sc.loop import Slot
    from xoscar_sc.runtime.runtime import Runtime


class Intake:
    """What a cell has to do with messages; whether it takes any, the cell says."""

    def __init__(self, runtime: Runtime, cls: type[StatelessActor], uid: str, traits: Traits) -> None:
        self.runtime = runtime
        self.cls = cls
        self.uid = uid
        self.instance: Any = None
        self.methods: dict[str, Method] = methods_of(cls)
        self.intercepts = intercepts(cls)
        """Messages go to ``__on_receive__``, which is the class's own."""
        self.mailbox: Mailbox[Work] = Mailbox(
            uid, serial=issubclass(cls, Actor), bound=traits.bound, overflow=traits.overflow
        )
        self.undergo: Callable[[Any], Awaitable[Any]] = undergo
        """How what the actor's own code gives is awaited; another where that is asyncio code."""
        self.steps: Callable[[Any], Steps] = AsyncSteps
        """How its asynchronous generators are run."""
        self._senders: deque[Slot] = deque()
        """Of those in this pool who wait for room in the mailbox."""
        self._idle: Slot | None = None

    @property
    def ending(self) -> bool:
        """Whether it takes no more messages."""
        raise NotImplementedError

    def where(self) -> str:
        """The actor, for the note of an exception."""
        raise NotImplementedError

    def died(self, *, maybe_executed: bool) -> ActorDied:
        """What a message gets that the actor will not answer any more."""
        raise NotImplementedError

    def turn_away(self, work: Work) -> None:
        """Refuse a message, since the actor takes no more."""
        raise NotImplementedError

    def accept(self, work: Work) -> None:
        """Take a message: it runs now, or when those before it have run, or is refused."""
        if self.ending:
            self.turn_away(work)
            return
        known = self.methods.get(work.method)
        if known is not None and known.apart:
            self.runtime.loop.submit(work)
            return
        try:
            starts, dropped = self.mailbox.put(work, beside=known is not None and known.beside)
        except DeadlockError as exc:
            work.refuse(exc)
            return
        if starts:
            self.runtime.loop.submit(work)
            return
        if dropped is not None:
            self._drop(dropped)
        if work.chain:
            self.runtime.deadlocks.blocked(work)

    def _drop(self, work: Work) -> None:
        """The mailbox is full, and this is the message that does not fit."""
        work.not_executed(self.full())
        work.executed()

    def full(self) -> MailboxFull:
        """What a message gets that does not fit into the mailbox."""
        return MailboxFull(f"the mailbox of {self.where()} is full: {self.mailbox.bound} messages wait")

    def finished(self, work: Work) -> None:
        """A message has run: the next one may."""
        work.executed()
        self._go_on(self.mailbox.finished(work))
        if self._idle is not None and self.mailbox.empty:
            self._idle.set(None)

    def _go_on(self, following: Work | None) -> None:
        """The message whose turn it is: it starts, or has back the lock that it had lent."""
        if following is not None:
            if following.returning is not None:
                following.returning.set(None)
            else:
                self.runtime.loop.submit(following)
        if self._senders and not self.mailbox.crowded:
            self._senders.popleft().set(None)

    async def wait_room(self) -> None:
        """Wait until the mailbox takes one more message.

        Cancellation: no room was taken.
        """
        while self.mailbox.crowded and not self.ending:
            slot = self.runtime.loop.slot()
            self._senders.append(slot)
            try:
                await slot.wait()
            except BaseException:
                if slot.filled and self._senders:
                    self._senders.popleft().set(None)
                elif not slot.filled:
                    self._senders.remove(slot)
                raise

    def unlocked(self) -> AbstractAsyncContextManager[None]:
        """Let other messages in, and wait for the lock again in the end, whatever happens."""
        return _Unlocked(self)

    def lend(self) -> Work | None:
        """Lend the lock; the message that has lent it, or None if this code does not have it."""
        work = self.mailbox.holder
        # A task of the actor's nursery has the context of the message that started it, and not its lock.
        if work is None or current_frame.get() is not work or not self.runtime.loop.within(work.task):
            return None
        self.lend_by(work)
        return work

    def lend_by(self, work: Work) -> None:
        """Lend the lock, which is this message's."""
        work.returning = self.runtime.loop.slot()
        self._go_on(self.mailbox.lend(work))

    async def take_back(self, work: Work) -> None:
        """Wait until a message has the lock again that it has lent."""
        slot = work.returning
        assert slot is not None
        if not self.mailbox.want_back(work):
            if work.chain:
                self.runtime.deadlocks.blocked(work)
            await self.runtime.loop.run_shielded(slot.wait)
        work.returning = None

    def function(self, name: str) -> Callable[..., Any]:
        """The actor's method of this name, bound.

        Raises:
            AttributeError: there is none, or it is private.
            StateError: it is for durable tells, and the actor has no journal.
        """
        if name == DURABLE:
            raise StateError(
                f"{self.where()} keeps no journal: create it with snapshot=xsc.Snapshots(path) to tell it durably"
            )
        if name in self.methods:
            return getattr(self.instance, name)  # type: ignore[no-any-return]
        function: Any = None if name.startswith("_") or name in LOCAL else getattr(self.instance, name, None)
        if not callable(function) or isinstance(function, type):
            raise AttributeError(f"{self.cls.__name__} has no public method {name!r}")  # noqa: TRY004
        return cast("Callable[..., Any]", function)

    def batch_function(self, name: str) -> Callable[..., Any] | None:
        """The method's version for many calls, bound, if it has one."""
        method = self.methods.get(name)
        if method is None or method.batch is None:
            return None
        bound: Callable[..., Any] = getattr(self.instance, name).batch
        return bound

    async def dispatch(self, message: Message) -> Any:
        """Call the method that a message is for; a generator is given as it is.

        Raises:
            AttributeError: there is none, or it is private.
            what the method raises.
        """
        name, batch, args, kwargs = message
        if batch:
            return await self._run_batch(name, *args)
        value = call(self._in_place(name), *args, **kwargs)
        return await self.undergo(value) if is_awaitable(value) else value

    def _in_place(self, name: str) -> Callable[..., Any]:
        """The actor's method, which a thread runs if that is its place."""
        function = self.function(name)
        known = self.methods.get(name)
        if known is None or not known.in_thread:
            return function
        return lambda *args, **kwargs: anyio.to_thread.run_sync(partial(function, *args, **kwargs))

    async def _run_batch(
        self, name: str, args_list: list[tuple[Any, ...]], kwargs_list: list[dict[str, Any]]
    ) -> list[Any]:
        batch = self.batch_function(name)
        if batch is None:
            return await self._run_each(self._in_place(name), args_list, kwargs_list)
        values = call(batch, args_list, kwargs_list)
        if is_awaitable(values):
            values = await self.undergo(values)
        if values is None:
            return [None] * len(args_list)
        if len(values) != len(args_list):
            raise TypeError(
                f"the batch version of {name}() gave {len(values)} results for {len(args_list)} calls"
            )
        return list(values)

    async def _run_each(
        self,
        function: Callable[..., Any],
        args_list: list[tuple[Any, ...]],
        kwargs_list: list[dict[str, Any]],
    ) -> list[Any]:
        values = []
        for args, kwargs in zip(args_list, kwargs_list, strict=True):
            value = call(function, *args, **kwargs)
            if is_awaitable(value):
                value = await self.undergo(value)
            if value.__class__ in KINDS:
                work = current_frame.get()
                assert isinstance(work, Work)
                value = (await run_generator(value, work))[1]
            values.append(value)
        return values

    # Waiting

    def awaiter(self, work: Work) -> Callable[[Any], Awaitable[Any]]:
        """How what a message gave is awaited: dialogues, batches and durable tells are this package's own code."""
        own = work.conversation is not None or work.method == DURABLE
        return undergo if own or (work.batch and not self.intercepts) else self.undergo

    def let_senders_go(self) -> None:
        """Nobody has to wait for room any more."""
        while self._senders:
            self._senders.popleft().set(None)

    async def wait_idle(self) -> None:
        """Wait until no message runs or waits."""
        while not self.mailbox.empty:
            self._idle = self.runtime.loop.slot()
            await self._idle.wait()


class _Unlocked(AbstractAsyncContextManager[None]):
    # By hand, since what contextlib makes touches the exceptions that pass through it.

    def __init__(self, cell: Intake) -> None:
        self._cell = cell
        self._work: Work | None = None

    async def __aenter__(self) -> None:
        self._work = self._cell.lend()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        work, self._work = self._work, None
        if work is not None:
            await self._cell.take_back(work)
