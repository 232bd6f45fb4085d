"""How messages come to an actor: who may start, who waits, who is refused.

The mailbox decides (:mod:`xoscar_sc.runtime.mailbox`); here it is carried out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from xoscar_sc.errors import ActorDied, DeadlockError, MailboxFull
from xoscar_sc.runtime.actor import Actor, StatelessActor
from xoscar_sc.runtime.current import current_frame
from xoscar_sc.runtime.mailbox import Capacity, Mailbox
from xoscar_sc.runtime.methods import Method, methods_of
from xoscar_sc.runtime.work import Work

if TYPE_CHECKING:
    from xoscar_sc.loop import Slot
    from xoscar_sc.runtime.runtime import Runtime


class Intake:
    """What a cell has to do with messages; whether it takes any, the cell says."""

    def __init__(self, runtime: Runtime, cls: type[StatelessActor], uid: str, capacity: Capacity) -> None:
        self.runtime = runtime
        self.cls = cls
        self.uid = uid
        self.instance: Any = None
        self.methods: dict[str, Method] = methods_of(cls)
        self.mailbox: Mailbox[Work] = Mailbox(
            uid, serial=issubclass(cls, Actor), bound=capacity.bound, overflow=capacity.overflow
        )
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

    def accept(self, work: Work) -> None:
        """Take a message: it runs now, or when those before it have run, or is refused."""
        if self.ending:
            work.refuse(self.died(maybe_executed=False))
            work.executed()
            return
        known = self.methods.get(work.method)
        try:
            starts, dropped = self.mailbox.put(work, beside=known is not None and known.beside)
        except DeadlockError as exc:
            work.refuse(exc)
            return
        if starts:
            self.runtime.loop.submit(work)
        elif dropped is not None:
            self._drop(dropped)

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

    @asynccontextmanager
    async def unlocked(self) -> AsyncIterator[None]:
        """Let other messages in, and wait for the lock again in the end, whatever happens."""
        frame = current_frame.get()
        work = self.mailbox.holder
        if frame is None or work is None or frame.task is None or frame.chain[-1][2] != work.token:
            yield  # this code does not have the lock
            return
        work.returning = slot = self.runtime.loop.slot()
        self._go_on(self.mailbox.lend(work))
        try:
            yield
        finally:
            if not self.mailbox.want_back(work):
                await self.runtime.loop.run_shielded(slot.wait)
            work.returning = None

    def function(self, name: str) -> Callable[..., Any]:
        """The actor's method of this name, bound.

        Raises:
            AttributeError: there is none, or it is private.
        """
        if name in self.methods:
            return getattr(self.instance, name)  # type: ignore[no-any-return]
        if name.startswith("_") or not callable(getattr(self.instance, name, None)):
            raise AttributeError(f"{self.cls.__name__} has no public method {name!r}")
        function: Callable[..., Any] = getattr(self.instance, name)
        return function

    def batch_function(self, name: str) -> Callable[..., Any] | None:
        """The method's version for many calls, bound, if it has one."""
        method = self.methods.get(name)
        if method is None or method.batch is None:
            return None
        bound: Callable[..., Any] = getattr(self.instance, name).batch
        return bound

    # Waiting

    def let_senders_go(self) -> None:
        """Nobody has to wait for room any more."""
        while self._senders:
            self._senders.popleft().set(None)

    async def wait_idle(self) -> None:
        """Wait until no message runs or waits."""
        while not self.mailbox.empty:
            self._idle = self.runtime.loop.slot()
            await self._idle.wait()
