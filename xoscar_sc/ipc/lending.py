"""The memory of this pool's in which it places parts of messages to one peer.

What a large buffer costs is its fresh pages, much more than its copies. So segments of memory are kept warm: the
sender copies a buffer into one, the receiver maps it, and when the last view of that mapping is gone, the segment goes
back to the sender for the next buffer. The first buffers of a size go through the socket, while the peer is given a
segment for those that follow.

A segment is a memfd. Its descriptor is sent once, and nobody else has a name for it: whoever dies takes it along.
Whatever cannot be had - memory, descriptors, room in the socket - the message goes through the socket.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from typing import Any, TypeAlias

from xoscar_sc.errors import ProtocolError
from xoscar_sc.ipc.outbox import Outbox
from xoscar_sc.protocol import Dropped, Memory, encode

SMALLEST = 256 << 10
"""Buffers of fewer bytes go through the socket: they cost as much there, or less."""
LARGEST = 128 << 20
"""Buffers of more bytes do so too: one copy of them would hold up the loop for too long."""
WARM = 256 << 20
"""Bytes that a pool keeps for one peer, at most."""
MOST = 32
"""Segments that a pool keeps for one peer, at most; each takes a descriptor or two on both sides."""
UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
"""A mapping needs no descriptor of its own."""

_NOWHERE = (0, 0, 0)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_PAUSE = 256
"""Buffers that go through the socket when a segment could not be had, before another is tried."""

Place: TypeAlias = "tuple[int, int, int]"
"""Memory, how many bytes there, and where they begin; zeros for what goes through the socket."""


class _Owned:
    """A segment of this process's own."""

    __slots__ = ("_backed", "_fd", "_memory", "id", "size")

    def __init__(self, id: int, size: int) -> None:
        """Make it, without any pages yet.

        Raises:
            OSError: no memory, or no descriptor.
        """
        self.id = id
        self.size = size
        self._backed = 0
        """Bytes from the beginning that have pages: a write there cannot fail."""
        self._fd = os.memfd_create("xoscar-sc", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._fd, size)
            # Whoever maps it must be able to rely on its size.
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
            self._memory = mmap.mmap(self._fd, size, **UNTRACKED)
        except BaseException:
            os.close(self._fd)
            raise

    def offer(self, outbox: Outbox) -> bool:
        """Send it to the peer, if that is possible at once."""
        return outbox.offer(encode(Memory(self.id, self.size)), self._fd)

    def fill(self, data: memoryview) -> None:
        """Copy ``data`` to the beginning.

        Raises:
            OSError: no memory.
        """
        size = len(data)
        if size > self._backed:
            os.posix_fallocate(self._fd, self._backed, size - self._backed)
            self._backed = size
        self._memory[:size] = data

    def close(self) -> None:
        self._memory.close()
        os.close(self._fd)


class Lender:
    """The segments of this pool in which it places messages to one peer."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._segments: dict[int, _Owned] = {}
        self._free: dict[int, _Owned] = {}
        """Those that the peer has and does not use, in the order in which they came back."""
        self._size = 0
        """Bytes of all of them."""
        self._ids = 0
        self._asked = False
        self.ready = False
        """The peer looks for descriptors."""
        self._wanted = 0
        """The size of the buffer that it was asked for."""
        self._pause = 0
        self._closed = False

    def place(self, data: memoryview) -> Place:
        """Copy a part of a message into memory, if there is room for it."""
        if self._closed or not SMALLEST <= len(data) <= LARGEST:
            return _NOWHERE
        size = 1 << (len(data) - 1).bit_length()
        # The one that was used last is the likeliest to be in the processor's cache.
        segment = next((each for each in reversed(self._free.values()) if each.size == size), None)
        if segment is None:
            self._grow(size)
            return _NOWHERE
        try:
            segment.fill(data)
        except OSError:
            self._drop(segment)
            self._pause = _PAUSE
            return _NOWHERE
        del self._free[segment.id]
        return segment.id, len(data), 0

    def _grow(self, size: int) -> None:
        """Give the peer a segment, which can be used as soon as it says that it has it."""
        if not self.ready:
            self.ask(size)
            return
        if self._pause:
            self._pause -= 1
            return
        while len(self._segments) >= MOST or self._size + size > WARM:
            if not self._free:
                return
            self._drop(next(iter(self._free.values())))
        try:
            segment = _Owned(self._ids + 1, size)
        except OSError:
            self._pause = _PAUSE
            return
        if segment.offer(self._outbox):
            self._ids = segment.id
            self._segments[segment.id] = segment
            self._size += size
        else:
            segment.close()

    def ask(self, size: int = 0) -> None:
        """Ask the peer to look for descriptors, and give it a segment for so many bytes when it does."""
        if not self._asked and not self.ready:
            self._outbox.put(encode(Memory(0, 0)), (), None, now=False)
            self._asked = True
        self._wanted = max(self._wanted, size)

    def released(self, id: int, *, declined: bool) -> None:
        """The peer has given this back.

        Raises:
            ProtocolError: it did not have it.
        """
        if not id and self._asked and not self.ready:
            self.ready = True
            if self._wanted:
                self._grow(self._wanted)
            return
        segment = self._segments.get(id)
        if segment is None or id in self._free:
            raise ProtocolError(f"memory {id} was released that had not been lent")
        if declined:
            self._remove(segment)
            self._pause = _PAUSE
        else:
            self._free[id] = segment

    def _drop(self, segment: _Owned) -> None:
        """Do without one that is free."""
        self._remove(segment)
        self._outbox.put(encode(Dropped(segment.id)), (), None, now=False)

    def _remove(self, segment: _Owned) -> None:
        del self._segments[segment.id]
        self._free.pop(segment.id, None)
        self._size -= segment.size
        segment.close()

    def close(self) -> None:
        """Give up all of them."""
        self._closed = True
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        self._free.clear()
