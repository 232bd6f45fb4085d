"""What one peer knows of the memory that users have shared, and this process of the peer's.

A piece is sent once, when the first part of it is; the message waits until the peer says that it has it. From then on a
message names the piece, and where in it its part lies. The peer keeps it until it is told that it will not be named
any more: when its user here has let go of it. The users there keep what they look into.

A piece that its maker has sent stays mapped at the peer all the while. One that is only passed on does not: else two
processes that have sent it to each other would keep it for each other for ever. It is mapped again when it is named.

How often a piece has been named is said in the end, since the messages that name it may take longer than that.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import weakref
from collections import deque
from collections.abc import Callable, Sequence

from xoscar_sc.errors import ProtocolError
from xoscar_sc.ipc.lending import Lender, Place
from xoscar_sc.ipc.outbox import Outbox
from xoscar_sc.ipc.shared import Shared, table
from xoscar_sc.loop import Loop
from xoscar_sc.protocol import SHARED, Dropped, Memory, encode

MOST = 128
"""Shared pieces that a peer is given at a time; each takes two descriptors there. It admits twice as many."""
_PAUSE = 64
"""Pieces that are not sent when one could not be, before another is tried."""


class _Given:
    """A piece that the peer has, or is about to have."""

    __slots__ = ("end", "id", "memory", "offered", "ready", "uses", "waiting")

    def __init__(self, id: int, memory: mmap.mmap, end: Callable[[], None]) -> None:
        self.id = id
        self.memory = weakref.ref(memory, lambda _: end())
        self.offered = False
        self.ready = False
        self.uses = 0
        """How often it has been named."""
        self.waiting: list[Callable[[], None]] = []
        """What is to be called when it is ready, or will never be."""


class Giver:
    """The shared memory of this process that one peer knows."""

    def __init__(self, loop: Loop, outbox: Outbox, lender: Lender) -> None:
        self._loop = loop
        self._outbox = outbox
        self._lender = lender
        self._given: dict[Shared, _Given] = {}
        """In the order in which they were last named."""
        self._gone: deque[Shared] = deque()
        """Those whose users have let go of them. That may happen in any thread, at any place."""
        self._ids = SHARED
        self._pause = 0
        self._closed = False

    def missing(self, segments: Sequence[memoryview]) -> list[Shared]:
        """Which shared pieces the peer would need for these parts of a message, and has not yet."""
        pieces = table()
        if not len(pieces) or self._closed:
            return []
        found = dict.fromkeys(place[0] for each in segments if (place := pieces.find(each)) is not None)
        lacking = [each for each in found if (given := self._given.get(each)) is None or not given.ready]
        if lacking and self._pause:
            self._pause -= 1
            return [each for each in lacking if each in self._given]
        return lacking

    def bring(self, pieces: Sequence[Shared], then: Callable[[], None]) -> None:
        """Send pieces to the peer; ``then`` is called when it has them or declines them, unless the connection ends."""
        left = len(pieces)

        def settled() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for piece in pieces:
            given = self._given.get(piece)
            if given is None:
                given = self._new(piece)
            if given is None:
                self._loop.soon(settled)
            else:
                given.waiting.append(settled)
        self.offer()

    def _new(self, piece: Shared) -> _Given | None:
        memory = piece.memory()
        while len(self._given) >= MOST:
            unused = next((known for known, given in self._given.items() if given.ready), None)
            if unused is None:
                return None
            self._drop(unused)
        if memory is None:
            return None

        def end() -> None:
            self._gone.append(piece)
            try:
                self._loop.soon(self._drop_gone)
            except RuntimeError:  # the loop has ended
                pass

        self._ids += 1
        given = self._given[piece] = _Given(self._ids, memory, end)
        return given

    def offer(self) -> None:
        """Send what is to be sent, if the peer looks for descriptors; else ask it to."""
        waiting = [each for each in self._given.items() if not each[1].offered]
        if not waiting:
            return
        if not self._lender.ready:
            self._lender.ask()
            return
        for piece, given in waiting:
            given.offered = True
            if not self._outbox.offer(encode(Memory(given.id, piece.size, not piece.made)), piece.descriptor):
                self._settle(piece, ready=False)

    def released(self, id: int, *, declined: bool) -> None:
        """The peer has a piece, or has no room for it.

        Raises:
            ProtocolError: it has not been offered.
        """
        found = next((each for each in self._given.items() if each[1].id == id), None)
        if found is None or not found[1].offered or found[1].ready:
            raise ProtocolError(f"memory {id} was taken that has not been offered")
        self._settle(found[0], ready=not declined)

    def _settle(self, piece: Shared, *, ready: bool) -> None:
        given = self._given[piece]
        given.ready = ready
        if not ready:
            del self._given[piece]
            self._pause = _PAUSE
        waiting, given.waiting = given.waiting, []
        for then in waiting:
            self._loop.soon(then)

    def place(self, part: memoryview) -> Place | None:
        """Where the peer finds a part of a message; None if it does not have it."""
        found = table().find(part) if self._given else None
        given = None if found is None else self._given.get(found[0])
        if found is None or given is None or not given.ready:
            return None
        self._given[found[0]] = self._given.pop(found[0])
        given.uses += 1
        return given.id, len(part), found[1]

    def _drop_gone(self) -> None:
        while self._gone:
            piece = self._gone.popleft()
            if piece in self._given and not self._closed:
                self._drop(piece)

    def _drop(self, piece: Shared) -> None:
        given = self._given.pop(piece)
        self._outbox.put(encode(Dropped(given.id, given.uses)), (), None, now=False)

    def close(self) -> None:
        """Forget what the peer knows."""
        self._closed = True
        self._given.clear()


class _Taken:
    """A piece of the peer's."""

    __slots__ = ("_descriptor", "_kept", "_memory", "last", "size", "uses")

    def __init__(self, descriptor: int, size: int, *, passed: bool) -> None:
        """Map it.

        Raises:
            OSError: there is no room; the descriptor is closed.
        """
        self.size = size
        self.uses = 0
        self.last: int | None = None
        """It will not be named after so many times."""
        self._descriptor: int | None = None
        try:
            if passed:
                memory = table().map_again(descriptor, size)
                self._descriptor = descriptor
            else:
                memory = table().adopt(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        self._memory = weakref.ref(memory)
        self._kept = None if passed else memory

    def part(self, offset: int, length: int) -> memoryview:
        """What lies there; a copy, if there is no descriptor to map it again."""
        memory = self._memory()
        if memory is None:
            assert self._descriptor is not None
            try:
                memory = table().map_again(self._descriptor, self.size)
            except OSError:
                copy = bytearray(length)
                done = 0
                while done < length:  # a read of more than 2 GiB ends early
                    done += os.preadv(self._descriptor, [memoryview(copy)[done:]], offset + done)
                return memoryview(copy).toreadonly()
            self._memory = weakref.ref(memory)
        return memoryview(memory).toreadonly()[offset : offset + length]

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Taker:
    """The pieces that the peer has given."""

    def __init__(self) -> None:
        self._taken: dict[int, _Taken] = {}

    def add(self, id: int, size: int, descriptor: int, *, passed: bool) -> bool:
        """Take a piece; whether there is room for it. The descriptor is kept or closed.

        Args:
            id: what the peer calls it.
            size: in bytes.
            descriptor: of the memory.
            passed: the peer has it from another itself.

        Raises:
            ProtocolError: it is not what it is said to be.
        """
        try:
            if id in self._taken or len(self._taken) >= 2 * MOST or not size:
                raise ProtocolError(
                    f"shared memory {id} of {size} bytes was announced, which is not admitted"
                )
            check(id, size, descriptor)
        except ProtocolError:
            os.close(descriptor)
            raise
        try:
            self._taken[id] = _Taken(descriptor, size, passed=passed)
        except OSError:
            return False
        return True

    def take(self, id: int, length: int, offset: int) -> memoryview:
        """A part that is named.

        Raises:
            ProtocolError: there is nothing there.
        """
        taken = self._taken.get(id)
        if taken is None or offset + length > taken.size:
            raise ProtocolError(f"{length} bytes were placed in shared memory {id}, where they cannot be")
        part = taken.part(offset, length)
        taken.uses += 1
        if taken.uses == taken.last:
            self._forget(id)
        return part

    def _forget(self, id: int) -> None:
        self._taken.pop(id).close()

    def drop(self, id: int, uses: int) -> None:
        """The peer will not name a piece any more, after so many times in all.

        Raises:
            ProtocolError: there is none, or it has named it more often.
        """
        taken = self._taken.get(id)
        if taken is None or taken.last is not None or taken.uses > uses:
            raise ProtocolError(f"shared memory {id} was dropped, which is unknown or was used more often")
        taken.last = uses
        if taken.uses == uses:
            self._forget(id)

    def close(self) -> None:
        """Forget all of them; who looks into one keeps it."""
        for id in list(self._taken):
            self._forget(id)


def check(id: int, size: int, descriptor: int) -> None:
    """Make sure that a descriptor is memory of this size, which cannot lose it.

    Raises:
        ProtocolError: it is not.
    """
    try:
        status = os.fstat(descriptor)
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    except OSError as exc:
        raise ProtocolError(f"memory {id} is no memory: {exc}") from exc
    if not sealed or not stat.S_ISREG(status.st_mode) or status.st_size < size:
        raise ProtocolError(
            f"memory {id} of {size} bytes was announced; it has {status.st_size}, or may lose them"
        )
