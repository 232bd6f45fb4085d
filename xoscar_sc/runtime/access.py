"""Finding actors and pools from anywhere in a tree, without a nursery at hand."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any, TypeVar

import anyio
import msgspec

from xoscar_sc.errors import ActorNotExist, ConnectionLost, PoolDied, XoscarError
from xoscar_sc.runtime.current import require_runtime, running_runtime
from xoscar_sc.runtime.names import Found
from xoscar_sc.runtime.ref import ActorRef

T = TypeVar("T")


class CurrentPool(msgspec.Struct, frozen=True):
    """The pool that the running code is in."""

    name: str
    address: str
    pid: int
    labels: tuple[str, ...] = ()


def current_pool() -> CurrentPool:
    """The pool that this code runs in; the root program counts as one, while a nursery is open in it.

    Raises:
        XoscarError: there is none.
    """
    runtime = running_runtime()
    if runtime is None:
        raise XoscarError("this code runs in no pool, and no pool nursery is open")
    place = runtime.place
    return CurrentPool(place.name, place.address, os.getpid(), place.labels)


async def find_actor(uid: str) -> ActorRef[Any] | None:
    """The actor of this uid, wherever in the tree it lives; None if there is none that is ready."""
    found = await require_runtime().at_root("find", uid, False)
    return None if found is None else _ref(uid, found)


async def wait_for_actor(uid: str) -> ActorRef[Any]:
    """The actor of this uid; if there is none yet, as soon as there is one.

    Cancellation: leaves nothing behind.
    """
    found = await require_runtime().at_root("find", uid, True)
    return _ref(uid, found)


def _ref(uid: str, found: Found) -> ActorRef[Any]:
    return ActorRef(found.address, uid, found.incarnation, traits=found.traits, life=found.life)


async def actor_ref(address: str | None = None, uid: str = "") -> ActorRef[Any]:
    """A reference to an actor that is there, by its uid, and by its address if that is known.

    Raises:
        ActorNotExist: it is not there.
    """
    runtime = require_runtime()
    if address is None:
        found = await find_actor(uid)
        if found is None:
            raise ActorNotExist(f"there is no actor {uid!r} in the tree")
        return found
    try:
        known: Found | None = await runtime.ask(address, "describe", uid, 0)
    except (PoolDied, ConnectionLost) as exc:
        raise ActorNotExist(f"there is no actor {uid!r} at {address}: {exc}") from exc
    if known is None:
        raise ActorNotExist(f"there is no actor {uid!r} at {address}")
    return ActorRef(address, uid, known.traits.child, traits=known.traits)


async def wait_for(awaitable: Awaitable[T], timeout: float | None) -> T:
    """Wait for something, for so many seconds at most; None for as long as it takes.

    Raises:
        TimeoutError: it took longer. A call is cancelled then, as by any cancellation.

    Source: xoscar, and asyncio.
    """
    with anyio.fail_after(timeout):
        return await awaitable
    raise AssertionError("fail_after raises what it cuts off")


async def has_actor(ref: ActorRef[Any]) -> bool:
    """Whether an actor exists and takes messages."""
    return await ref.is_alive()


async def destroy_actor(ref: ActorRef[Any]) -> None:
    """See :meth:`ActorRef.destroy`."""
    await ref.destroy()


async def kill_actor(ref: ActorRef[Any]) -> None:
    """See :meth:`ActorRef.kill`."""
    await ref.kill()
