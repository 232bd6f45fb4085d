"""The actors of one nursery: how one is made, which there are, and how they end with their nursery.

Each creation has a token, chosen before anything is asked. The name is reserved under it, the pool knows the actor by
it, and the news of the actor's end bears it: so what belongs to one creation is never taken for another's of the same
uid.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from xoscar_sc.errors import ActorNotExist, PoolDied, XoscarError
from xoscar_sc.events import ActorCreated, ActorExited
from xoscar_sc.runtime import (
    BOUND,
    ActorRef,
    Ending,
    Found,
    Overflow,
    Traits,
    Wish,
    check_snapshot,
    is_actor_class,
    traits_of,
)
from xoscar_sc.strategy import AddressSpecified, Strategy
from xoscar_sc.supervise.spec import check_mailbox, check_name

if TYPE_CHECKING:
    from xoscar_sc.loop import Slot
    from xoscar_sc.state import Snapshots
    from xoscar_sc.supervise.nursery import PoolNursery
    from xoscar_sc.supervise.seats import Seat, Seats

CHILD = ("restart", "backoff", "significant", "on_restart", "queued", "shutdown")
"""Keywords of create_actor that a supervisor takes."""


class Wanted(NamedTuple):
    """An actor that is to be made."""

    cls: type[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    uid: str | None
    """Made up if it is None."""
    traits: Traits
    snapshot: Snapshots | None = None
    """Where its state outlives it."""


class Ended(NamedTuple):
    """What a nursery is told of an actor's end."""

    event: ActorExited
    unclaimed: BaseException | None
    """An exception that nobody has waited for."""
    wish: Wish


class Again(NamedTuple):
    """An actor that is to be made again."""

    ref: ActorRef[Any]
    last: Ending
    """How it has ended."""
    life: int
    """Which time this will be. No two attempts have the same, whatever becomes of them: who has seen one waits for a
    later one."""


class Placed(NamedTuple):
    """An actor that is there."""

    ref: ActorRef[Any]
    seat: Seat
    told: Callable[[Ended], None] | None
    """Hears of its end in the nursery's place."""


class Actors:
    """See the top of this file."""

    def __init__(self, nursery: PoolNursery) -> None:
        self._nursery = nursery
        self._runtime = nursery.runtime
        self._placed: dict[str, Placed] = {}
        """Those whose end has not been heard of, by token, oldest first."""
        self._creating: dict[str, list[Ended]] = {}
        """Those that are being made, by token, and what has been heard of their end already."""
        self.by_uid: dict[str, ActorRef[Any]] = {}
        """Oldest first."""

    # The beginning

    async def create(
        self,
        wanted: Wanted,
        seat: Seat,
        told: Callable[[Ended], None] | None = None,
        again: Again | None = None,
    ) -> ActorRef[Any]:
        """Make an actor in the pool that ``seat`` is in; see :meth:`PoolNursery.create_actor`.

        The seat is the actor's from now on, and is left if there is none.

        Args:
            wanted: what is to be made.
            seat: where.
            told: hears of its end in the nursery's place.
            again: what was made of it before.
        """
        runtime = self._runtime
        token = f"{runtime.place.pool_id}-{runtime.serial()}"
        uid = wanted.uid or f"{wanted.cls.__name__}-{token}"
        early = self._creating[token] = []
        try:
            incarnation = await self._make(wanted, uid, token, seat, again)
        except BaseException:
            seat.leave()
            raise
        finally:
            del self._creating[token]
        ref: ActorRef[Any]
        if again is None:
            ref = ActorRef(seat.address, uid, incarnation, wanted.cls, traits=wanted.traits)
        else:
            ref = again.ref
            target = ref.__target__()
            target.rebind(Found(seat.address, incarnation, wanted.traits, again.life))
        self._nursery.happened(ActorCreated(uid, seat.seats.pool))
        if not seat.seats.closed:  # else its pool has ended meanwhile, and the actor with it
            self._placed[token] = Placed(ref, seat, told)
            self.by_uid[uid] = ref
        for ended in early:
            self.ended(ended, token)
        return ref

    async def _make(self, wanted: Wanted, uid: str, token: str, seat: Seat, again: Again | None) -> int:
        """Make it, with its name; its incarnation."""
        runtime = self._runtime
        cls, args, kwargs, _, traits, snapshot = wanted
        life = 1 if again is None else again.life
        owner = (runtime.address, self._nursery.id, token, life)
        undo = partial(self._release, uid, token)
        try:
            makers = (*runtime.place.above, runtime.address)
            if again is None:
                await runtime.at_root("reserve", uid, seat.address, token, makers)
            else:
                await runtime.at_root("renew", uid, traits.child, seat.address, token, makers, again.last)
            undo = partial(self._unmake, uid, token, seat)
            incarnation: int = await runtime.ask(
                seat.address, "create_actor", cls, args, kwargs, uid, owner, traits, snapshot
            )
            await runtime.at_root("bind", uid, token, Found(seat.address, incarnation, traits, life))
        except BaseException:
            await runtime.loop.run_shielded(undo)
            raise
        return incarnation

    async def _unmake(self, uid: str, token: str, seat: Seat) -> None:
        """Leave nothing of a creation that failed, or that nobody wants any more.

        The pool is asked, since the actor may be there: a cancelled call does not tell whether it was too late. Only
        the pool knows when the actor has gone, so that the uid is free. One that is blocked does it when it is not.
        """
        asked = self._runtime.loop.slot()
        self._runtime.loop.spawn(self._ask_to_unmake, uid, token, seat, asked)
        with anyio.move_on_after(self._runtime.timeouts.cancel):
            await asked.wait()

    async def _ask_to_unmake(self, uid: str, token: str, seat: Seat, asked: Slot) -> None:
        try:
            if seat.seats.closed:
                await self._release(uid, token)
            else:
                await self._runtime.ask(seat.address, "unmake_actor", uid, token)
        except XoscarError:  # the pool has gone
            await self._release(uid, token)
        finally:
            asked.set(None)

    async def _release(self, uid: str, token: str) -> None:
        with contextlib.suppress(XoscarError):  # the root has gone, and its table with it
            await self._runtime.at_root("release", uid, token)

    # The end of one

    def ended(self, ended: Ended, token: str) -> None:
        """An actor has ended; see :class:`Listening`."""
        if token in self._creating:
            self._creating[token].append(ended)
            return
        event, unclaimed, wish = ended
        nursery = self._nursery
        placed = self._placed.get(token)
        if placed is not None and placed.told is not None:
            nursery.happened(event)
            if wish != "pool":  # else the end of the pool is to come, and tells more
                del self._placed[token]
                placed.seat.leave()
                placed.told(ended)
            return
        if placed is not None:
            del self._placed[token]
            placed.seat.leave()
            if self.by_uid.get(event.uid) is placed.ref:
                del self.by_uid[event.uid]
        nursery.happened(event)
        if event.exit.kind == "failed":
            nursery.failed_actors.add(event.uid)
        if unclaimed is not None:
            nursery.fail(unclaimed)

    def forget(self, ref: ActorRef[Any]) -> None:
        """An actor that was restarted does not come back."""
        if self.by_uid.get(uid := ref.__target__().uid) is ref:
            del self.by_uid[uid]

    def pool_ended(self, seats: Seats) -> list[Placed]:
        """A pool has ended, and its actors with it; those whose ends somebody else has to hear of."""
        others = []
        for token, placed in list(self._placed.items()):
            if placed.seat.seats is seats:
                del self._placed[token]
                if placed.told is None:
                    self.forget(placed.ref)
                else:
                    others.append(placed)
        return others

    # The end of all

    async def drain(self) -> None:
        """End them when their mailboxes are empty, newest first."""
        for ref, seat, _ in reversed(list(self._placed.values())):
            try:
                await self._runtime.end_actor(ref.__target__(), "drain")
            except ActorNotExist:  # it has ended by itself
                pass
            except PoolDied as exc:
                if not self._is_known(seat.seats):
                    self._nursery.failures.append(exc)
            except Exception as exc:  # a hook's; it is raised when everything has ended
                self._nursery.failures.append(exc)

    def _is_known(self, seats: Seats) -> bool:
        """Whether a pool's end has been told of already, or was asked for."""
        return seats.closed or any(pool.asked for pool in self._nursery.pools.values() if pool.seats is seats)

    async def cancel_here(self) -> None:
        """End those of this process at once; those of the pools end with their pools."""
        here = [ref for ref in self.by_uid.values() if ref.address == self._runtime.address]
        for ref in reversed(here):
            with anyio.move_on_after(self._nursery.shutdown) as scope:
                try:
                    await self._runtime.end_actor(ref.__target__(), "cancel")
                except ActorNotExist:
                    pass
                except Exception as exc:  # as above
                    self._nursery.failures.append(exc)
            if scope.cancelled_caught:
                with contextlib.suppress(ActorNotExist):
                    await self._runtime.end_actor(ref.__target__(), "kill")


# What the caller gives


def wanted_actor(
    cls: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    uid: str | None,
    mailbox: int | None,
    overflow: Overflow,
) -> Wanted:
    """What :meth:`PoolNursery.create_actor` was given, checked.

    Raises:
        TypeError, ValueError: what is wrong with it.
    """
    kwargs = dict(kwargs)
    snapshot = kwargs.pop("snapshot", None)
    while isinstance(cls, partial):
        cls, args, kwargs = cls.func, (*cls.args, *args), {**cls.keywords, **kwargs}
        if is_actor_class(cls):
            break
    if not is_actor_class(cls):
        raise TypeError(f"{cls!r} is no actor class: derive it from Actor or StatelessActor")
    if uid is not None:
        check_name(uid, "uid")
    for name in CHILD[:-2]:  # the others were always an actor's own, where nobody supervises it
        if name in kwargs:
            raise TypeError(f"{name}= goes with a supervisor; open one with open_supervisor()")
    bound = BOUND if mailbox is None else mailbox
    check_mailbox(bound, overflow)
    if snapshot is not None:
        check_snapshot(cls, uid, snapshot)
    return Wanted(cls, args, kwargs, uid, traits_of(cls, bound, overflow), snapshot)


def one_strategy(
    pool: object, strategy: Strategy | None, allocate_strategy: Strategy | None, address: str | None
) -> Strategy | None:
    """The one of four ways to say where an actor goes; None if a pool or nothing was given.

    Raises:
        TypeError: there is more than one.
    """
    given = [each for each in (pool, strategy, allocate_strategy, address) if each is not None]
    if len(given) > 1:
        raise TypeError(
            "only one of pool=, strategy=, allocate_strategy= and address= says where an actor goes"
        )
    if address is not None:
        return AddressSpecified(address)
    return strategy or allocate_strategy
