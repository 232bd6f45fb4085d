"""References to many actors of one class, used as one: a worker pool, a sharded store, a fan-out.

A group is a value as a reference is. Who is busy, whose turn it is, and who has ended is known to each holder for
itself.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, get_args

import msgspec

from xoscar_sc.errors import ActorDied, ActorNotExist, ConnectionLost, PoolDied
from xoscar_sc.runtime.gathering import awaited, gather
from xoscar_sc.runtime.mapping import MapStream
from xoscar_sc.runtime.ref import ActorMethod, ActorRef
from xoscar_sc.runtime.streams import ResultStream, Source
from xoscar_sc.serialize import dumps

T = TypeVar("T", covariant=True)
V = TypeVar("V")

Route: TypeAlias = Literal["round_robin", "least_busy", "hash", "broadcast"]


# A pickle depends on which parts of a value are the same object, and on the order of a set.
_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder(order="deterministic").encode


def check_route(route: object) -> None:
    """Raise :exc:`ValueError` if there is no such route."""
    if route not in get_args(Route):
        raise ValueError(f"route= is {route!r}; it is one of {get_args(Route)}")


_ENDS = (ActorNotExist, ActorDied, PoolDied, ConnectionLost)
"""What a call may raise whose actor has ended."""


class GroupMethod:
    """A method of a group's actors."""

    __slots__ = ("_group", "_name")

    def __init__(self, group: ActorGroup[Any], name: str) -> None:
        self._group = group
        self._name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return self._group.__call_member__(self._name, args, kwargs)

    def send(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Call the method of the actor whose turn it is, or of all, and wait for the value, or the list of all.

        Raises and cancellation: as for :meth:`ActorMethod.send`. Of several exceptions of a broadcast, a group; the
        other calls are cancelled by the first.
        """
        return self(*args, **kwargs)

    async def tell(self, /, *args: Any, **kwargs: Any) -> None:
        """Send a message to the actor whose turn it is, or to all; see :meth:`ActorMethod.tell`."""
        group = self._group
        if group.route == "broadcast":
            for member in group.members:
                await getattr(member, self._name).tell(*args, **kwargs)
        else:
            index = group.__pick__(args)
            await group.__track__(index, getattr(group.members[index], self._name).tell(*args, **kwargs))

    def map(
        self,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        limit: int | None = None,
    ) -> MapStream[Any]:
        """Call the method for each item; see :meth:`ActorGroup.map`."""
        return self._group.map(self, *iterables, ordered=ordered, limit=limit)

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._group!r}>"

    def __method_name__(self) -> str:
        return self._name


class ActorGroup(Generic[T]):
    """References to actors of class ``T``, used as one. Made by :meth:`PoolNursery.create_group`.

    Methods of the actors that are called like one of these are hidden by it.

    Attributes:
        members: a reference to each.
        route: who gets a message: ``"round_robin"``, one after the other; ``"least_busy"``, the one with the fewest
            open calls of this holder's; ``"hash"``, always the same for the same first argument; ``"broadcast"``, all,
            and a call gives the list of their values. The first two pass over those that have ended, once this holder
            has met the end.

    Raises:
        ValueError: there are no members, or no such route.
    """

    def __init__(self, members: Iterable[ActorRef[T]], route: Route = "round_robin") -> None:
        self.members = tuple(members)
        self.route: Route = route
        if not self.members:
            raise ValueError("a group has one member at least")
        check_route(route)
        self._busy = [0] * len(self.members)
        self._gone: set[int] = set()
        self._turn = 0

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[ActorRef[T]]:
        return iter(self.members)

    def __getitem__(self, index: int) -> ActorRef[T]:
        return self.members[index]

    @property
    def typed(self) -> T:
        """This group, as type checkers see one of its actors. Of a broadcast, a call gives a list all the same."""
        return cast("T", self)

    def __getattr__(self, name: str) -> GroupMethod:
        self._check_method(name)
        method = self.__dict__[name] = GroupMethod(self, name)
        return method

    def map(
        self,
        method: GroupMethod | str,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        limit: int | None = None,
    ) -> MapStream[Any]:
        """Call a method for each item, several at the same time, and give the values as an async iterator.

        Args:
            method: its name, or ``group.method``.
            iterables: the items; of several iterables, one of each makes the arguments of a call, as :func:`map` does.
                A single one may be an async iterable.
            ordered: the values come in the order of the items; else as they are completed.
            limit: items that are under way, or done and not yet read; twice as many as there are members by default.

        ``async with group.map(...) as values`` ends with its block: calls that are still open are cancelled, and waited
        for. Without a block nobody waits for them.

        Raises:
            TypeError, ValueError: an argument is wrong.
            AttributeError: there is no such method.
            what a call raises, when it is its turn; nothing is called any more then.
        """
        if not isinstance(method, str | GroupMethod):
            raise TypeError(f"map() takes a method of the group, or its name, not {type(method).__name__}")
        name = method if isinstance(method, str) else method.__method_name__()
        self._check_method(name)
        limit = 2 * len(self) if limit is None else limit
        return MapStream(partial(self._call_for, name), iterables, ordered=ordered, limit=limit)

    def _check_method(self, name: str) -> None:
        """Raise :exc:`AttributeError` if the actors have no such method."""
        if name.startswith("_") or not isinstance(getattr(self.members[0], name), ActorMethod):
            raise AttributeError(f"the actors of a group have no public method {name!r}")

    async def _call_for(self, name: str, args: tuple[Any, ...]) -> Any:
        return await self.__call_member__(name, args, {})

    async def destroy(self) -> None:
        """End the actors, all at the same time; those that have ended already are passed over."""

        async def end(member: ActorRef[T]) -> None:
            try:
                await member.destroy()
            except (ActorNotExist, PoolDied, ConnectionLost):
                pass

        await gather([partial(end, member) for member in self.members])

    # Routing

    def __pick__(self, args: tuple[Any, ...]) -> int:
        """Whose turn it is."""
        size = len(self.members)
        if self.route == "hash":
            if not args:
                raise TypeError('route="hash" goes by the first argument, and there is none')
            return zlib.crc32(_bytes_of(args[0])) % size
        alive = [index for index in range(size) if index not in self._gone]
        if not alive:
            raise ActorNotExist(f"all {size} actors of the group have ended")
        self._turn += 1
        turned = [*alive[self._turn % len(alive) :], *alive[: self._turn % len(alive)]]
        return turned[0] if self.route == "round_robin" else min(turned, key=self._busy.__getitem__)

    def __call_member__(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        if self.route == "broadcast":
            calls = [getattr(member, name)(*args, **kwargs) for member in self.members]
            if isinstance(calls[0], ResultStream):
                raise TypeError(f"{name}() gives a stream, and a broadcast has no one stream to give")
            return gather([partial(awaited, call) for call in calls])
        index = self.__pick__(args)
        call = getattr(self.members[index], name)(*args, **kwargs)
        if isinstance(call, ResultStream):
            return _MemberStream(self, index, name, args, kwargs)
        return self.__track__(index, call)

    async def __track__(self, index: int, call: Coroutine[Any, Any, Any]) -> Any:
        self.__busier__(index, 1)
        try:
            return await call
        except _ENDS as exc:
            await self.__check__(index, exc)
            raise
        finally:
            self.__busier__(index, -1)

    def __busier__(self, index: int, change: int) -> None:
        self._busy[index] += change

    async def __check__(self, index: int, exc: Exception) -> None:
        """A member may have ended: if so, others are chosen from now on."""
        member = self.members[index]
        if member.__target__().traits.child and not isinstance(exc, ActorNotExist):
            return  # its supervisor starts it again; and if it does not, the next call is told so
        if not await member.is_alive():
            self._gone.add(index)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorGroup):
            return NotImplemented
        return self.members == other.members and self.route == other.route

    def __hash__(self) -> int:
        return hash((self.members, self.route))

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorGroup, (self.members, self.route)

    def __repr__(self) -> str:
        return f"<ActorGroup of {len(self)}, {self.route}: {self.members[0]!r}, ...>"


def _bytes_of(key: object) -> bytes:
    """The same bytes for equal keys, in every process."""
    try:
        return _encode(key)
    except (TypeError, ValueError, OverflowError, RecursionError):  # it is no plain value
        return dumps(key)


class _MemberStream(ResultStream[Any]):
    """A stream of one of a group's actors, which is busy as long as that is open."""

    def __init__(
        self,
        group: ActorGroup[Any],
        index: int,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(group.members[index].__target__(), method, args, kwargs)
        self._group = group
        self._index = index
        self._counts = False

    async def _open(self) -> Source:
        try:
            source = await super()._open()
        except _ENDS as exc:
            await self._group.__check__(self._index, exc)
            raise
        if not self._ended:
            self._counts = True
            self._group.__busier__(self._index, 1)
        return source

    async def __anext__(self) -> Any:
        try:
            return await super().__anext__()
        except _ENDS as exc:
            await self._group.__check__(self._index, exc)
            raise

    def _end(self) -> None:
        super()._end()
        if self._counts:
            self._counts = False
            self._group.__busier__(self._index, -1)
