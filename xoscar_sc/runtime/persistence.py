"""What the actors of a pool write to a store: together, in the order in which it is asked for, and off the loop.

While one group is being written, the next one comes together: so the more is told durably at a time, the less each
of it costs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import anyio

from xoscar_sc.errors import StateError, StateLocked
from xoscar_sc.state import Connection, Past, Store, Write

if TYPE_CHECKING:
    from xoscar_sc.runtime.runtime import Runtime

T = TypeVar("T")

Done: TypeAlias = Callable[["bool | Exception"], None]
"""Called when something has been written, or could not be; see :meth:`Connection.write`."""
_STEP = 0.02
"""Seconds between two tries to take over an actor that somebody has."""
_GROUP = 1000
"""Steps that are taken at a time, at most."""


class Writer:
    """See the top of this file. There is one for each store of a pool, as long as an actor uses it."""

    def __init__(self, runtime: Runtime, store: Store) -> None:
        self._runtime = runtime
        self._store = store
        self._connection: Connection | None = None
        self._queue: list[tuple[Write | None, Done | None]] = []
        self._again: list[Write] = []
        """What could not be written, and nobody waits for."""
        self._writing = False
        self._turn = anyio.Lock()
        # Methods that block in threads must not keep it waiting.
        self._limiter = anyio.CapacityLimiter(1)
        self._users = 0
        self._open: set[str] = set()

    async def open(self, uid: str, retries: int, wait: float) -> Past:
        """Take an actor over, within ``wait`` seconds; :meth:`close` it in any case.

        Raises:
            StateError: that cannot be done.
        """
        loop = self._runtime.loop
        until = loop.now() + wait
        while True:
            try:
                past = await self._run(partial(self._connect, uid, retries))
            except StateLocked:
                if loop.now() >= until:
                    raise
                # Whoever has it is in another process, and does not say when it ends. Others may write meanwhile.
                await anyio.sleep(_STEP)
            else:
                self._open.add(uid)
                return past

    def _connect(self, uid: str, retries: int) -> Past:
        if self._connection is None:
            self._connection = self._store.connect()
        return self._connection.open(uid, retries)

    async def _run(self, function: Callable[[], T]) -> T:
        """Run what blocks, one at a time."""
        async with self._turn:
            return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    def put(self, write: Write | None, done: Done | None = None) -> None:
        """Write something soon; None stands for nothing, which is done when all before it is."""
        self._queue.append((write, done))
        if not self._writing:
            self._writing = True
            self._runtime.loop.spawn(self._write_all)

    async def write(self, write: Write | None) -> bool:
        """Write something, and wait until it has been.

        Raises:
            StateError: it could not be.

        Cancellation: it may have been written.
        """
        slot = self._runtime.loop.slot()
        self.put(write, slot.set)
        result: bool | Exception = await slot.wait()
        if isinstance(result, Exception):
            raise result
        return result

    async def _write_all(self) -> None:
        try:
            while self._queue:
                group, self._queue = self._queue[:_GROUP], self._queue[_GROUP:]
                again, self._again = self._again, []
                await self._write([*((each, None) for each in again), *group])
        finally:
            self._writing = False

    async def _write(self, group: list[tuple[Write | None, Done | None]]) -> None:
        writes = [write for write, _ in group if write is not None]
        try:
            results = iter(await self._run(partial(self._write_now, writes)))
        except Exception as exc:  # a store of the user's may raise anything
            if len(writes) > 1 and not isinstance(exc, StateLocked):
                for each in group:  # one of them is too large, say: it must not take the others along
                    await self._write([each])
                return
            error = exc if isinstance(exc, StateError) else StateError(f"{self._store!r}: {exc!r}")
            for write, done in group:
                if done is not None:
                    done(True if write is None else error)
                elif write is not None:
                    self._again.append(write)
            return
        for write, done in group:
            result = True if write is None else next(results)
            if done is not None:
                done(result)

    def _write_now(self, writes: list[Write]) -> list[bool]:
        if not writes:
            return []
        assert self._connection is not None
        return self._connection.write(writes)

    def enter(self) -> None:
        """One actor more."""
        self._users += 1

    async def close(self, uid: str) -> None:
        """An actor has ended: write what is left, and let it go."""
        await self.write(None)
        if uid in self._open:
            self._open.discard(uid)
            assert self._connection is not None
            await self._run(partial(self._connection.release, uid))
        self._users -= 1
        if not self._users:
            self._runtime.writers.pop(self._store, None)
            if self._connection is not None:
                await self._run(self._connection.close)


def writer_for(runtime: Runtime, store: Store) -> Writer:
    """What writes to a store; close it once for each time."""
    writer = runtime.writers.get(store)
    if writer is None:
        writer = runtime.writers[store] = Writer(runtime, store)
    writer.enter()
    return writer
