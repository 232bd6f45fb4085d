"""A message as what is handed to the connection: its bytes, and the segments that travel apart."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

from xoscar_sc.ipc.lending import SMALLEST
from xoscar_sc.ipc.memory import BODIED, Memories
from xoscar_sc.protocol import (
    AnyMessage,
    Placed,
    Segment,
    encode,
)

INLINE = 64 * 1024
"""A body larger than this travels apart."""
_HUGE = 4 << 20
_MANY = 1024
"""A message of more segments than this is one of small ones."""


def pack(
    message: AnyMessage, segments: Sequence[memoryview], memories: Memories
) -> tuple[bytes, Sequence[memoryview]]:
    """Encode a message; a body too large for one frame becomes the first segment.

    What has room in memory that the peer has too is copied there; the others of the segments are returned.
    """
    if isinstance(message, BODIED) and len(message.body) > INLINE:
        segments = [memoryview(message.body), *segments]
        message.body = b""
    data = encode(message)
    if (
        segments
        and len(data) <= 2 * INLINE
        and len(segments) <= _MANY
        and max(map(len, segments)) >= SMALLEST
    ):
        places = memories.place(segments)
        if places is not None:
            data = encode(Placed(tuple(places), data))
            segments = [each for each, (id, _) in zip(segments, places, strict=True) if not id]
    return data, segments


def allocate(size: int) -> Segment:
    """Memory for a segment: in huge pages where that is worth it, since the page faults are what it costs."""
    if size < _HUGE:
        return bytearray(size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)
