"""The memory of a peer's in which parts of its messages lie.

A segment is mapped once, and stays mapped: its pages are what costs. For as long as a message lies in it, it is the
receiver's alone, who may write there as in any other value. When nothing looks into it any more, the segment goes back.
"""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Any

from xoscar_sc.errors import FrameTooLarge, ProtocolError
from xoscar_sc.ipc.lending import LARGEST, MOST, UNTRACKED
from xoscar_sc.ipc.outbox import Outbox
from xoscar_sc.ipc.sharing import Taker, check
from xoscar_sc.loop import Loop
from xoscar_sc.protocol import MAX_MESSAGE, SHARED, Released, Segment, encode

LOST = -1
"""Stands for a descriptor that has come, and for which this process had no room."""


class Borrower:
    """The segments of a peer's that this pool may use."""

    def __init__(self, loop: Loop, outbox: Outbox) -> None:
        self._loop = loop
        self._outbox = outbox
        self._segments: dict[int, mmap.mmap] = {}
        self._lent: dict[int, weakref.ref[Any]] = {}
        """What holds the buffers that are in use, by the segment: it lives as long as anything that looks into it."""
        self._gone: deque[int] = deque()
        """Segments whose buffer is not in use any more. That may happen in any thread, at any place."""
        self._shared = Taker()
        self._promised = False
        self._closed = False

    def add(self, id: int, size: int, descriptor: int, *, passed: bool) -> None:
        """Take a segment from the peer, or memory that is shared by many; the descriptor is closed, or kept by that.

        Raises:
            ProtocolError: it is not what it is said to be.
        """
        if descriptor == LOST:
            self.give([id], declined=True)
            return
        if id > SHARED:
            self.give([id], declined=not self._shared.add(id, size, descriptor, passed=passed))
            return
        try:
            if id in self._segments or len(self._segments) >= MOST or not 0 < size <= LARGEST:
                raise ProtocolError(f"memory {id} of {size} bytes was announced, which is not admitted")
            check(id, size, descriptor)
            try:
                self._segments[id] = mmap.mmap(descriptor, size, **UNTRACKED)
            except OSError:
                self.give([id], declined=True)
            else:
                self.give([id])
        finally:
            close(descriptor)

    def take(
        self, places: Sequence[tuple[int, int]], offsets: Sequence[int], segments: Sequence[Segment]
    ) -> list[Segment]:
        """The segments of a message, those in memory and those that came with it, in their order.

        Raises:
            ProtocolError: there is nothing at such a place.
            FrameTooLarge: the message is larger than is admitted.
        """
        total = sum(map(len, segments)) + sum(length for id, length in places if id <= SHARED)
        if total > MAX_MESSAGE:
            raise FrameTooLarge(f"a message of {total} bytes was placed; {MAX_MESSAGE} are admitted")
        if len(places) - len(segments) != sum(1 for id, _ in places if id):
            raise ProtocolError(f"{len(places)} segments were placed, and {len(segments)} came with them")
        if offsets and len(offsets) != len(places):
            raise ProtocolError(f"{len(places)} segments were placed, {len(offsets)} of them at an offset")
        others = iter(segments)
        return [
            self._take(id, length, offset) if id else next(others)
            for (id, length), offset in zip(places, offsets or repeat(0), strict=False)
        ]

    def _take(self, id: int, length: int, offset: int) -> Segment:
        if id > SHARED:
            return self._shared.take(id, length, offset)
        memory = self._segments.get(id)
        if memory is None or id in self._lent or not 0 < length <= len(memory) or offset:
            raise ProtocolError(f"{length} bytes were placed in memory {id}, where they cannot be")
        import ctypes

        # Parts of a memoryview do not keep it alive, but what it is a view of: so that must be one object for each use.
        holder = (ctypes.c_ubyte * len(memory)).from_buffer(memory)
        self._lent[id] = weakref.ref(holder, lambda _: self._ended(id))
        return pickle.PickleBuffer(holder).raw()[:length]

    def _ended(self, id: int) -> None:
        """Nothing looks into a segment any more: called wherever the last to do so has ended."""
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
        if ids and not self._closed:
            for id in ids:
                del self._lent[id]
            self.give(ids)

    def give(self, ids: Sequence[int], *, declined: bool = False) -> None:
        """Give segments back to the peer."""
        self._outbox.put(encode(Released(tuple(ids), declined)), (), None, now=False)

    def drop(self, id: int, uses: int) -> None:
        """The peer does without a segment.

        Raises:
            ProtocolError: there is none, or it is in use.
        """
        if id > SHARED:
            self._shared.drop(id, uses)
            return
        if id in self._lent or self._segments.pop(id, None) is None:
            raise ProtocolError(f"memory {id} was dropped, which is unknown or in use")

    def close(self) -> None:
        """Give up all of them; what is in use stays."""
        self._closed = True
        self._lent.clear()
        self._segments.clear()
        self._shared.close()


def close(descriptor: int) -> None:
    """Close a descriptor, if it is one."""
    if descriptor != LOST:
        os.close(descriptor)
