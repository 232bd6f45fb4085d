"""Making a group of actors: all of them, or none."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from xoscar_sc.errors import XoscarError
from xoscar_sc.runtime import ActorGroup, ActorRef, Route, check_route, gather

if TYPE_CHECKING:
    from xoscar_sc.supervise.nursery import PoolNursery

T = TypeVar("T")


def check_size(size: object) -> None:
    """A group has one member at least."""
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"size= is {size!r}; it is a number of actors")
    if size < 1:
        raise ValueError(f"size= is {size}; it is 1 or more")


async def _unmake(nursery: PoolNursery, members: list[ActorRef[Any]]) -> None:
    """Leave none of them: nobody knows them, so nobody wants their hooks."""

    async def kill(member: ActorRef[Any]) -> None:
        with contextlib.suppress(XoscarError):  # it has ended already
            await nursery.discard(member)

    await gather([partial(kill, member) for member in members])


async def create_group(
    nursery: PoolNursery,
    cls: type[T],
    args: tuple[Any, ...],
    *,
    size: int,
    route: Route,
    uid: str | None,
    options: dict[str, Any],
) -> ActorGroup[T]:
    """See :meth:`PoolNursery.create_group`."""
    check_size(size)
    check_route(route)
    made: list[ActorRef[T]] = []

    async def create(number: int) -> ActorRef[T]:
        name = None if uid is None else f"{uid}-{number}"
        ref = await nursery.create_actor(cls, *args, uid=name, **options)
        made.append(ref)
        return ref

    try:
        members = await gather([partial(create, number) for number in range(size)])
    except BaseException:
        if made:
            await nursery.runtime.loop.run_shielded(partial(_unmake, nursery, made))
        raise
    return ActorGroup(members, route)
