"""The classes that users derive their actors from."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from xoscar_sc.errors import NotExposed, XoscarError
from xoscar_sc.ipc import is_outside
from xoscar_sc.runtime.current import current_frame
from xoscar_sc.runtime.methods import dispatches

if TYPE_CHECKING:
    import trio

    from xoscar_sc.runtime.cell import Cell
    from xoscar_sc.runtime.ref import ActorRef


class Message(NamedTuple):
    """A message, as ``__on_receive__`` gets it."""

    method: str
    batch: bool
    """It holds many calls: ``args`` is a list of their arguments, and one of their keyword arguments."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class StatelessActor:
    """An actor whose messages all run at once, each as soon as it arrives.

    Its methods must not depend on one another's order. Everything else is as for :class:`Actor`.
    """

    __xsc_cell__: Cell | None = None

    async def __post_create__(self) -> None:
        """Called after ``__init__``, before any message; may call other actors. An error is the creator's."""

    async def __pre_destroy__(self) -> None:
        """Called after the last message, unless the actor or its process is killed. An error is the nursery's."""

    @dispatches
    async def __on_receive__(self, message: Message) -> Any:
        """Called for each message, in place of its method: overridden, it sees them all, and may do as it likes.

        ``await super().__on_receive__(message)`` calls the method, and gives its value.

        Source: xoscar.
        """
        return await self._cell().dispatch(message)

    def _cell(self) -> Cell:
        if self.__xsc_cell__ is None:
            raise XoscarError(f"this {type(self).__name__} was not made by create_actor")
        return self.__xsc_cell__

    @property
    def uid(self) -> str:
        """The actor's name, unique in the tree."""
        return self._cell().uid

    @property
    def address(self) -> str:
        """The address of the actor's pool."""
        return self._cell().runtime.address

    def ref(self) -> ActorRef[Self]:
        """A reference to this actor, to be given to others."""
        return self._cell().ref()

    @property
    def nursery(self) -> trio.Nursery:
        """A nursery that lives as long as the actor.

        A task that fails in it is the actor's failure; what still runs in it when the actor ends is cancelled.
        """
        nursery: trio.Nursery = self._cell().nursery
        return nursery

    @property
    def exit_stack(self) -> AsyncExitStack:
        """An exit stack that is closed when the actor ends, after ``__pre_destroy__``.

        What has a cancel scope, as a pool nursery has, is entered in ``__post_create__``: in the actor's own task.
        """
        return self._cell().exit_stack

    def unlocked(self) -> AbstractAsyncContextManager[None]:
        """Let other messages in while this block waits for something; the lock is taken back at its end.

        In code that does not have the actor's lock (a ``no_lock`` method, a task of the nursery, a stateless actor) it
        does nothing; nor, in a pool that runs asyncio, in a task that the message has started.

        Cancellation: the lock is taken back before the cancellation goes on.
        """
        return self._cell().unlocked()

    async def stop(self) -> None:
        """End this actor, normally, after the message in hand. Queued messages fail with :exc:`ActorDied`.

        Raises:
            NotExposed: a program from outside has called it.
        """
        if getattr(current_frame.get(), "method", "") == "stop":
            refuse_outside(self.uid)
        self._cell().stop_soon()


class Actor(StatelessActor):
    """An object that lives in a pool, and gets one message at a time, in the order of arrival.

    Its public methods, sync or async, are what references to it can call. Names that begin with an underscore cannot be
    called from outside. ``__init__`` runs in the actor's pool.
    """


def refuse_outside(uid: str) -> None:
    """Refuse to end an actor for the message in hand, if that is a program's from outside.

    Raises:
        NotExposed: it is.
    """
    channel = getattr(current_frame.get(), "channel", None)
    if channel is not None and is_outside(channel):
        raise NotExposed(f"actor {uid!r} is not for programs from outside to end")


def is_actor_class(cls: Any) -> bool:
    """Whether ``cls`` can be created as an actor."""
    return isinstance(cls, type) and issubclass(cls, StatelessActor)
