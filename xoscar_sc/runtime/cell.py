"""What surrounds an actor in its pool: its mailbox, its nursery, its beginning and its end.

The actor's own task, :meth:`Cell.host`, holds the nursery. It makes the instance and calls the hooks; messages are
turns of the loop, and come by :class:`~xoscar_sc.runtime.intake.Intake`. An end is asked for by :meth:`Cell.end`, as
often as anybody likes, and each time at least as strongly as before; the host carries it out, and
:meth:`Cell.wait_ended` tells how it went.
"""

from __future__ import annotations

import contextlib
import enum
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from xoscar_sc.errors import ActorDied
from xoscar_sc.events import Exit, ExitKind
from xoscar_sc.runtime.actor import StatelessActor
from xoscar_sc.runtime.current import Frame, current_frame
from xoscar_sc.runtime.exits import without_cancelled
from xoscar_sc.runtime.fatal import fatal_of
from xoscar_sc.runtime.intake import Intake
from xoscar_sc.runtime.lasting import Gone
from xoscar_sc.runtime.methods import Method, is_awaitable
from xoscar_sc.runtime.traits import DEFAULT, Traits
from xoscar_sc.runtime.work_local import LocalWork
from xoscar_sc.serialize import describe

if TYPE_CHECKING:
    from xoscar_sc.loop import Slot
    from xoscar_sc.protocol import Link
    from xoscar_sc.runtime.ref import ActorRef
    from xoscar_sc.runtime.runtime import Runtime
    from xoscar_sc.runtime.work import Work


class State(enum.Enum):
    """How far an actor has come."""

    CREATING = enum.auto()
    ALIVE = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()


class Owner(NamedTuple):
    """The nursery that hears of an actor's end."""

    address: str
    nursery: int
    token: str
    """What the nursery, and the table of names, know this creation by."""
    life: int = 1
    """How often the actor has been made, this time included."""


class Cell(Intake):
    """See the top of this file."""

    def __init__(
        self,
        runtime: Runtime,
        cls: type[StatelessActor],
        uid: str,
        incarnation: int,
        owner: Owner | None = None,
        traits: Traits = DEFAULT,
    ) -> None:
        super().__init__(runtime, cls, uid, traits)
        self.incarnation = incarnation
        self.age = runtime.serial()
        self.owner = owner
        self.traits = traits
        self.taken_out = False
        """Somebody wants it not to come back."""
        self.adopted = False
        """An heir holds messages for it."""
        self.heir: Cell | None = None
        """Takes the messages for the next incarnation, if there may be one."""
        self.nursery: Any = None
        self.exit_stack = AsyncExitStack()
        self.state = State.CREATING
        self.frame = Frame(self)
        self.error: BaseException | None = None
        """What it failed with."""
        self._late_errors: list[BaseException] = []
        """What its end raised, hooks mostly."""
        self._finished_up = False
        self.abandoned = False
        """Messages were cancelled, and not by those who had sent them."""
        self._failing = False
        """A task in its nursery has failed."""
        self._cancelled = False
        self._killed = False
        self._scopes: list[Any] = []
        """What a kill cancels."""
        self._end_chain: tuple[Link, ...] = ()
        """The calls that wait for the end, if any do."""
        self._asked = runtime.loop.slot()
        """Filled when an end is asked for."""
        self._waiting: list[Slot] = []
        """Of those who wait for the end, and take what the hooks raise."""
        self.gone = runtime.loop.slot()
        """Filled at the very end."""
        self.watchers: list[Slot] = []
        """Of those who wait for the end, and want to know what it was: each gets the :class:`Exit`."""

    # Who it is

    def ref(self) -> ActorRef[Any]:
        """A reference to the actor."""
        from xoscar_sc.runtime.ref import ActorRef

        life = 1 if self.owner is None else self.owner.life
        place = self.runtime.address, self.uid, self.traits.child or self.incarnation, self.cls
        return ActorRef(*place, traits=self.traits, life=life)

    def where(self) -> str:
        """The actor, for the note of an exception."""
        return f"actor {self.uid!r} {self.runtime.where()}" if self.uid else self.runtime.where()

    def died(self, *, maybe_executed: bool) -> ActorDied:
        """What a message gets that the actor will not answer any more."""
        cause = None if self.error is None else describe(self.error)
        if cause is None and self._failing:
            cause = "an error in its nursery"
        if not self.uid:
            return ActorDied(
                f"the pool of this function is ending {self.runtime.where()}", maybe_executed=True
            )
        how = "was killed" if self._killed else "has ended" if cause is None else f"failed with {cause}"
        return ActorDied(
            f"actor {self.uid!r} {how}", uid=self.uid, cause=cause, maybe_executed=maybe_executed
        )

    def free_for(self, method: Method) -> bool:
        """Whether a message for this method would start at once."""
        return self.state is State.ALIVE and (self.mailbox.empty or method.beside)

    @property
    def ending(self) -> bool:
        """Whether it takes no more messages."""
        return self.state is State.ENDING or self.state is State.ENDED

    @property
    def asked_to_end(self) -> bool:
        """Whether its end has been asked for; it may still have messages to run."""
        return self._asked.filled

    def tell_failed(self, method: str, exc: BaseException) -> None:
        """A message that nobody waits for raised, or will not run: the first is the actor's failure."""
        if self.ending or (self.abandoned and isinstance(exc, ActorDied)):
            self.runtime.dropped(self.uid, method, describe(exc))
        else:
            with contextlib.suppress(Exception):  # a frozen dataclass takes no notes
                exc.add_note(f"in a tell to {method}() of {self.where()}")
            self.fail(exc)

    def turn_away(self, work: Work) -> None:
        if self.heir is not None and not self.taken_out:
            work.pass_on(self.heir)
            return
        lasts = self.traits.child and not self.taken_out
        work.refuse(Gone(self.uid, self.traits.child) if lasts else self.died(maybe_executed=False))
        work.executed()

    # The end

    def raised(self, method: str, exc: BaseException) -> None:
        """A message has raised ``exc``, which its caller gets; it is the actor's failure if the actor says so."""
        if isinstance(exc, (*fatal_of(self.cls), *fatal_of(getattr(self.cls, method, None)))):
            self.fail(exc)

    def fail(self, exc: BaseException) -> None:
        """End because of ``exc``."""
        if self.error is None and not self.ending:
            self.error = exc
        self.end(cancel=True)

    def stop_soon(self) -> None:
        """End after the message in hand."""
        self.end()

    def end(
        self,
        *,
        drain: bool = False,
        cancel: bool = False,
        kill: bool = False,
        chain: tuple[Link, ...] = (),
    ) -> None:
        """Ask for the end.

        Args:
            drain: queued messages are run first; else they fail.
            cancel: the running message is cancelled.
            kill: as ``cancel``, and without waiting for anything, or hooks.
            chain: the calls that wait for the end.
        """
        if self.state is State.ENDED:
            return
        self._end_chain = self._end_chain or chain
        self._cancelled = self._cancelled or cancel
        if kill:
            self._killed = True
        if not drain:
            self.close(cancel=cancel or kill)
        self._asked.set(None)
        for work in list(self.mailbox.running):
            work.end_stream()
        if kill:
            for scope in self._scopes:
                scope.cancel()

    def close(self, *, cancel: bool) -> None:
        """Take no more messages, and refuse those that wait; ``cancel``: the running one is cancelled."""
        unborn = self.state is State.CREATING
        self.state = State.ENDING
        known = not unborn or self.adopted
        if self.heir is None and known and not self.taken_out:
            self.heir = self.runtime.heirs.make(self)
            if self.heir is not None and (unborn or self.traits.keeps):
                for work in self.mailbox.clear():
                    work.pass_on(self.heir)
        self.abandon(cancel=cancel)

    def abandon(self, *, cancel: bool) -> None:
        """Refuse the messages that wait; ``cancel``: the running one is cancelled."""
        self.abandoned = True
        for work in self.mailbox.clear():
            work.refuse(self.died(maybe_executed=False))
            work.executed()
        if cancel:
            for work in list(self.mailbox.running):
                work.refuse(self.died(maybe_executed=False))
                work.cancel()
        self.let_senders_go()

    def end_unborn(self) -> None:
        """It was an heir, and no actor is made of it."""
        self.state = State.ENDED

    async def wait_ended(self) -> None:
        """Wait until the actor has ended, and raise what its hooks raised.

        Cancellation: it goes on ending, and its nursery raises that.
        """
        if self.state is not State.ENDED:
            slot = self.runtime.loop.slot()
            self._waiting.append(slot)
            try:
                error = await slot.wait()
            finally:
                if not slot.filled:
                    self._waiting.remove(slot)
            if error is not None:
                raise error

    # What outlives it, if it is one of :class:`KeptCell`

    async def remember(self) -> None:
        """``__init__`` has run: bring back what there was."""

    async def keep_last(self) -> None:
        """The last message has run."""

    async def let_go(self) -> None:
        """The actor has ended."""

    # The actor's own task

    async def host(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], created: Slot, chain: tuple[Link, ...]
    ) -> None:
        """Live: from ``__init__`` to the last hook. ``created`` gets None, or the exception that prevented it."""
        # What is called meanwhile waits for the creation as it would for a message.
        creation = LocalWork(self, "__post_create__", ((), {}), None, chain, None, batch=False)
        self.mailbox.holder = creation
        creation.task = self.runtime.loop.task()
        current_frame.set(creation)
        try:
            async with self.runtime.loop.open_nursery() as self.nursery:
                with anyio.CancelScope() as scope:
                    self._scopes += [self.nursery.cancel_scope, scope]
                    # Scopes nest: what is in the stack was entered inside of the nursery, and is left there.
                    async with self.exit_stack:
                        await self._live(args, kwargs, created, scope)
        except BaseException as exc:  # the constructor's, a closer's, or that of a task in the nursery
            self._nursery_failed(exc, created)
        created.set(self.died(maybe_executed=True))
        await self._forget(self._late_error())

    async def _live(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], created: Slot, scope: anyio.CancelScope
    ) -> None:
        """Live, up to what is left to the exit stack; ``scope`` is around that."""
        try:
            await self._create(args, kwargs, created)
            await self._asked.wait()
            await self._finish_up()
        except self.runtime.loop.cancelled:
            # A task failed, or something in the exit stack; which error it was shows when the nursery is left.
            if created.filled and not (self._killed or self._finished_up):
                self._failing = True
                self.close(cancel=True)
                with anyio.CancelScope(shield=True) as hook:
                    self._scopes.append(hook)
                    await self._finish_up()
            raise
        finally:
            scope.shield = True
            self.nursery.cancel_scope.cancel()

    def _nursery_failed(self, exc: BaseException, created: Slot) -> None:
        """A task in the nursery failed, or everything around it is being cancelled."""
        error = without_cancelled(exc, self.runtime.loop.cancelled)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            self.runtime.exit_with(error)
        elif not created.filled:
            created.set(error or self.died(maybe_executed=True))
        elif created.value is not None:
            pass  # the constructor's, and told already
        elif error is None:
            self.fail(self.died(maybe_executed=True))
        elif self._failing and self.error is None:
            self.error = error
        else:
            self._late_errors.append(error)

    async def _create(self, args: tuple[Any, ...], kwargs: dict[str, Any], created: Slot) -> None:
        try:
            self.instance = instance = self.cls.__new__(self.cls, *args, **kwargs)
            instance.__xsc_cell__ = self
            instance.__init__(*args, **kwargs)  # type: ignore[misc]
            await self.remember()
            if self.cls.__post_create__ is not StatelessActor.__post_create__:
                value: Any = instance.__post_create__()
                if is_awaitable(value):
                    await self.undergo(value)
        except self.runtime.loop.cancelled:
            raise
        except BaseException as exc:  # whatever it is, it is the creator's
            self.end()
            if isinstance(exc, (SystemExit, KeyboardInterrupt)):
                self.runtime.exit_with(exc)
            else:
                exc.add_note(f"while creating {self.where()}")
                created.set(exc)
            raise
        current_frame.set(self.frame)
        if self.state is State.CREATING:
            self.state = State.ALIVE
        created.set(None)
        for work in self.mailbox.start():
            self.runtime.loop.submit(work)
        self.runtime.heirs.hand_over(self)

    async def _finish_up(self) -> None:
        """Wait until no message runs or waits, and run the hook."""
        await self.wait_idle()
        self.state = State.ENDING
        self._finished_up = True
        await self.keep_last()
        if self._killed or self.cls.__pre_destroy__ is StatelessActor.__pre_destroy__:
            return
        # What the hook calls waits for it, and so do those who wait for the end.
        hook = LocalWork(self, "__pre_destroy__", ((), {}), None, self._end_chain, None, batch=False)
        hook.task = self.runtime.loop.task()
        current_frame.set(hook)
        try:
            value: Any = self.instance.__pre_destroy__()
            if is_awaitable(value):
                await self.undergo(value)
        except Exception as exc:  # the nursery's, when everything else has ended
            exc.add_note(f"in __pre_destroy__() of {self.where()}")
            self._late_errors.append(exc)

    def _late_error(self) -> BaseException | None:
        errors = self._late_errors
        if len(errors) > 1:
            return BaseExceptionGroup(f"actor {self.uid!r} did not end well", errors)
        return errors[0] if errors else None

    async def _forget(self, hook_error: BaseException | None) -> None:
        """The actor has ended: its uid is free, and those who care hear of it."""
        self.close(cancel=True)
        error = self.error or hook_error
        kind: ExitKind = (
            "killed" if self._killed else "failed" if error else "cancelled" if self._cancelled else "normal"
        )
        await self.let_go()
        await self.runtime.forget(self)
        self.state = State.ENDED
        waiting, self._waiting = self._waiting, []
        for slot in waiting:
            slot.set(hook_error)
        # An exception goes to whoever waits for it; only if nobody does, to the nursery.
        unclaimed = self.error or (None if waiting else hook_error)
        exit_ = Exit(kind, error=error)
        self.runtime.actor_ended(self, exit_, unclaimed)
        for slot in self.watchers:
            slot.set(exit_)
        self.check_gone()

    def check_gone(self) -> None:
        """The pool may end when all who watch the actor have been told of its end."""
        if self.state is State.ENDED and not self.watchers:
            self.gone.set(None)
