"""Watching an actor from anywhere: how it ended, told once.

The watcher has a call open with the actor's pool, which answers when the actor has ended; the death of the pool ends
the call, and tells as much.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream
from msgspec.structs import replace

from xoscar_sc.errors import ActorNotExist, PoolDied, XoscarError
from xoscar_sc.events import Exit, ExitKind, Restarted
from xoscar_sc.loop import undisturbed
from xoscar_sc.protocol import Failure
from xoscar_sc.serialize import rebuild

if TYPE_CHECKING:
    from xoscar_sc.runtime.names import Ending, Found
    from xoscar_sc.runtime.ref import Target

E = TypeVar("E")

_KEPT = 100
"""Restarts that wait for one who watches; then those that follow wait as well."""


class Monitor(Generic[E]):
    """A block in which an actor is watched: ``async with ref.monitor() as exits``.

    ``exits`` is a receive channel, which gives exactly one :class:`Exit`, and ends; before, each :class:`Restarted` if
    that was asked for.
    """

    def __init__(self, target: Target, *, restarts: bool) -> None:
        self._target = target
        self._restarts = restarts
        self._scope = anyio.CancelScope()
        self._entered = False

    @undisturbed
    async def __aenter__(self) -> MemoryObjectReceiveStream[E]:
        if self._entered:
            raise RuntimeError("a monitor watches once: ask the reference for another")
        self._entered = True
        runtime = self._target.runtime()
        self._run_shielded = runtime.loop.run_shielded
        if self._lasts():
            await self._learn_life()
        self._ended = runtime.loop.slot()
        self._send, self._receive = anyio.create_memory_object_stream[Any](_KEPT if self._restarts else 1)
        runtime.loop.spawn(self._watch)
        return self._receive

    @undisturbed
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._scope.cancel()
        await self._run_shielded(self._ended.wait)
        self._receive.close()

    async def _watch(self) -> None:
        try:
            with self._scope:
                exit_ = await (self._last_exit() if self._lasts() else self._exit())
                await self._send.send(exit_)
        finally:
            self._send.close()
            self._ended.set(None)

    def _lasts(self) -> bool:
        """Whether its supervisor may start it again."""
        target = self._target
        return bool(target.traits.child) and target.runtime().peers.is_near(target.address)

    async def _learn_life(self) -> None:
        """What was before now is nothing to tell of."""
        target = self._target
        found: Found | None = await target.runtime().at_root("find", target.uid, False)
        if found is not None and found.traits.child == target.traits.child:
            target.rebind(found)

    async def _last_exit(self) -> Exit:
        """Wait until an actor has ended that is restarted, and does not come back any more; say how."""
        target, seen = self._target, self._target.life
        while True:
            found: Found | None
            last: Ending | None
            try:
                found, last = await target.runtime().at_root("follow", target.uid, target.traits.child, seen)
            except XoscarError as exc:
                return Exit("failed", error=exc)
            exit_ = Exit("failed", error=ActorNotExist(f"there is no actor {target.uid!r}, any more"))
            if last is not None:
                exit_ = _rebuilt(*last)
            if found is None:
                return exit_
            seen = found.life
            target.rebind(found)
            if self._restarts:
                await self._send.send(Restarted(target.uid, seen, exit_))

    async def _exit(self) -> Exit:
        """Wait until the actor has ended, and say how."""
        target = self._target
        exit_: Any
        failure: Any
        try:
            exit_, failure = await target.runtime().ask(
                target.address, "watch", target.uid, target.incarnation
            )
        except ActorNotExist as exc:  # it has ended, and so long ago that nobody remembers how
            return Exit("failed", error=exc)
        except PoolDied as exc:
            kind: ExitKind = "killed" if exc.signal is not None else "failed" if exc.exit_code else "normal"
            return Exit(kind, exc.exit_code, exc.signal, exc)
        except XoscarError as exc:
            return Exit("failed", error=exc)
        if not isinstance(exit_, Exit):  # from a program that pickles nothing
            exit_, failure = Exit(**exit_), msgspec.convert(failure, Failure | None)
        assert isinstance(exit_, Exit)
        return _rebuilt(exit_, failure)


def _rebuilt(exit_: Exit, failure: Failure | None) -> Exit:
    return exit_ if failure is None else replace(exit_, error=rebuild(failure))
