"""References to actors: the values that others hold.

A reference is a name and an address; it holds no connection and no object, and may be pickled, compared and hashed.
The runtime that it works through is found when it is used.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from xoscar_sc.runtime.actor import StatelessActor
from xoscar_sc.runtime.current import require_runtime
from xoscar_sc.runtime.mailbox import DEFAULT, Capacity, Overflow
from xoscar_sc.runtime.methods import methods_of

if TYPE_CHECKING:
    from xoscar_sc.runtime.runtime import Runtime

T = TypeVar("T", covariant=True)

MAX_NAME = 1024
"""Characters of a uid or of a method's name: as many as the protocol admits."""


class Delayed:
    """A call that has been prepared for a batch."""

    __slots__ = ("args", "kwargs", "method", "target")

    def __init__(self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.target = target
        self.method = method
        self.args = args
        self.kwargs = kwargs


class Target:
    """Who a reference refers to, shared by the reference and its methods."""

    __slots__ = ("_runtime", "address", "capacity", "cls", "copy", "incarnation", "uid")

    def __init__(
        self,
        address: str,
        uid: str,
        incarnation: int,
        cls: type[Any] | None = None,
        *,
        copy: bool = False,
        capacity: Capacity = DEFAULT,
    ) -> None:
        if len(uid) > MAX_NAME:
            raise ValueError(f"a uid of {len(uid)} characters; {MAX_NAME} are admitted")
        self.address = address
        self.uid = uid
        self.incarnation = incarnation
        """Which actor of that uid; 0 for whichever."""
        self.cls = cls
        """Its class, where that is known."""
        self.copy = copy
        """Arguments and values are copied in the same pool too."""
        self.capacity = capacity
        """Of the actor's mailbox."""
        self._runtime: Runtime | None = None

    def runtime(self) -> Runtime:
        """The runtime that the actor is reached through from here."""
        runtime = self._runtime
        if runtime is None or runtime.closed:
            self._runtime = runtime = require_runtime()
        return runtime

    def __repr__(self) -> str:
        kind = "" if self.cls is None else f"[{self.cls.__name__}]"
        return f"ActorRef{kind}({self.uid!r} at {self.address})"


class ActorMethod:
    """A method of an actor, wherever the actor lives. Calling it is the same as :meth:`send`."""

    __slots__ = ("_name", "_target")

    def __init__(self, target: Target, name: str) -> None:
        self._target = target
        self._name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        target = self._target
        return target.runtime().outgoing.send(target, self._name, args, kwargs)

    def send(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Call the method, and wait for its value.

        Raises:
            the method's own exception, with a note that says where it was raised.
            ActorNotExist: no such actor.
            ActorDied, PoolDied: it ended before it answered.
            SerializationError: an argument, or the value, cannot be sent.

        Cancellation: the method is cancelled at its next checkpoint, and waited for, for at most
        ``Timeouts.cancel`` seconds; if it takes longer, a :class:`CancelUnconfirmed` event tells so.
        """
        return self(*args, **kwargs)

    def tell(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        """Call the method, and wait for nothing but that the message is on its way.

        An exception that the method raises is the actor's failure: its nursery raises it.

        Raises:
            PoolDied: the actor's pool has ended.
            SerializationError: an argument cannot be sent.

        Cancellation: the message was not sent.
        """
        target = self._target
        return target.runtime().outgoing.tell(target, self._name, args, kwargs)

    def delay(self, /, *args: Any, **kwargs: Any) -> Delayed:
        """Prepare a call for :meth:`batch`."""
        return Delayed(self._target, self._name, args, kwargs)

    async def batch(self, /, *delayed: Delayed) -> list[Any]:
        """Send many calls of this method in one message, and wait for their values, in order.

        Without a batch version of the method (see :func:`extensible`) the calls run one after the other, and the first
        that raises ends the batch: those behind it are not run.

        Raises:
            TypeError: one of ``delayed`` was made by something else than this method's :meth:`delay`.
            and what :meth:`send` raises.

        Cancellation: as for :meth:`send`.
        """
        target, name = self._target, self._name
        for each in delayed:
            if not isinstance(each, Delayed):
                raise TypeError(f"batch() takes what delay() gives, not {type(each).__name__}")
            if each.method != name or (each.target is not target and not _same(each.target, target)):
                raise TypeError(
                    f"a batch of {name}() of {target!r} cannot hold a call of {each.method}() of {each.target!r}"
                )
        if not delayed:
            return []
        calls = [(each.args, each.kwargs) for each in delayed]
        values: list[Any] = await target.runtime().outgoing.batch(target, name, calls)
        return values

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._target!r}>"


def _same(one: Target, other: Target) -> bool:
    return one.uid == other.uid and one.address == other.address


class ActorRef(Generic[T]):
    """A reference to an actor of class ``T``: its public methods, and what is listed here.

    Methods of the actor that are called like one of these are hidden by it.
    """

    __slots__ = ("__dict__", "__weakref__", "_target")

    def __init__(
        self,
        address: str,
        uid: str,
        incarnation: int = 0,
        cls: type[StatelessActor] | None = None,
        *,
        copy: bool = False,
        capacity: Capacity = DEFAULT,
    ) -> None:
        self._target = Target(address, uid, incarnation, cls, copy=copy, capacity=capacity)

    def options(self, *, copy: bool) -> ActorRef[T]:
        """The same reference with other options.

        Args:
            copy: arguments and values are copied also where caller and actor live in the same pool; without it they
                are handed over as they are there, and a change by one is seen by the other.
        """
        target = self._target
        return ActorRef(
            target.address, target.uid, target.incarnation, target.cls, copy=copy, capacity=target.capacity
        )

    @property
    def uid(self) -> str:
        """The actor's name, unique in the tree."""
        return self._target.uid

    @property
    def address(self) -> str:
        """The address of the actor's pool."""
        return self._target.address

    @property
    def typed(self) -> T:
        """This reference, as type checkers see the actor itself: parameters and results of its methods are known."""
        return cast("T", self)

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("_") or len(name) > MAX_NAME:
            raise AttributeError(f"{name[:MAX_NAME]!r} is private to the actor, or no name at all")
        cls = self._target.cls
        if cls is not None and name not in methods_of(cls) and not hasattr(cls, "__getattr__"):
            raise AttributeError(f"{cls.__name__} has no public method {name!r}")
        # Kept, so that the next access is a plain one. The method knows the target, not this reference: no cycle.
        method = self.__dict__[name] = ActorMethod(self._target, name)
        return method

    async def destroy(self) -> None:
        """End the actor: the message in hand is finished, queued ones fail, ``__pre_destroy__`` runs.

        Called from the actor's own code, it does not wait: the actor ends after the message in hand.

        Raises:
            ActorNotExist: it has ended already.
            what ``__pre_destroy__`` raised.

        Cancellation: the actor goes on ending.
        """
        await self._target.runtime().end_actor(self._target, "destroy")

    async def kill(self) -> None:
        """End the actor without its hooks: the message in hand is cancelled, queued ones fail.

        Raises:
            ActorNotExist: it has ended already.
        """
        await self._target.runtime().end_actor(self._target, "kill")

    async def is_alive(self) -> bool:
        """Whether the actor exists and takes messages."""
        return await self._target.runtime().is_alive(self._target)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorRef):
            return NotImplemented
        return _same(self._target, other._target)

    def __hash__(self) -> int:
        return hash((self._target.address, self._target.uid))

    def __reduce__(self) -> tuple[Any, ...]:
        target = self._target
        return _restore, (target.address, target.uid, target.incarnation, target.copy, *target.capacity)

    def __repr__(self) -> str:
        return repr(self._target)

    def __target__(self) -> Target:
        return self._target


def _restore(
    address: str, uid: str, incarnation: int, copy: bool, bound: int, overflow: Overflow
) -> ActorRef[Any]:
    return ActorRef(address, uid, incarnation, copy=copy, capacity=Capacity(bound, overflow))
