"""The block of a pool nursery: how it is entered and left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any

from xoscar_sc.ipc import Auth
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime import GateSettings, leave_scope
from xoscar_sc.supervise.nursery import PoolNursery
from xoscar_sc.supervise.outcome import combine
from xoscar_sc.supervise.root import acquire, release
from xoscar_sc.supervise.spec import PoolSpec, check_env, check_name, check_seconds, door, pool_specs
from xoscar_sc.timeouts import Timeouts


def open_pool_nursery(  # noqa: PLR0913 - each says one thing, by its name
    pools: int | Sequence[PoolSpec] | None = None,
    *,
    name: str | None = None,
    address: str | None = None,
    advertise: str | None = None,
    auth: Auth | None = None,
    expose: Sequence[Any] | None = None,
    pickle: bool = True,
    labels: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    launcher: str = "local",
    shutdown: float = 5.0,
    loglevel: int | str | None = None,
    timeouts: Timeouts | None = None,
) -> AbstractAsyncContextManager[PoolNursery]:
    """A block that owns processes, and the actors in them: ``async with open_pool_nursery() as n``.

    Leaving it without an error waits for every function that it runs, empties mailboxes, ends actors and then pools,
    newest first. Leaving it by an error or a cancellation cancels everything, gives it ``shutdown`` seconds, and kills
    it. Either way no process is left.

    Args:
        pools: how many pools to open with, or a specification of each; with None they start when they are needed, up to
            one for each usable CPU, and with 0 actors live in this process.
        name: for people.
        address: where other programs may connect, ``"tcp://host:port"`` or ``"host:port"``; see :func:`connect`. At
            port 0 the kernel chooses one, which the nursery's ``address`` has.
        advertise: the address that others reach it by, if that is another: behind a router, or for ``0.0.0.0``.
        auth: who may: a :class:`Secret` or a :class:`TLS`. None on loopback, where programs of the same user may.
        expose: what they may use: uids, references, actor classes, functions. What is not listed looks to them as if it
            did not exist. With None they may call all actors whose uid they know, and no more.
        pickle: what they say may be pickled; without it only msgspec's types cross.
        labels: one for each pool, for strategies to look for.
        env: environment variables for the pools, on top of this process's.
        launcher: ``"local"``: processes of this host.
        shutdown: seconds from asking a pool to end until it is killed.
        loglevel: of the root logger in the pools, as :func:`logging.basicConfig` takes it.
        timeouts: other bounds; heeded by the first nursery of a program, whose pools inherit them.

    Raises:
        TypeError, ValueError: an argument is wrong; at once, nothing has been started.
        AuthenticationError: others than this host could connect, and nothing says who may.
        OSError: the address cannot be listened at, when the block is entered.
        LaunchError, RuntimeDirError: a pool could not be started, when the block is entered; nothing is left.
        the exceptions of the block and of what it owns; a single one as itself, several as a group.

    Cancellation: as for leaving by an error.
    """
    specs = pool_specs(pools, labels)
    check_env(env)
    check_seconds(shutdown, "shutdown")
    if name is not None:
        check_name(name, "name")
    if launcher != "local":
        raise ValueError(f"launcher= is {launcher!r}; there is 'local'")
    if timeouts is not None and not isinstance(timeouts, Timeouts):
        raise TypeError(f"timeouts= is {timeouts!r}; it is a Timeouts")
    gate = door(address, advertise=advertise, auth=auth, expose=expose, pickle=pickle)
    settings: dict[str, Any] = {
        "name": name or "nursery",
        "on_demand": specs is None,
        "env": dict(env or {}),
        "loglevel": loglevel,
        "shutdown": float(shutdown),
    }
    return _Block(settings, specs or [], timeouts or Timeouts(), gate)


class _Block(AbstractAsyncContextManager[PoolNursery]):
    """What ``async with`` drives."""

    def __init__(
        self,
        settings: dict[str, Any],
        specs: list[PoolSpec],
        timeouts: Timeouts,
        gate: GateSettings | None,
    ) -> None:
        self._gate = gate
        self._settings = settings
        self._specs = specs
        self._timeouts = timeouts
        self._nursery: PoolNursery

    @undisturbed
    async def __aenter__(self) -> PoolNursery:
        runtime = await acquire(self._timeouts)
        nursery = self._nursery = PoolNursery(runtime, **self._settings)
        runtime.nurseries[nursery.id] = nursery
        nursery.cancel_scope.__enter__()
        try:
            if self._gate is not None:
                await nursery.door.open(self._gate)
            await nursery.start_all(self._specs)
        except BaseException as exc:
            final = await self._leave(exc)
            if final is None or final is exc:
                raise
            _raise(final)
        return nursery

    @undisturbed
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        final = await self._leave(exc)
        if final is None:
            return True
        if final is exc:
            return False
        _raise(final)
        raise AssertionError

    async def _leave(self, exc: BaseException | None) -> BaseException | None:
        """End everything; what is to be raised."""
        nursery = self._nursery
        runtime = nursery.runtime
        loop = runtime.loop
        nursery.door.shut()
        if exc is None:
            try:
                await nursery.finish()
            except BaseException as failure:  # a cancellation, mostly
                exc = failure
        exc = leave_scope(nursery.cancel_scope, exc)
        nursery.closed = True
        nursery.door.close()
        try:
            if exc is not None or nursery.cancel_scope.cancel_called:
                await loop.run_shielded(nursery.cancel)
        except BaseException as impatience:  # a second Ctrl-C: no more waiting
            nursery.kill()
            await loop.run_shielded(nursery.cancel)
            exc = exc or impatience
        finally:
            await loop.run_shielded(nursery.wait_settled)
            nursery.kill()
            runtime.drops.flush()
            del runtime.nurseries[nursery.id]
            nursery.end_listening()
            await loop.run_shielded(partial(release, runtime))
        return combine(
            exc,
            nursery.failures,
            frozenset(nursery.failed_actors),
            loop.cancelled,
            filters_groups=loop.filters_groups,
        )


def _raise(exc: BaseException) -> None:
    """Raise ``exc`` as it is, without what happened to be in hand as its context."""
    context = exc.__context__
    try:
        raise exc
    finally:
        object.__setattr__(exc, "__context__", context)  # past a frozen dataclass's own
        del exc, context
