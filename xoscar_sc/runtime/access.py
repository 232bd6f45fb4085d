"""Finding actors and pools from anywhere in a tree, without a nursery at hand."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any, TypeVar

import anyio
import msgspec

from xoscar_sc.errors import ActorNotExist, ConnectionLost, PoolDied, XoscarError
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime.current import require_runtime, running_runtime
from xoscar_sc.runtime.links import Link
from xoscar_sc.runtime.names import Found, found_from
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


async def find_actor(uid: str, *, registry: str | None = None) -> ActorRef[Any] | None:
    """The actor of this uid, wherever in the tree it lives; None if there is none that is ready.

    Inside a block of :func:`connect`, also in the tree that it is connected to, if there is none in one's own.

    Args:
        uid: its name.
        registry: the address of another program's door: the actor of that tree.

    Raises:
        ConnectionLost, AuthenticationError: the other program cannot be reached, or does not let us in.
    """
    runtime = require_runtime()
    if registry is not None:
        return await find_through(_link(registry), uid, wait=False)
    found = await runtime.at_root("find", uid, False)
    if found is not None:
        return _ref(uid, found)
    for link in runtime.links.entered():
        ref = await find_through(link, uid, wait=False)
        if ref is not None:
            return ref
    return None


async def wait_for_actor(uid: str, *, registry: str | None = None) -> ActorRef[Any]:
    """The actor of this uid; if there is none yet, as soon as there is one. It is looked for as by :func:`find_actor`.

    Cancellation: leaves nothing behind.
    """
    runtime = require_runtime()
    if registry is not None:
        return await come_through(_link(registry), uid)
    links = runtime.links.entered()
    if not links:
        return _ref(uid, await runtime.at_root("find", uid, True))
    found: list[ActorRef[Any]] = []

    @undisturbed
    async def look(link: Link | None) -> None:
        there = (
            _ref(uid, await runtime.at_root("find", uid, True))
            if link is None
            else await come_through(link, uid)
        )
        found.append(there)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for link in (None, *links):
            group.start_soon(look, link)
    return found[0]


async def come_through(link: Link, uid: str) -> ActorRef[Any]:
    """An actor of another program's tree; as soon as there is one."""
    ref = await find_through(link, uid, wait=True)
    assert ref is not None
    return ref


def _link(address: str) -> Link:
    link = require_runtime().links.to(address)
    if link is None:
        raise ValueError(f"{address!r} is no door of another program's; those are tcp://host:port")
    return link


async def find_through(link: Link, uid: str, *, wait: bool) -> ActorRef[Any] | None:
    """An actor of another program's tree; None if there is none, unless it is to be waited for."""
    found = found_from(await link.ask("find", uid, wait))
    return None if found is None else _ref(uid, found)


def _ref(uid: str, found: Found) -> ActorRef[Any]:
    return ActorRef(found.address, uid, found.incarnation, traits=found.traits, life=found.life)


async def actor_ref(address: str | None = None, uid: str = "") -> ActorRef[Any]:
    """A reference to an actor that is there, by its uid, and by its address if that is known.

    Args:
        address: of its pool, or of the door of another program.
        uid: its name.

    Raises:
        ActorNotExist: it is not there.
        ConnectionLost, AuthenticationError: another program cannot be reached, or does not let us in.
    """
    runtime = require_runtime()
    if address is None:
        found = await find_actor(uid)
        if found is None:
            raise ActorNotExist(f"there is no actor {uid!r} in the tree")
        return found
    near = runtime.peers.is_near(address)
    try:
        known = found_from(await runtime.ask(address, "describe", uid, 0))
    except (PoolDied, ConnectionLost) as exc:
        if not near:
            raise
        raise ActorNotExist(f"there is no actor {uid!r} at {address}: {exc}") from exc
    if known is None:
        raise ActorNotExist(f"there is no actor {uid!r} at {address}")
    if not near:
        return _ref(uid, known)
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
