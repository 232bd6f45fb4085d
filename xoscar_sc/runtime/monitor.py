"""Watching an actor from anywhere: how it ended, told once.

The watcher has a call open with the actor's pool, which answers when the actor has ended; the death of the pool ends
the call, and tells as much.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream
from msgspec.structs import replace

from xoscar_sc.errors import ActorNotExist, PoolDied, XoscarError
from xoscar_sc.events import Exit, ExitKind
from xoscar_sc.loop import undisturbed
from xoscar_sc.protocol import Failure
from xoscar_sc.runtime.current import check_library
from xoscar_sc.serialize import rebuild

if TYPE_CHECKING:
    from xoscar_sc.runtime.ref import Target


class Monitor:
    """A block in which an actor is watched: ``async with ref.monitor() as exits``.

    ``exits`` is a receive channel, which gives exactly one :class:`Exit`, and ends.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._scope = anyio.CancelScope()
        self._entered = False

    @undisturbed
    async def __aenter__(self) -> MemoryObjectReceiveStream[Exit]:
        if self._entered:
            raise RuntimeError("a monitor watches once: ask the reference for another")
        self._entered = True
        runtime = self._target.runtime()
        check_library(runtime.loop, "a monitor")
        self._run_shielded = runtime.loop.run_shielded
        self._ended = runtime.loop.slot()
        self._send, self._receive = anyio.create_memory_object_stream[Exit](1)
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
                self._send.send_nowait(await self._exit())
        finally:
            self._send.close()
            self._ended.set(None)

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
        return exit_ if failure is None else replace(exit_, error=rebuild(failure))
