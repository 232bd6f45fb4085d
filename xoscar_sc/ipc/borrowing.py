"""The memory of a peer's in which parts of its messages lie."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import weakref
from collections import deque
from collections.abc import Sequence

from xoscar_sc.errors import FrameTooLarge, ProtocolError
from xoscar_sc.ipc.lending import LARGEST, MOST, UNTRACKED
from xoscar_sc.ipc.outbox import Outbox
from xoscar_sc.loop import Loop
from xoscar_sc.protocol import MAX_MESSAGE, Released, Segment, encode

LOST = -1
"""Stands for a descriptor that has come, and for which this process had no room."""


class Borrower:
    """The segments of a peer's that this pool may read."""

    def __init__(self, loop: Loop, outbox: Outbox) -> None:
        self._loop = loop
        self._outbox = outbox
        self._segments: dict[int, tuple[int, int]] = {}
        """Descriptor, and size in bytes."""
        self._lent: dict[int, weakref.ref[mmap.mmap]] = {}
        """The mappings that are in use, by the segment; a mapping lives as long as anything that looks into it."""
        self._gone: deque[int] = deque()
        """Segments whose mapping is gone. A mapping may end in any thread, at any place."""
        self._promised = False
        self._closed = False

    def add(self, id: int, size: int, descriptor: int) -> None:
        """Take a segment from the peer.

        Raises:
            ProtocolError: it is not what it is said to be.
        """
        if descriptor == LOST:
            self.give([id], declined=True)
            return
        try:
            if id in self._segments or len(self._segments) >= MOST or not 0 < size <= LARGEST:
                raise ProtocolError(f"memory {id} of {size} bytes was announced, which is not admitted")
            try:
                status = os.fstat(descriptor)
                sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
            except OSError as exc:
                raise ProtocolError(f"memory {id} is no memory: {exc}") from exc
            if not sealed or not stat.S_ISREG(status.st_mode) or status.st_size < size:
                raise ProtocolError(
                    f"memory {id} has {status.st_size} bytes, or may lose them; {size} were announced"
                )
        except BaseException:
            close(descriptor)
            raise
        self._segments[id] = descriptor, size
        self.give([id])

    def take(self, places: Sequence[tuple[int, int]], segments: Sequence[Segment]) -> list[Segment]:
        """The segments of a message, those in memory and those that came with it, in their order.

        Raises:
            ProtocolError: there is nothing at such a place.
            FrameTooLarge: the message is larger than is admitted, or there is no memory for it.
        """
        others = deque(segments)
        total = sum(map(len, segments)) + sum(length for _, length in places)
        if total > MAX_MESSAGE:
            raise FrameTooLarge(f"a message of {total} bytes was placed; {MAX_MESSAGE} are admitted")
        if len(places) - len(segments) != sum(1 for id, _ in places if id):
            raise ProtocolError(f"{len(places)} segments were placed, with {len(segments)} others")
        return [self._map(id, length) if id else others.popleft() for id, length in places]

    def _map(self, id: int, length: int) -> Segment:
        descriptor, size = self._segments.get(id, (LOST, 0))
        if not 0 < length <= size or id in self._lent:
            raise ProtocolError(f"{length} bytes were placed in memory {id}, where they cannot be")
        try:
            # Private: whoever writes to what has been received gets pages of his own, as with any other value.
            memory = mmap.mmap(
                descriptor,
                length,
                flags=mmap.MAP_PRIVATE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
                **UNTRACKED,
            )
        except OSError:
            return self._copy(id, descriptor, length)
        self._lent[id] = weakref.ref(memory, lambda _: self._ended(id))
        return memoryview(memory)

    def _copy(self, id: int, descriptor: int, length: int) -> Segment:
        """What to do where nothing more can be mapped."""
        try:
            data = bytearray(length)
            read = os.preadv(descriptor, [data], 0)
        except MemoryError as exc:
            raise FrameTooLarge(f"no memory for a segment of {length} bytes") from exc
        except OSError as exc:
            raise ProtocolError(f"memory {id} cannot be read: {exc}") from exc
        if read < length:
            raise ProtocolError(f"memory {id} cannot be read: it ends after {read} bytes")
        self.give([id])
        return data

    def _ended(self, id: int) -> None:
        """A mapping is gone: called by the collector, wherever it is at work."""
        self._gone.append(id)
        if not self._promised and not self._closed:
            self._promised = True
            try:
                self._loop.soon(self._give_back)
            except RuntimeError:  # the loop has ended before what it has received
                pass

    def _give_back(self) -> None:
        self._promised = False
        ids = []
        while self._gone:
            ids.append(self._gone.popleft())
        if not self._closed and ids:
            for id in ids:
                del self._lent[id]
            self.give(ids)

    def give(self, ids: Sequence[int], *, declined: bool = False) -> None:
        """Give segments back to the peer."""
        self._outbox.put(encode(Released(tuple(ids), declined)), (), None, now=False)

    def drop(self, id: int) -> None:
        """The peer does without a segment.

        Raises:
            ProtocolError: there is none, or it is in use.
        """
        if id not in self._segments or id in self._lent:
            raise ProtocolError(f"memory {id} was dropped, which is unknown or in use")
        close(self._segments.pop(id)[0])

    def close(self) -> None:
        """Give up the descriptors; what is mapped stays."""
        self._closed = True
        self._lent.clear()
        for descriptor, _ in self._segments.values():
            close(descriptor)
        self._segments.clear()


def close(descriptor: int) -> None:
    """Close a descriptor, if it is one."""
    if descriptor != LOST:
        os.close(descriptor)
