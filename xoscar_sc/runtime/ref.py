"""References to actors: the values that others hold.

A reference is a name and an address; it holds no connection and no object, and may be pickled, compared and hashed.
The runtime that it works through is found when it is used.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from xoscar_sc.runtime.actor import StatelessActor
from xoscar_sc.runtime.current import require_runtime
from xoscar_sc.runtime.methods import methods_of

if TYPE_CHECKING:
    from xoscar_sc.runtime.runtime import Runtime

T = TypeVar("T", covariant=True)


class Delayed:
    """A call that has been prepared for a batch."""

    __slots__ = ("args", "kwargs", "method", "ref")

    def __init__(
        self, ref: ActorRef[Any], method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.ref = ref
        self.method = method
        self.args = args
        self.kwargs = kwargs


class ActorMethod:
    """A method of an actor, wherever the actor lives. Calling it is the same as :meth:`send`."""

    __slots__ = ("_name", "_ref")

    def __init__(self, ref: ActorRef[Any], name: str) -> None:
        self._ref = ref
        self._name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        ref = self._ref
        return ref.__runtime__().outgoing.send(ref, self._name, args, kwargs)

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
        ref = self._ref
        return ref.__runtime__().outgoing.send(ref, self._name, args, kwargs)

    async def tell(self, /, *args: Any, **kwargs: Any) -> None:
        """Call the method, and wait for nothing but that the message is on its way.

        An exception that the method raises is the actor's failure: its nursery raises it.

        Raises:
            PoolDied: the actor's pool has ended.
            SerializationError: an argument cannot be sent.

        Cancellation: the message was not sent.
        """
        ref = self._ref
        await ref.__runtime__().outgoing.tell(ref, self._name, args, kwargs)

    def delay(self, /, *args: Any, **kwargs: Any) -> Delayed:
        """Prepare a call for :meth:`batch`."""
        return Delayed(self._ref, self._name, args, kwargs)

    async def batch(self, /, *delayed: Delayed) -> list[Any]:
        """Send many calls of this method in one message, and wait for their values, in order.

        Without a batch version of the method (see :func:`extensible`) the calls run one after the other, and the first
        that raises ends the batch: those behind it are not run.

        Raises:
            TypeError: one of ``delayed`` was made by something else than this method's :meth:`delay`.
            and what :meth:`send` raises.

        Cancellation: as for :meth:`send`.
        """
        ref, name = self._ref, self._name
        for each in delayed:
            if not isinstance(each, Delayed):
                raise TypeError(f"batch() takes what delay() gives, not {type(each).__name__}")
            if each.method != name or each.ref != ref:
                raise TypeError(
                    f"a batch of {name}() of {ref!r} cannot hold a call of {each.method}() of {each.ref!r}"
                )
        if not delayed:
            return []
        calls = [(each.args, each.kwargs) for each in delayed]
        values: list[Any] = await ref.__runtime__().outgoing.batch(ref, name, calls)
        return values

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._ref!r}>"


class ActorRef(Generic[T]):
    """A reference to an actor of class ``T``: its public methods, and what is listed here.

    Methods of the actor that are called like one of these are hidden by it.
    """

    __slots__ = ("__weakref__", "_address", "_cls", "_incarnation", "_runtime", "_uid")

    def __init__(
        self, address: str, uid: str, incarnation: int = 0, cls: type[StatelessActor] | None = None
    ) -> None:
        self._address = address
        self._uid = uid
        self._incarnation = incarnation
        self._cls = cls
        self._runtime: Runtime | None = None

    @property
    def uid(self) -> str:
        """The actor's name, unique in the tree."""
        return self._uid

    @property
    def address(self) -> str:
        """The address of the actor's pool."""
        return self._address

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("_"):
            raise AttributeError(f"{name!r} is private to the actor")
        cls = self._cls
        if cls is not None and name not in methods_of(cls) and not hasattr(cls, "__getattr__"):
            raise AttributeError(f"{cls.__name__} has no public method {name!r}")
        return ActorMethod(self, name)

    def __runtime__(self) -> Runtime:
        runtime = self._runtime
        if runtime is None or runtime.closed:
            self._runtime = runtime = require_runtime()
        return runtime

    @property
    def __target__(self) -> tuple[str, str, int]:
        return self._address, self._uid, self._incarnation

    async def destroy(self) -> None:
        """End the actor: the message in hand is finished, queued ones fail, ``__pre_destroy__`` runs.

        Called from the actor's own code, it does not wait: the actor ends after the message in hand.

        Raises:
            ActorNotExist: it has ended already.
            what ``__pre_destroy__`` raised.

        Cancellation: the actor goes on ending.
        """
        await self.__runtime__().end_actor(self, "destroy")

    async def kill(self) -> None:
        """End the actor without its hooks: the message in hand is cancelled, queued ones fail.

        Raises:
            ActorNotExist: it has ended already.
        """
        await self.__runtime__().end_actor(self, "kill")

    async def is_alive(self) -> bool:
        """Whether the actor exists and takes messages."""
        return await self.__runtime__().is_alive(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorRef):
            return NotImplemented
        return self._uid == other._uid and self._address == other._address

    def __hash__(self) -> int:
        return hash((self._address, self._uid))

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorRef, (self._address, self._uid, self._incarnation)

    def __repr__(self) -> str:
        kind = "" if self._cls is None else f"[{self._cls.__name__}]"
        return f"ActorRef{kind}({self._uid!r} at {self._address})"
