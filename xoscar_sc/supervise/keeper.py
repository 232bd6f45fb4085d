"""What carries out a supervisor's decisions: children end, and steps are taken.

Everything that happens comes in by a method that does not wait (:meth:`Keeper.ended`, :meth:`Keeper.terminate` and so
on), changes the tables, and takes the next turn: the steps that are due now begin, each in a task of its own, and tell
when they are over. So nothing that a child does, or fails to do, holds up the supervisor. A start that fails comes back
as an end.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import anyio

from xoscar_sc.errors import RestartIntensityExceeded, XoscarError
from xoscar_sc.events import Exit, GaveUp, Restarting
from xoscar_sc.loop import Slot
from xoscar_sc.supervise.backoff import delay, in_a_row
from xoscar_sc.supervise.child import Child, How
from xoscar_sc.supervise.children import ChildSpec, Supervision, comes_back, ends_all
from xoscar_sc.supervise.report import as_exception, described, is_known
from xoscar_sc.supervise.siblings import Phase, Siblings
from xoscar_sc.supervise.strategy import Start

if TYPE_CHECKING:
    from xoscar_sc.supervise.supervisor import Supervisor

log = logging.getLogger("xoscar_sc.supervise")


_Carry: TypeAlias = Callable[[Child, anyio.CancelScope], Awaitable[None]]


class _Busy(NamedTuple):
    """A start or a stop that is under way."""

    scope: anyio.CancelScope
    over: Slot


class Keeper:
    """See the top of this file."""

    def __init__(self, sup: Supervisor, supervision: Supervision) -> None:
        self._sup = sup
        self._loop = sup.runtime.loop
        self._supervision = supervision
        self._intensity = supervision.admission()
        self._history: tuple[float, ...] = ()
        self._seen: list[tuple[float, Exception]] = []
        """The ends within the last period."""
        self._random = random.Random()
        self._siblings = Siblings(supervision.strategy)
        self._housing = Siblings("one_for_one")
        """The pools that are no children in the order: they are only where children live."""
        self.children: dict[str, Child] = {}
        """By key, oldest first."""
        self._busy: dict[Child, _Busy] = {}
        """The starts and stops that are under way."""
        self._alarm: anyio.CancelScope | None = None
        self._alarm_at = math.inf
        self._changed: list[Slot] = []
        """Of those who wait for anything to change."""
        self._asked: dict[Child, list[Slot]] = {}
        """Of those who have asked for a start."""
        self.closing = False
        """Nothing is started any more."""
        self.orderly = False
        """The supervisor ends of itself: its children are stopped one after the other."""

    # The tables

    def add(self, child: Child, *, housing: bool = False) -> None:
        """A child has been started, the newest."""
        (self._housing if housing else self._siblings).add(child.key, lasts=child.spec.restart != "temporary")
        self.children[child.key] = child
        child.up = True
        child.since = self._loop.now()
        early = child.take_early()
        if early is not None:
            self.ended([child], early)

    def phase(self, child: Child) -> Phase:
        """How far a child is."""
        return self._table(child).phase(child.key)

    def _table(self, child: Child) -> Siblings:
        return self._housing if child.key in self._housing else self._siblings

    def expects(self, key: str) -> bool:
        """Whether a child is there, or is about to be."""
        return not self.closing and key in self.children and self.phase(self.children[key]) is not Phase.DOWN

    async def wait_changed(self) -> None:
        """Wait until anything has changed."""
        slot = self._loop.slot()
        self._changed.append(slot)
        try:
            await slot.wait()
        finally:
            if not slot.filled:
                self._changed.remove(slot)

    # Ends

    def ended(self, children: Sequence[Child], exit_: Exit, *, asked: bool = False) -> None:
        """These have ended, together; ``asked``: somebody has taken them out."""
        back: list[Child] = []
        for child in children:
            if child.key not in self.children or self.children[child.key] is not child:
                child.early = exit_  # its first start is not over
                continue
            phase = self.phase(child)
            if phase is Phase.STARTING:
                child.early = exit_
                continue
            self._went_down(child, exit_)
            if self.closing:
                continue
            if phase in (Phase.DOOMED, Phase.STOPPING):
                self._table(child).ended(child.key)
            elif not asked and comes_back(child.spec.restart, exit_.kind):
                back.append(child)
            else:
                self._out(child, exit_, asked=asked)
        if back and not self.closing:
            self._come_back(back, exit_)
        self._turn()

    def _went_down(self, child: Child, exit_: Exit) -> None:
        child.up = False
        child.exit = exit_
        ran = None if child.since is None else self._loop.now() - child.since
        child.since = None
        child.failures = in_a_row(child.spec.backoff, child.failures, ran)
        level = logging.INFO if exit_.kind == "normal" else logging.WARNING
        log.log(level, "%s %r ended: %s", child.kind, child.name, described(exit_), extra=child.record())

    def _out(self, child: Child, exit_: Exit, *, asked: bool) -> None:
        """A child has ended and does not come back."""
        table = self._table(child)
        if asked or child.spec.restart == "temporary":
            table.forget(child.key)
            del self.children[child.key]
        else:
            table.ended(child.key)
        self._loop.spawn(self._drop, child)
        left = [
            each.spec.significant
            for each in self.children.values()
            if each is not child and self.phase(each) is not Phase.DOWN
        ]
        significant = child.spec.significant and not asked
        if ends_all(self._supervision.auto_shutdown, significant=significant, left=left):
            log.info("%r ends: its significant child %r has ended", self._sup.name, child.name)
            self.closing = self.orderly = True
            self._sup.cancel_scope.cancel()

    async def _drop(self, child: Child) -> None:
        await child.drop()

    def _come_back(self, back: Sequence[Child], exit_: Exit) -> None:
        """These are to be started again, if the intensity admits one more; those that are no children, by others."""
        now = self._loop.now()
        error = as_exception(exit_, back[0])
        if not is_known(error, self._seen):
            self._seen = [(at, exc) for at, exc in self._seen if at > now - self._intensity.period]
            self._seen.append((now, error))
            admitted = self._intensity.admit(self._history, now)
            if admitted is None:
                self._give_up(back)
                return
            self._history = admitted
        for table in (self._housing, self._siblings):
            due = {}
            for child in back:
                if child.key in table:
                    after = delay(child.spec.backoff, child.failures, self._random.random())
                    due[child.key] = now + after
                    self._sup.happened(Restarting(child.name, after))
                    text = "%s %r is restarted in %.3g s"
                    log.info(text, child.kind, child.name, after, extra=child.record())
            table.failed(due)

    def _give_up(self, back: Sequence[Child]) -> None:
        sup, intensity = self._sup, self._intensity
        names = ", ".join(repr(child.name) for child in back)
        reason = f"{names} ended once more, after {intensity.restarts} restarts within {intensity.period:g} s"
        self.closing = self.orderly = True
        sup.happened(GaveUp(sup.name, reason))
        log.error("supervisor %r gives up: %s", sup.name, reason)
        sup.failed_actors.update(child.name for child in back)
        sup.fail(
            RestartIntensityExceeded(
                f"supervisor {sup.name!r} has given up: {reason}", [exc for _, exc in self._seen]
            )
        )

    # Steps

    def _turn(self) -> None:
        """Begin what is to be done now."""
        wake = math.inf
        if not self.closing:
            now = self._loop.now()
            for table in (self._housing, self._siblings):
                steps, then = table.steps(now)
                wake = min(wake, then)
                for step in steps:
                    child = self.children[step.child]
                    if isinstance(step, Start):
                        self._begin(child, self._start)
                    else:
                        self._begin(child, self._stop)
        self._set_alarm(wake)
        for slot in self._changed:
            slot.set(None)
        self._changed.clear()

    def _begin(self, child: Child, step: _Carry) -> None:
        before = self._busy.get(child)
        if before is not None:
            before.scope.cancel()
        busy = self._busy[child] = _Busy(anyio.CancelScope(), self._loop.slot())
        self._loop.spawn(self._run, child, step, busy, before)

    async def _run(self, child: Child, step: _Carry, busy: _Busy, before: _Busy | None) -> None:
        try:
            if before is not None:
                await before.over.wait()
            await step(child, busy.scope)
        finally:
            busy.over.set(None)
            if self._busy.get(child) is busy:
                del self._busy[child]
            self._turn()

    async def _start(self, child: Child, scope: anyio.CancelScope) -> None:
        table = self._table(child)
        child.take_early()
        error: Exception | None = None
        with scope:
            await anyio.lowlevel.checkpoint_if_cancelled()
            try:
                await child.start()
            except Exception as exc:  # it comes back as an end
                error = exc
            else:
                child.up = True
                child.since = self._loop.now()
                child.restarts += 1
        early = child.take_early()
        if early is not None and error is None:
            child.up, child.since = False, None
            error = as_exception(early, child)
        if error is not None:
            self._start_failed(child, table, error)
        elif child.up:
            table.started(child.key)
            log.info("%s %r is up again", child.kind, child.name, extra=child.record())
            self._answer(child, None)

    def _start_failed(self, child: Child, table: Siblings, error: Exception) -> None:
        exit_ = Exit("failed", error=error)
        asked = child in self._asked
        phase = table.phase(child.key)
        self._went_down(child, exit_)
        if self.closing or phase in (Phase.DOOMED, Phase.STOPPING):
            table.ended(child.key)
        elif asked:
            table.ended(child.key)
            self._loop.spawn(self._drop, child)
        else:
            self._come_back([child], exit_)
        self._answer(child, error)

    async def _stop(self, child: Child, scope: anyio.CancelScope) -> None:
        table = self._table(child)
        if child.up:
            with scope:
                await self._end(child, "recycle" if table.again(child.key) else "destroy")
            child.up = False
            child.exit = child.exit or Exit("cancelled")
        table.stopped(child.key)
        if child.key not in table:
            del self.children[child.key]
        elif table.phase(child.key) is not Phase.DOWN:
            return  # it is started again, and who has asked for that goes on waiting
        self._answer(child, XoscarError(f"{child.kind} {child.name!r} was stopped"))
        await child.drop()

    async def _end(self, child: Child, how: How) -> None:
        try:
            await child.stop(how)
        except Exception as exc:  # a hook's, mostly
            if self.closing:
                self._sup.failures.append(exc)
            else:
                log.warning("%s %r did not end well", child.kind, child.name, exc_info=exc)

    def _answer(self, child: Child, error: Exception | None) -> None:
        for slot in self._asked.pop(child, ()):
            slot.set(error)

    # Time

    def _set_alarm(self, at: float) -> None:
        if at == self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._alarm_at = at
        if at < math.inf:
            self._alarm = anyio.CancelScope()
            self._loop.spawn(self._ring, self._alarm, at)

    async def _ring(self, alarm: anyio.CancelScope, at: float) -> None:
        with alarm:
            await anyio.sleep(max(0.0, at - self._loop.now()))
        if alarm is self._alarm:
            self._alarm, self._alarm_at = None, math.inf
            self._turn()

    # What somebody wants

    def find(self, name: str) -> Child:
        """The child of this name.

        Raises:
            ValueError: there is none.
        """
        child = self.children.get(name) or self.children.get(f"pool {name}")
        if child is None or child.key in self._housing:
            known = ", ".join(repr(each.name) for each in self.listed()) or "none"
            raise ValueError(f"supervisor {self._sup.name!r} has no child {name!r}; it has {known}")
        return child

    def listed(self) -> list[Child]:
        """The children, oldest first."""
        return [child for child in self.children.values() if child.key not in self._housing]

    def promote(self, key: str, spec: ChildSpec) -> None:
        """A pool becomes a child in the order."""
        child = self.children.pop(key)
        self._housing.forget(key)
        child.spec = spec
        self.add(child)

    async def terminate(self, child: Child) -> None:
        """Stop a child, and wait for its end; it stays known."""
        table = self._table(child)
        waits = self.phase(child) is Phase.WAITING
        table.terminate(child.key)
        self._turn()
        if waits:
            await child.drop()
        while child.key in table and table.phase(child.key) is not Phase.DOWN and not self.closing:
            await self.wait_changed()

    async def restart(self, child: Child) -> None:
        """Start a child that is down, or waits, at once; raises why it could not be started."""
        phase = self.phase(child)
        if phase not in (Phase.DOWN, Phase.WAITING):
            raise ValueError(f"{child.kind} {child.name!r} is {phase.value}; terminate_child() ends it first")
        slot = self._loop.slot()
        self._asked.setdefault(child, []).append(slot)
        self._table(child).restart(child.key)
        self._turn()
        error = await slot.wait()
        if error is not None:
            raise error

    def delete(self, child: Child) -> None:
        """Forget a child that is down."""
        phase = self.phase(child)
        if phase is not Phase.DOWN:
            raise ValueError(f"{child.kind} {child.name!r} is {phase.value}; terminate_child() ends it first")
        self._table(child).forget(child.key)
        del self.children[child.key]

    def lost(self, child: Child, exit_: Exit) -> None:
        """Something has ended that is no child, and is made again when it is needed: it counts all the same."""
        if not self.closing:
            self._come_back([child], exit_)

    # The end

    async def close(self) -> None:
        """Start nothing any more, and leave nothing half done."""
        self.closing = True
        self._set_alarm(math.inf)
        for busy in list(self._busy.values()):
            busy.scope.cancel()
        while self._busy:
            await self.wait_changed()
        for child in list(self._asked):
            self._answer(child, XoscarError(f"supervisor {self._sup.name!r} is ending"))
        for child in self.listed():
            if not child.up:
                await self._sup.let_go(child)

    async def stop_all(self, how: How) -> None:
        """Stop the children, newest first."""
        for child in reversed(self.listed()):
            if child.up:
                await self._end(child, how)
                child.up = False
            await self._sup.let_go(child)
