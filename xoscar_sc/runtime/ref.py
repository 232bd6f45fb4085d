"""References to actors: the values that others hold.

A reference is a name and an address; it holds no connection and no object, and may be pickled, compared and hashed.
The runtime that it works through is found when it is used.
"""

from __future__ import annotations

import math
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

import anyio

from xoscar_sc.errors import ActorDied, PoolDied
from xoscar_sc.events import Exit, Restarted
from xoscar_sc.runtime.actor import StatelessActor
from xoscar_sc.runtime.current import require_runtime
from xoscar_sc.runtime.methods import Retry, methods_of
from xoscar_sc.runtime.monitor import Monitor
from xoscar_sc.runtime.open_context import OpenContext
from xoscar_sc.runtime.streams import ResultStream
from xoscar_sc.runtime.telling import Arguments, TellMethod, tell_method
from xoscar_sc.runtime.traits import DEFAULT, Traits

if TYPE_CHECKING:
    from xoscar_sc.runtime.lasting import Lasting
    from xoscar_sc.runtime.names import Found
    from xoscar_sc.runtime.outgoing import Outgoing
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

    __slots__ = ("_lasts", "_runtime", "address", "cls", "copy", "incarnation", "life", "traits", "uid")

    def __init__(
        self,
        address: str,
        uid: str,
        incarnation: int,
        cls: type[Any] | None = None,
        *,
        copy: bool = False,
        traits: Traits = DEFAULT,
        life: int = 1,
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
        self.traits = traits
        """Of the actor's mailbox."""
        self.life = life
        """How often the actor has been started, as far as is known here."""
        self._lasts = traits.child > 0
        self._runtime: Runtime | None = None

    def rebind(self, found: Found) -> None:
        """The actor was started again."""
        if found.life > self.life:
            self.address, self.life = found.address, found.life

    def runtime(self) -> Runtime:
        """The runtime that the actor is reached through from here."""
        runtime = self._runtime
        if runtime is None or runtime.closed or runtime.thread != get_ident():
            self._runtime = runtime = require_runtime()
        return runtime

    def outgoing(self) -> Outgoing | Lasting:
        """The way that messages take to the actor."""
        runtime = self._runtime
        if runtime is None or runtime.closed or runtime.thread != get_ident():
            runtime = self.runtime()
        return runtime.lasting if self._lasts else runtime.outgoing

    def __repr__(self) -> str:
        kind = "" if self.cls is None else f"[{self.cls.__name__}]"
        return f"ActorRef{kind}({self.uid!r} at {self.address})"


class ActorMethod:
    """A method of an actor, wherever the actor lives. Calling it is the same as :meth:`send`."""

    __slots__ = ("_high", "_low", "_name", "_target", "tell")

    def __init__(self, target: Target, name: str) -> None:
        self._target = target
        self._name = name
        known = None if target.cls is None else methods_of(target.cls).get(name)
        self._low, self._high = (0.0, math.inf) if known is None else (known.low, known.high)
        # Of the target, as this is: it does not know this method, so there is no cycle.
        self.tell: TellMethod = tell_method(target, name, self._low, self._high, _check)
        """Calls the method, and waits for nothing but that the message is on its way; see :class:`TellMethod`."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> ResultStream[Any]:
        # A coroutine, for all but generator methods; which it is, types cannot tell from a name.
        if kwargs or not self._low <= len(args) <= self._high:
            args, kwargs = _check(self._target, self._name, args, kwargs)
        target = self._target
        return target.outgoing().send(target, self._name, args, kwargs)  # type: ignore[return-value]

    def send(self, /, *args: Any, **kwargs: Any) -> ResultStream[Any]:
        """Call the method, and wait for its value.

        Raises:
            the method's own exception, with a note that says where it was raised.
            TypeError: the arguments do not fit, where the actor's class is known here; nothing was sent.
            MsgTypeError: they do not fit the annotations of a :func:`typed` method, or its value does not.
            ActorNotExist: no such actor.
            ActorDied, PoolDied: it ended before it answered.
            SerializationError: an argument, or the value, cannot be sent.

        Cancellation: the method is cancelled at its next checkpoint, and waited for, for at most
        ``Timeouts.cancel`` seconds; if it takes longer, a :class:`CancelUnconfirmed` event tells so.
        """
        return self(*args, **kwargs)

    def delay(self, /, *args: Any, **kwargs: Any) -> Delayed:
        """Prepare a call for :meth:`batch`."""
        if kwargs or not self._low <= len(args) <= self._high:
            args, kwargs = _check(self._target, self._name, args, kwargs)
        return Delayed(self._target, self._name, args, kwargs)

    def open_context(self, /, *args: Any, **kwargs: Any) -> OpenContext:
        """Open a dialogue with the method, which is marked with :func:`context`; see :class:`OpenContext`.

        Raises:
            TypeError: the arguments do not fit, where the actor's class is known here.
        """
        args, kwargs = _check(self._target, self._name, args, kwargs)
        target = self._target
        return OpenContext(target, self._name, args, kwargs, f"{target.address} {target.uid}")

    async def batch(self, /, *delayed: Delayed) -> list[Any]:
        """Send many calls of this method in one message, and wait for their values, in order.

        Without a batch version of the method (see :func:`extensible`) the calls run one after the other, and the first
        that raises ends the batch: those behind it are not run.

        Raises:
            TypeError: one of ``delayed`` was made by something else than this method's :meth:`delay`.
            ValueError: there is none.
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
            raise ValueError(f"a batch of {name}() of {target!r} has no calls")
        calls = [(each.args, each.kwargs) for each in delayed]
        values: list[Any] = await target.outgoing().batch(target, name, calls)
        return values

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._target!r}>"


class StreamMethod(ActorMethod):
    """A generator method. Calling it gives a :class:`ResultStream`, and calls nothing yet."""

    __slots__ = ()

    def __call__(self, /, *args: Any, **kwargs: Any) -> ResultStream[Any]:
        args, kwargs = _check(self._target, self._name, args, kwargs)
        return ResultStream(self._target, self._name, args, kwargs)


class IdempotentMethod(ActorMethod):
    """A method whose calls are repeated when the actor's pool dies."""

    __slots__ = ("_retry",)

    def __init__(self, target: Target, name: str, retry: Retry) -> None:
        super().__init__(target, name)
        self._retry = retry

    def __call__(self, /, *args: Any, **kwargs: Any) -> ResultStream[Any]:
        args, kwargs = _check(self._target, self._name, args, kwargs)
        return self._repeat(args, kwargs)  # type: ignore[return-value]

    async def _repeat(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target = self._target
        seconds = self._retry.backoff
        for left in range(self._retry.retries, -1, -1):
            try:
                return await target.outgoing().send(target, self._name, args, kwargs)
            except ActorDied as exc:
                if not left or not isinstance(exc.__cause__, PoolDied) or exc.uid != target.uid:
                    raise
            except PoolDied:
                runtime = target.runtime()
                channel = runtime.peers.get(target.address)
                if not left or target.address == runtime.address or not (channel is None or channel.closed):
                    raise  # in the second case the method's own, of some other pool
            # Whoever has the uid by then; as long as nobody has, the pool is asked again, which has died.
            await anyio.sleep(seconds)
            seconds *= 2
            if target.traits.child:
                continue
            found: Found | None = await target.runtime().at_root("find", target.uid, False)
            if found is not None:
                uid, copy = target.uid, target.copy
                target = Target(found.address, uid, found.incarnation, copy=copy, traits=found.traits)
        raise AssertionError


def _check(target: Target, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """See :meth:`Method.check`, as far as the method is known here."""
    known = None if target.cls is None else methods_of(target.cls).get(name)
    return (args, kwargs) if known is None else known.check(args, kwargs)


def _method(target: Target, name: str) -> ActorMethod:
    if name in target.traits.streams:
        return StreamMethod(target, name)
    for method, retries, backoff in target.traits.retries:
        if method == name:
            return IdempotentMethod(target, name, Retry(retries, backoff))
    return ActorMethod(target, name)


def _same(one: Target, other: Target) -> bool:
    if one.traits.child or other.traits.child:
        return one.uid == other.uid and one.traits.child == other.traits.child
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
        traits: Traits = DEFAULT,
        life: int = 1,
    ) -> None:
        self._target = Target(address, uid, incarnation, cls, copy=copy, traits=traits, life=life)

    def options(self, *, copy: bool) -> ActorRef[T]:
        """The same reference with other options.

        Args:
            copy: arguments and values are copied also where caller and actor live in the same pool; without it they
                are handed over as they are there, and a change by one is seen by the other.
        """
        target = self._target
        place = target.address, target.uid, target.incarnation, target.cls
        return ActorRef(*place, copy=copy, traits=target.traits, life=target.life)

    @property
    def uid(self) -> str:
        """The actor's name, unique in the tree."""
        return self._target.uid

    @property
    def address(self) -> str:
        """The address of the actor's pool; of one that is restarted, as far as is known here."""
        return self._target.address

    @property
    def incarnation(self) -> int:
        """How often the actor has been started, as far as is known here; 1 if nobody restarts it.

        Whoever has not called the actor since, does not know; :meth:`is_alive` asks.
        """
        return self._target.life

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
        method = self.__dict__[name] = _method(self._target, name)
        return method

    async def destroy(self) -> None:
        """End the actor: the message in hand is finished, queued ones fail, ``__pre_destroy__`` runs.

        A supervisor does not start it again.

        Called from the actor's own code, it does not wait: the actor ends after the message in hand.

        Raises:
            ActorNotExist: it has ended already.
            what ``__pre_destroy__`` raised.

        Cancellation: the actor goes on ending.
        """
        await self._end("destroy")

    async def kill(self) -> None:
        """End the actor without its hooks: the message in hand is cancelled, queued ones fail.

        For a supervisor that is a failure, after which it may start it again.

        Raises:
            ActorNotExist: it has ended already.
        """
        await self._end("kill")

    async def _end(self, how: str) -> None:
        target = self._target
        runtime = target.runtime()
        if target.traits.child:
            await runtime.lasting.end_actor(target, how)
        else:
            await runtime.end_actor(target, how)

    @overload
    def monitor(self) -> Monitor[Exit]: ...
    @overload
    def monitor(self, *, restarts: bool) -> Monitor[Exit | Restarted]: ...
    def monitor(self, *, restarts: bool = False) -> Monitor[Any]:
        """Watch the actor: ``async with ref.monitor() as exits``.

        ``exits`` is a receive channel (``await exits.receive()``, ``async for``), which gives exactly one
        :class:`Exit`, when the actor has ended, however that comes to be; at once, if it has ended already. Of an actor
        that ended long ago, and of one whose pool cannot be asked, it is a failure that says so. Any number may watch.

        An actor that its supervisor starts again has not ended.

        Args:
            restarts: ``exits`` gives a :class:`Restarted` each time before; if it was started again several times in a
                row meanwhile, one for all of them.
        """
        return Monitor(self._target, restarts=restarts)

    async def is_alive(self) -> bool:
        """Whether the actor exists and takes messages."""
        return await self._target.runtime().is_alive(self._target)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorRef):
            return NotImplemented
        return _same(self._target, other._target)

    def __hash__(self) -> int:
        target = self._target
        return hash((target.traits.child or target.address, target.uid))

    def __reduce__(self) -> tuple[Any, ...]:
        target = self._target
        place = target.address, target.uid, target.incarnation, target.life, target.copy
        return _restore, (*place, *target.traits)

    def __repr__(self) -> str:
        return repr(self._target)

    def __target__(self) -> Target:
        return self._target


def _restore(address: str, uid: str, incarnation: int, life: int, copy: bool, *traits: Any) -> ActorRef[Any]:
    return ActorRef(address, uid, incarnation, copy=copy, traits=Traits(*traits), life=life)
