"""A message as what is handed to the connection: its bytes, and the segments that travel apart."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

from xoscar_sc.ipc.memory import BODIED, Memories
from xoscar_sc.ipc.outbox import Outbox
from xoscar_sc.ipc.shared import SMALLEST_PART, table
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


def send(
    message: AnyMessage,
    segments: Sequence[memoryview],
    memories: Memories,
    outbox: Outbox,
    key: str | None,
    *,
    now: bool = False,
    owned: bool = False,
) -> None:
    """Send a message of many bytes.

    Args:
        message: a body too large for one frame becomes the first segment.
        segments: what has room in memory that the peer has too is placed there.
        memories: of the connection.
        outbox: of the connection.
        key: as for the outbox.
        now: as for the outbox.
        owned: the segments do not change until the peer has answered; otherwise those that can are copied.

    Raises:
        FrameTooLarge: it cannot be sent; nothing was.
    """
    if isinstance(message, BODIED) and len(message.body) > INLINE:
        segments = [memoryview(message.body), *segments]
        message.body = b""
    data = encode(message)
    small = len(data) <= 2 * INLINE and 0 < len(segments) <= _MANY
    if small and memories.giver is not None and (missing := memories.giver.missing(segments)):
        # What is shared may change or not, whichever way it goes; the rest is as it is now.
        kept = [each if owned or table().find(each) else _frozen(each) for each in segments]
        place = outbox.hold(key)
        memories.giver.bring(
            missing, lambda: outbox.release(place, *_placed(data, kept, memories, owned=owned))
        )
        return
    if small:
        data, segments = _placed(data, segments, memories, owned=owned)
    elif not owned:
        segments = [_frozen(each) for each in segments]
    outbox.put(data, segments, key, now=now)


def _placed(
    data: bytes, segments: Sequence[memoryview], memories: Memories, *, owned: bool
) -> tuple[bytes, Sequence[memoryview]]:
    """A message, some of whose segments lie in memory, and the others."""
    if max(map(len, segments)) >= SMALLEST_PART:
        places = memories.place(segments)
        if places is not None:
            offsets = tuple(offset for _, _, offset in places)
            ends = tuple((id, length) for id, length, _ in places)
            data = encode(Placed(ends, data, offsets if any(offsets) else ()))
            segments = [each for each, (id, _) in zip(segments, ends, strict=True) if not id]
    return data, segments if owned else [_frozen(each) for each in segments]


def _frozen(segment: memoryview) -> memoryview:
    return segment if segment.readonly else memoryview(bytes(segment))


def allocate(size: int) -> Segment:
    """Memory for a segment: in huge pages where that is worth it, since the page faults are what it costs."""
    if size < _HUGE:
        return bytearray(size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)
