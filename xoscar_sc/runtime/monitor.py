"""Watching an actor from anywhere: how it ended, told once.

The watcher has a call open with the actor's pool, which answers when the actor has ended; the death of the pool ends
the call, and tells as much.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream
from msgspec.structs import replace

from xoscar_sc.errors import ActorNotExist, PoolDied, XoscarError
from xoscar_sc.events import Exit, ExitKind, Restarted
from xoscar_sc.loop import undisturbed
from xoscar_sc.protocol import Failure
from xoscar_sc.runtime.current import check_library
from xoscar_sc.runtime.names import ending_from, found_from
from xoscar_sc.serialize import rebuild

if TYPE_CHECKING:
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
        self._child = target.traits.child
        self._life = 0

    @undisturbed
    async def __aenter__(self) -> MemoryObjectReceiveStream[E]:
        if self._entered:
            raise RuntimeError("a monitor watches once: ask the reference for another")
        self._entered = True
        runtime = self._target.runtime()
        check_library(runtime.loop, "a monitor")
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
        return bool(self._target.traits.child)

    def _near(self) -> bool:
        """Whether it is this tree's root that knows of its restarts; else its own tree is asked."""
        target = self._target
        return target.runtime().peers.is_near(target.address)

    async def _ask(self, method: str, *args: Any) -> Any:
        runtime = self._target.runtime()
        return await (
            runtime.at_root(method, *args)
            if self._near()
            else runtime.ask(self._target.address, method, *args)
        )

    async def _learn_life(self) -> None:
        """What was before now is nothing to tell of."""
        target = self._target
        try:
            found = found_from(await self._ask("find", target.uid, False))
        except XoscarError:
            if self._near():
                raise
            return  # the other program cannot be reached, which is the exit then
        if found is None:
            return
        if found.traits.child == target.traits.child:
            target.rebind(found)
        elif not self._near() and not target.incarnation and found.traits.child:
            self._child, self._life = found.traits.child, found.life  # that program has been started again

    async def _last_exit(self) -> Exit:
        """Wait until an actor has ended that is restarted, and does not come back any more; say how."""
        target, seen = self._target, self._life or self._target.life
        while True:
            try:
                known = await self._ask("follow", target.uid, self._child, seen)
            except XoscarError as exc:
                return Exit("failed", error=exc)
            found, last = found_from(known[0]), known[1]
            exit_ = Exit("failed", error=ActorNotExist(f"there is no actor {target.uid!r}, any more"))
            if last is not None:
                exit_ = _rebuilt(*ending_from(last))
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
        return _rebuilt(*ending_from((exit_, failure)))


def _rebuilt(exit_: Exit, failure: Failure | None) -> Exit:
    return exit_ if failure is None else replace(exit_, error=rebuild(failure))
