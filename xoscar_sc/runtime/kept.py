"""An actor whose state outlives its process: snapshots of it, and a journal of what it is told durably.

A durable tell is in the journal before its teller hears that it has been accepted. It goes through the mailbox as any
message does, in the order of the journal. Where there are no snapshots, it is taken out of the journal when it has run.
Where there are, it stays there until it is in a snapshot: what it has done to the state is in memory only, and a new
process does it again. A snapshot says which durable tell was the last before it, in the same transaction, so that none
is done twice to one state, and none is left out.

Invariant: a snapshot is taken when each durable tell that was begun has ended. They are begun in the order of their
numbers, so those that are in the state are those up to the last that has ended.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from xoscar_sc.errors import StateError
from xoscar_sc.events import SnapshotDamaged, SnapshotFailed
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime.actor import StatelessActor, refuse_outside
from xoscar_sc.runtime.cell import Cell, Owner
from xoscar_sc.runtime.current import current_frame
from xoscar_sc.runtime.deadlock import Kind, Way
from xoscar_sc.runtime.kept_work import DurableWork, SnapshotWork, takes_snapshots
from xoscar_sc.runtime.methods import DURABLE, Method, apart, is_awaitable
from xoscar_sc.runtime.persistence import Writer, writer_for
from xoscar_sc.runtime.work import Arguments, Work, call
from xoscar_sc.runtime.work_local import LocalWork
from xoscar_sc.serialize import describe, dumps, loads, loads_call
from xoscar_sc.state import (
    Aside,
    Begin,
    Blame,
    CaughtUp,
    Record,
    Remove,
    Row,
    Save,
    Snapshots,
    dead_letter,
)

if TYPE_CHECKING:
    from xoscar_sc.loop import Slot
    from xoscar_sc.runtime.actor import StatelessActor
    from xoscar_sc.runtime.runtime import Runtime
    from xoscar_sc.runtime.traits import Traits


class KeptCell(Cell):
    """See the top of this file."""

    def __init__(
        self,
        runtime: Runtime,
        cls: type[StatelessActor],
        uid: str,
        incarnation: int,
        owner: Owner | None,
        traits: Traits,
        snapshots: Snapshots,
    ) -> None:
        super().__init__(runtime, cls, uid, incarnation, owner, traits)
        self.methods = {**self.methods, DURABLE: Method(DURABLE, _record)}
        self._snapshots = snapshots
        self._takes = takes_snapshots(cls)
        self._writer: Writer | None = None
        self._last = 0
        """The number of the last durable tell that has come."""
        self._applied = 0
        """That of the last which has run."""
        self._again = 0
        """Those that were there already, and have not run again yet."""
        self._since = 0
        """Messages that have run since the last snapshot."""
        self._changed = True
        """Something may have happened to the state that no snapshot has."""
        self._asked_to_take = False
        self._saving = False
        """A snapshot is being written."""
        self._timer: anyio.CancelScope | None = None
        self._late = False
        """The time is over in which there should have been a snapshot."""
        self._torn = False
        """A message was cut off: what is left is no state."""

    # The beginning

    async def remember(self) -> None:
        """Bring back the newest snapshot, and queue what has been told durably since then."""
        self._writer = writer_for(self.runtime, self._snapshots.store)
        policy = self._snapshots
        past = await self._writer.open(self.uid, policy.retries, policy.wait)
        self._last, self._applied, self._again = past.last, past.number, len(past.rows)
        # Before whatever comes meanwhile.
        for row in reversed(past.rows):
            self.mailbox.put_front(DurableWork(self, row, None, careful=past.careful))
        setattr(self.instance, DURABLE, self._record)
        for reason in past.damaged:
            self.runtime.emit(SnapshotDamaged(self.uid, reason))
        for aside in past.aside:
            self._tell_aside(aside)
        if past.state is None:
            return
        if not self._takes:
            raise StateError(
                f"actor {self.uid!r} has a snapshot, and {self.cls.__name__} has no __restore__()"
            )
        value = call(self.instance.__restore__, loads(past.state))
        if is_awaitable(value):
            await self.undergo(value)
        self._changed = False

    # Durable tells

    def free_for(self, method: Method) -> bool:
        # Every message is one of the mailbox's: they are counted, and none runs beside a snapshot.
        return False

    @undisturbed
    async def _record(self, method: str, body: bytes, mark: str) -> None:
        """Write a durable tell down, and put it into the mailbox.

        Raises:
            see :meth:`TellMethod.durable`.
        """
        calls = self._check(method, body)
        if self.mailbox.full:
            await self._wait_for_room()
        writer = self._writer
        if self.ending or writer is None:
            raise self.died(maybe_executed=False)
        slot = self.runtime.loop.slot()
        self._last += 1
        self.mailbox.reserved += 1
        row = Row(self._last, method, mark, body)
        writer.put(Record(self.uid, *row[:4]), partial(self._recorded, row, calls, slot))
        error = await slot.wait()
        if error is not None:
            raise error

    def _check(self, name: str, body: bytes) -> Arguments:
        """What a durable tell is called with, if it can be."""
        if self.traits.overflow.startswith("drop"):
            raise StateError(
                f"{self.where()} drops messages (overflow={self.traits.overflow!r}): none of them is durable"
            )
        calls = loads_call(body)
        self.function(name)
        if name == "stop" and self.cls.stop is StatelessActor.stop:
            refuse_outside(self.uid)
        known = self.methods.get(name)
        if known is not None:
            if known.beside or known.streams or known.talks is not None:
                raise TypeError(
                    f"{name}() cannot be told durably: it runs beside other messages, or gives a stream"
                )
            if calls[1] or not known.low <= len(calls[0]) <= known.high:
                known.check(*calls)
        return calls

    async def _wait_for_room(self) -> None:
        if self.mailbox.overflow == "raise":
            raise self.full()
        work = current_frame.get()
        assert isinstance(work, Work)
        # Those who look for cycles find it there.
        self.mailbox.running.add(work)
        way = Way(self.runtime.address, self.uid, Kind.ROOM)
        await self.runtime.deadlocks.wait_room(work, way, self.wait_room)

    def _recorded(self, row: Row, calls: Arguments, slot: Slot, result: bool | Exception) -> None:
        """A durable tell has been written down, or could not be, or was known."""
        self.mailbox.reserved -= 1
        if result is True and not self.ending:
            self.accept(DurableWork(self, row, calls))
        else:
            self._go_on(None)
        slot.set(result if isinstance(result, Exception) else None)

    async def begins(self, row: Row) -> None:
        """A durable tell runs again that the process may have died of the last time."""
        assert self._writer is not None
        try:
            await self._writer.write(Begin(self.uid, row.number))
        except StateError:  # it is not the message's fault, and the message can do without
            pass

    def applied(self, work: DurableWork) -> None:
        """A durable tell has run."""
        self._passed(work)
        if not self._takes:
            self._put(Remove(self.uid, work.row.number))

    def _passed(self, work: DurableWork) -> None:
        self._applied = max(self._applied, work.row.number)
        if work.again:
            self._again -= 1
            if not self._again:
                self._put(CaughtUp(self.uid))

    def durable_failed(self, work: DurableWork, exc: BaseException) -> None:
        """A durable tell has raised: it is the actor's failure, and will be delivered to the next one, or put aside."""
        if self.ending or self.abandoned:  # it was cut off, and stays in the journal
            return
        row, retries = work.row, self._snapshots.retries
        attempts, reason = row.attempts + 1, describe(exc)
        aside = attempts > retries
        self._put(Blame(self.uid, row.number, attempts, reason, aside))
        if aside:
            self._tell_aside(Aside(row._replace(attempts=attempts), reason))
        self.tell_failed(work.method, exc)

    def put_aside(self, work: DurableWork, exc: Exception) -> None:
        """A durable tell makes no sense to this actor, or does not fit into its mailbox."""
        reason = describe(exc)
        self._put(Blame(self.uid, work.row.number, work.row.attempts, reason, aside=True))
        self._tell_aside(Aside(work.row, reason))
        self._passed(work)

    def _tell_aside(self, aside: Aside) -> None:
        self.runtime.emit(dead_letter(self.uid, aside))

    def _put(self, write: Any) -> None:
        if self._writer is not None:  # else the actor was killed, and this had not heard of it
            self._writer.put(write)

    # Snapshots

    def finished(self, work: Work) -> None:
        if isinstance(work, SnapshotWork):
            self._asked_to_take = False
        elif work.method != DURABLE:
            self._since += 1
            self._changed = True
            seconds = self._snapshots.every_seconds
            if self._due:
                self._ask_to_take(work)
            elif seconds is not None and not self.ending and self._timer is None and self._takes:
                self._timer = anyio.CancelScope()
                self.runtime.loop.spawn(self._take_later, self._timer, seconds)
        super().finished(work)

    @property
    def _due(self) -> bool:
        every = self._snapshots.every
        return self._late or (every is not None and self._since >= every)

    async def _take_later(self, timer: anyio.CancelScope, seconds: float) -> None:
        with timer:
            await anyio.sleep(seconds)
            self._timer, self._late = None, True
            self._ask_to_take(None)

    def _ask_to_take(self, work: Work | None) -> None:
        """Take a snapshot before the next message."""
        if self._asked_to_take or self._saving or not self._takes or self.asked_to_end or self.ending:
            return
        if self._in_hand(work):
            return
        self._asked_to_take = True
        snapshot = SnapshotWork(self)
        if self.mailbox.put_front(snapshot):
            self.runtime.loop.submit(snapshot)

    def _in_hand(self, but: Work | None = None) -> bool:
        """Whether a durable tell has been begun that has not ended: one that has lent the lock."""
        return any(isinstance(each, DurableWork) and each is not but for each in self.mailbox.running)

    @undisturbed
    async def take(self) -> None:
        """Take a snapshot, in the actor's lock; it is written when others may run again."""
        if self._in_hand():
            return
        save = await self._snapshot()
        self._saving = True
        self._put_save(save)

    async def _snapshot(self) -> Save:
        """The state as it is.

        Raises:
            what ``__snapshot__`` raises.
            SerializationError: what it gives cannot be pickled.
        """
        self._since, self._changed, self._late = 0, False, False
        number = self._applied
        try:
            value = call(self.instance.__snapshot__)
            if is_awaitable(value):
                value = await self.undergo(value)
            return Save(self.uid, number, dumps(value), self._snapshots.keep)
        except BaseException:
            self._changed = True
            raise

    def _put_save(self, save: Save) -> None:
        assert self._writer is not None
        self._writer.put(save, self._saved)

    def _saved(self, result: bool | Exception) -> None:
        self._saving = False
        if isinstance(result, Exception):
            self._changed = True
            self.snapshot_failed(result)
        elif self._due:  # again, meanwhile
            self._ask_to_take(None)

    def snapshot_failed(self, exc: BaseException) -> None:
        """A snapshot was not taken: the journal goes on from the one before."""
        self.runtime.emit(SnapshotFailed(self.uid, describe(exc)))

    # The end

    def abandon(self, *, cancel: bool) -> None:
        running = self.mailbox.running
        if cancel and any(not isinstance(each, SnapshotWork) and each.method != DURABLE for each in running):
            self._torn = True
        super().abandon(cancel=cancel)

    async def keep_last(self) -> None:
        """The last message has run: take a snapshot if something may have changed, and the state is one."""
        if not self._takes or self._torn or self._failing or self._killed or self.error is not None:
            return
        assert self._writer is not None
        hook = LocalWork(self, "__snapshot__", ((), {}), None, self._end_chain, None, batch=False)
        hook.task = self.runtime.loop.task()
        current_frame.set(hook)
        try:
            await self._writer.write(None)  # one that is being written may fail
            if self._changed:
                await self._writer.write(await self._snapshot())
        except Exception as exc:  # the nursery's, when everything else has ended
            exc.add_note(f"in the last snapshot of {self.where()}")
            self._late_errors.append(exc)

    async def let_go(self) -> None:
        """Write what is left, and leave the actor to whoever comes next."""
        if self._timer is not None:
            self._timer.cancel()
        writer, self._writer = self._writer, None
        if writer is not None:
            if self._again:
                writer.put(CaughtUp(self.uid))
            await self.runtime.loop.run_shielded(partial(self._close, writer))

    async def _close(self, writer: Writer) -> None:
        try:
            await writer.close(self.uid)
        except Exception as exc:  # what had to be written has been, or somebody has heard that it was not
            self.snapshot_failed(exc)


@apart
async def _record(*call: Any) -> None:
    """What is known of the method that records: it runs beside all others, and not at once."""
    raise AssertionError(call)
