"""The block of a pool nursery: how it is entered and left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, cast

from xoscar_sc.ipc import Auth
from xoscar_sc.loop import undisturbed
from xoscar_sc.runtime import GateSettings, leave_scope
from xoscar_sc.supervise.children import AutoShutdown, OnHeartbeatLost, Supervision
from xoscar_sc.supervise.nursery import PoolNursery
from xoscar_sc.supervise.outcome import combine
from xoscar_sc.supervise.root import acquire, release
from xoscar_sc.supervise.spec import PoolSpec, check_env, check_name, check_seconds, door, pool_specs
from xoscar_sc.supervise.strategy import RestartStrategy
from xoscar_sc.supervise.supervisor import Supervisor
from xoscar_sc.timeouts import Timeouts


def open_supervisor(
    pools: int | Sequence[PoolSpec] | None = None,
    *,
    strategy: RestartStrategy = "one_for_one",
    intensity: int = 3,
    period: float = 5.0,
    auto_shutdown: AutoShutdown = "never",
    heartbeat: float | None = None,
    on_heartbeat_lost: OnHeartbeatLost = "report",
    **options: Any,
) -> AbstractAsyncContextManager[Supervisor]:
    """A pool nursery whose children come back when they end: ``async with open_supervisor() as sup``.

    Args:
        pools: as for :func:`open_pool_nursery`.
        strategy: who is restarted with a child that has failed: ``"one_for_one"`` nobody else, ``"one_for_all"`` all
            others, ``"rest_for_one"`` those that were started after it.
        intensity: restarts within ``period`` seconds; at one more, the supervisor gives up.
        period: in seconds.
        auto_shutdown: which normal ends of significant children end the block, without an error: ``"never"`` any,
            ``"any_significant"`` the first, ``"all_significant"`` the last.
        heartbeat: seconds for which a pool may show no sign of life, before that is told as :class:`HeartbeatLost`;
            None looks for none.
        on_heartbeat_lost: ``"report"`` is all, ``"restart"`` also kills the pool, which comes back then.
        options: for :func:`open_pool_nursery`.

    Raises:
        RestartIntensityExceeded: out of the block: it has given up.
        and what :func:`open_pool_nursery` raises.

    Cancellation: everything ends, as that of a nursery does.
    """
    supervision = Supervision(strategy, intensity, period, auto_shutdown, heartbeat, on_heartbeat_lost)
    if options.get("supervise") is not None:
        raise TypeError("supervise= says what open_supervisor() is told by arguments of its own")
    options["supervise"] = supervision
    return cast("AbstractAsyncContextManager[Supervisor]", open_pool_nursery(pools, **options))


def open_pool_nursery(  # noqa: PLR0913 - each is a keyword of its own
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
    supervise: Supervision | None = None,
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
        supervise: makes it a :class:`Supervisor`; the same as :func:`open_supervisor`.
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
    if supervise is not None and not isinstance(supervise, Supervision):
        raise TypeError(f"supervise= is {supervise!r}; it is a Supervision")
    gate = door(address, advertise=advertise, auth=auth, expose=expose, pickle=pickle)
    settings: dict[str, Any] = {
        "name": name or ("nursery" if supervise is None else "supervisor"),
        "on_demand": specs is None,
        "env": dict(env or {}),
        "loglevel": loglevel,
        "shutdown": float(shutdown),
    }
    if supervise is not None:
        settings["supervision"] = supervise
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
        kind = Supervisor if "supervision" in self._settings else PoolNursery
        nursery = self._nursery = kind(runtime, **self._settings)
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
