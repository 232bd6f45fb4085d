"""``ref.method.tell(...)`` and ``ref.method.tell.durable(...)``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime.methods import DURABLE
from xoscar_sc.serialize import dumps_call

if TYPE_CHECKING:
    from xoscar_sc.runtime.ref import Target

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

LONGEST_ID = 1024
"""Characters of what a teller calls a durable tell."""


class TellMethod(Protocol):
    """How a method is called by who waits for nothing but that the message is on its way."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        """Call the method, and wait for nothing but that the message is on its way.

        An exception that the method raises is the actor's failure: its nursery raises it.

        Raises:
            PoolDied: the actor's pool has ended.
            SerializationError: an argument cannot be sent.

        Cancellation: the message was not sent.
        """

    def durable(self, /, *args: Any, id: str | None = None, **kwargs: Any) -> Coroutine[Any, Any, None]:
        """Call the method, and wait until that has been written down: it will run, whatever ends meanwhile.

        The actor is one that has been created with ``snapshot=``. The message runs at least once, in order with the
        actor's other durable tells: now, or when the actor is created again. :func:`xoscar_sc.current_delivery` tells
        the method which it is. The effects on a state that comes back from a snapshot are there exactly once. If the
        method raises, it is the actor's failure as with any tell; the message is delivered again to the next actor of
        that uid, up to ``Snapshots.retries`` times.

        Args:
            args: copied, in the same pool too.
            id: what you call the message: one with an id that the actor has had among its last 10,000 durable tells is
                acknowledged, and not run again. So one that may have been recorded can be told again.
            kwargs: as ``args``; a parameter of the method that is called ``id`` is given by its place.

        Raises:
            StateError: it cannot be written down; the actor has no ``snapshot=``, say, or the disk is full.
            TypeError, AttributeError: there is no such method, it does not take such arguments, or it runs beside
                others (``no_lock``, contexts), or streams.
            MailboxFull: its mailbox is full, and has ``overflow="raise"``.
            PoolDied, ActorDied: the actor has ended; the message may have been written down.

        Cancellation: the message may have been written down.
        """


def tell_method(
    target: Target, name: str, low: float, high: float, check: Callable[..., Arguments]
) -> TellMethod:
    """What ``tell`` is, of one method; ``check`` is asked about arguments that are not obviously right."""

    # A plain function: what calls it costs as little as the call of a method.
    def tell(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        if kwargs or not low <= len(args) <= high:
            args, kwargs = check(target, name, args, kwargs)
        return target.outgoing().tell(target, name, args, kwargs)

    def durable(*args: Any, id: str | None = None, **kwargs: Any) -> Coroutine[Any, Any, None]:
        if kwargs or not low <= len(args) <= high:
            args, kwargs = check(target, name, args, kwargs)
        if id is not None:
            _check_id(id)
        return _tell_durable(target, name, args, kwargs, "" if id is None else id)

    tell.durable = durable  # type: ignore[attr-defined]
    return cast("TellMethod", tell)


def _check_id(id: object) -> None:
    if not isinstance(id, str):
        raise TypeError(f"id= is {id!r:.100}; it is a text")
    if not 0 < len(id) <= LONGEST_ID:
        raise ValueError(f"id= has {len(id)} characters; it has 1 to {LONGEST_ID}")


@undisturbed
async def _tell_durable(
    target: Target, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], mark: str
) -> None:
    body = dumps_call(args, kwargs)
    await target.outgoing().send(target, DURABLE, (name, body, mark), {})
