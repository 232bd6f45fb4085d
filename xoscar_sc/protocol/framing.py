"""Frames: where one message ends and the next begins, and how large ones travel without being copied.

Every frame is a prefix of five bytes, ``u32`` length of the payload and ``u8`` kind (all little endian), then
the payload:

=======  ===============================================================================================
MESSAGE  one message
BULK     ``u32`` transfer, ``u32`` number of segments, ``u64`` length of each, then the message they are of
PIECE    ``u32`` transfer, then its next bytes: its segments one after the other, borders ignored
=======  ===============================================================================================

Frames are small, so that a large transfer never holds up a message behind it: pieces of several transfers and
whole messages interleave as the sender likes. A transfer is complete, and its message handed out, with its
last byte.

Sans-IO: a driver receives into :meth:`Decoder.buffer` and reports to :meth:`Decoder.received`. Whatever the
bytes, the outcome is messages or one :exc:`ProtocolError`, after which the decoder is of no further use.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from xoscar_sc.errors import FrameTooLarge, ProtocolError

MESSAGE: Final = 0
BULK: Final = 1
PIECE: Final = 2

MAX_FRAME: Final = 1 << 20
"""Longest payload of a frame, in bytes."""
MAX_MESSAGE: Final = 1 << 34
"""Longest message with its segments, in bytes, unless a driver sets another limit."""
MAX_SEGMENTS: Final = 1 << 16
MAX_TRANSFERS: Final = 1024
PIECE_SIZE: Final = 256 << 10

# Below malloc's threshold for mapping fresh pages; enough for many messages to share a system call.
_KEPT = 64 << 10
# While a transfer runs, a frame's head is received alone: what comes into the kept buffer is copied again.
_HEAD = 4 << 10

_PREFIX = struct.Struct("<IB")
_BULK = struct.Struct("<II")
_PIECE = struct.Struct("<IBI")
_U32 = struct.Struct("<I")
_pack = _PREFIX.pack

Segment: TypeAlias = bytearray | memoryview
Inbound: TypeAlias = "tuple[memoryview | bytearray | bytes, list[Segment] | None]"
"""A message, and its segments; None if it came without."""


def frame(message: bytes) -> bytes:
    """The frame of a message without segments.

    Raises:
        FrameTooLarge: it is longer than :data:`MAX_FRAME`; let it travel as a segment.
    """
    if len(message) > MAX_FRAME:
        raise FrameTooLarge(f"a message of {len(message)} bytes does not fit into a frame of {MAX_FRAME}")
    return _pack(len(message), MESSAGE) + message


def bulk(
    transfer: int, message: bytes, segments: Sequence[memoryview]
) -> Iterator[tuple[bytes, memoryview | None]]:
    """The frames of a message with segments: for each its head, and the part of a segment that follows it.

    Nothing is copied: a segment must not change until its last part has been sent.

    Args:
        transfer: 32 bits; no other transfer in this direction may be using it.
        segments: flat, of bytes; may be empty, and may hold empty ones.

    Raises:
        FrameTooLarge: the message, or the list of its segments, is too long for a frame; raised at once.
    """
    if len(segments) > MAX_SEGMENTS:
        raise FrameTooLarge(f"a message with {len(segments)} segments; {MAX_SEGMENTS} are admitted")
    sizes = [len(segment) for segment in segments]
    head = b"".join((_BULK.pack(transfer, len(sizes)), struct.pack(f"<{len(sizes)}Q", *sizes), message))
    if len(head) > MAX_FRAME:
        raise FrameTooLarge(f"a message of {len(head)} bytes does not fit into a frame of {MAX_FRAME}")
    return _bulk(transfer, _pack(len(head), BULK) + head, segments)


def _bulk(
    transfer: int, first: bytes, segments: Sequence[memoryview]
) -> Iterator[tuple[bytes, memoryview | None]]:
    yield first, None
    for segment in segments:
        for at in range(0, len(segment), PIECE_SIZE):
            part = segment[at : at + PIECE_SIZE]
            yield _PIECE.pack(4 + len(part), PIECE, transfer), part


class _Sink:
    """Memory that is being filled: a transfer's segments, or one frame too long for the kept buffer."""

    __slots__ = ("allocate", "key", "kind", "left", "message", "segments", "sizes", "view")

    def __init__(
        self,
        kind: int,
        sizes: Sequence[int],
        allocate: Callable[[int], Segment],
        key: int = 0,
        message: bytes = b"",
    ) -> None:
        self.kind = kind
        self.key = key
        self.message = message
        self.sizes = sizes
        self.allocate = allocate
        self.left = sum(sizes)
        self.segments: list[Segment] = []
        self.view = memoryview(b"")

    def room(self) -> memoryview:
        """Where the next byte belongs: a segment is allocated for its first byte, not for its announcement."""
        while not self.view:
            self.view = memoryview(self._next())
        return self.view

    def advance(self, n: int) -> None:
        self.view = self.view[n:]
        self.left -= n

    def complete(self) -> list[Segment]:
        self.view = memoryview(b"")
        while len(self.segments) < len(self.sizes):
            self._next()
        return self.segments

    def _next(self) -> Segment:
        size = self.sizes[len(self.segments)]
        try:
            segment = self.allocate(size)
        except MemoryError as error:
            raise FrameTooLarge(f"no memory for a segment of {size} bytes") from error
        self.segments.append(segment)
        return segment


class Decoder:
    """Turns the bytes of one direction of a connection into messages.

    Args:
        max_frame: longest payload admitted, in bytes.
        max_message: longest message with its segments, in bytes. 0 is for a peer that has not proved itself
            yet: it may send no segments, and its messages are handed out one at a time; see :meth:`limits`.
        allocate: makes the memory for a segment, writable and of exactly that many bytes.
    """

    def __init__(
        self,
        max_frame: int = MAX_FRAME,
        max_message: int = MAX_MESSAGE,
        allocate: Callable[[int], Segment] = bytearray,
    ) -> None:
        self._max_frame = max_frame
        self._max_message = max_message
        self._allocate = allocate
        self._kept = bytearray(_KEPT)
        self._view = memoryview(self._kept)
        # Invariant: kept[start:end] has come in and is not yet understood; both are 0 if that is nothing.
        self._start = 0
        self._end = 0
        self._transfers: dict[int, _Sink] = {}
        # The frame in hand, if its payload goes straight to where it belongs, and how much of it is to come.
        # Invariant: between calls, the kept buffer is empty while there is a sink.
        self._sink: _Sink | None = None
        self._left = 0
        # What buffer() returned last, if that is the sink's own memory.
        self._room: memoryview | None = None

    def limits(self, max_frame: int, max_message: int) -> None:
        """Admit more, or less, from now on.

        While ``max_message`` is 0, :meth:`received` returns one message at a time, so that the limits may be
        changed before the next one is looked at; call ``received(0)`` until nothing more comes.
        """
        self._max_frame = max_frame
        self._max_message = max_message

    @property
    def whole(self) -> bool:
        """Whether what has come in ends where a frame ends."""
        return not self._end and self._sink is None

    def buffer(self) -> memoryview:
        """Where the next bytes are to be received; ends the life of messages handed out as views."""
        sink = self._sink
        if sink is not None:
            room = sink.room()[: self._left]
            if len(room) >= _HEAD:
                self._room = room
                return room
        start, end = self._start, self._end
        if start:
            end -= start
            self._view[:end] = self._view[start : start + end]
            self._start, self._end = 0, end
        if self._transfers:
            return self._view[end : end + _HEAD]
        return self._view[end:] if end else self._view

    def received(self, n: int) -> list[Inbound]:
        """Take the ``n`` bytes that were written to :meth:`buffer`, and return the messages they complete.

        A message may be a view of the buffer: it is gone with the next call of :meth:`buffer`. Segments are
        the caller's own.

        Raises:
            FrameTooLarge: the peer announced more than is admitted; nothing was allocated for it.
            ProtocolError: these bytes are no frames.
        """
        out: list[Inbound] = []
        sink, room = self._sink, self._room
        if sink is not None and room is not None:
            # The driver still has this view; a bytearray that is handed out must be free to change its size.
            room.release()
            self._room = None
            self._advance(sink, n, out)
            return out
        kept, view, max_frame, single = self._kept, self._view, self._max_frame, not self._max_message
        start, end = self._start, self._end + n
        if sink is not None:
            start = self._pour(sink, start, end, out)
        while end - start >= 5:
            if single and out:
                break
            length, kind = _PREFIX.unpack_from(kept, start)
            stop = start + 5 + length
            if not kind and stop <= end and length <= max_frame:
                out.append((view[start + 5 : stop], None))
                start = stop
                continue
            following = self._uncommon(length, kind, start + 5, end, out)
            if following < 0:
                break
            start = following
        if start == end:
            start = end = 0
        self._start, self._end = start, end
        return out

    def eof(self) -> None:
        """The stream has ended.

        Raises:
            ProtocolError: it ended inside a frame or a transfer: what was being sent is lost.
        """
        if self._end or self._sink is not None:
            raise ProtocolError("the stream ended inside a frame")
        if self._transfers:
            raise ProtocolError(f"the stream ended inside {len(self._transfers)} transfers")

    def _uncommon(self, length: int, kind: int, start: int, end: int, out: list[Inbound]) -> int:
        """Act on any but a short, whole MESSAGE; return where the next frame starts, -1 to wait for more."""
        if kind > PIECE:
            raise ProtocolError(f"a frame of the unknown kind {kind}")
        if length > self._max_frame:
            raise FrameTooLarge(f"a frame of {length} bytes was announced; {self._max_frame} are admitted")
        if kind and not self._max_message:
            raise ProtocolError("segments were announced before they are admitted")
        if kind == PIECE:
            if length <= 4:
                raise ProtocolError("a piece without bytes")
            if end - start < 4:
                return -1
            sink, start, length = self._transfer(start, length - 4), start + 4, length - 4
        elif 5 + length > _KEPT:
            sink = _Sink(kind, (length,), bytearray)
        elif start + length > end:
            return -1
        else:
            self._open(self._view[start : start + length], out)
            return start + length
        self._sink, self._left = sink, length
        return self._pour(sink, start, end, out)

    def _pour(self, sink: _Sink, start: int, end: int, out: list[Inbound]) -> int:
        """Move what the kept buffer has of the frame in hand to where it belongs; return where it ends."""
        stop = min(end, start + self._left)
        while start < stop:
            room = sink.room()
            n = min(len(room), stop - start)
            room[:n] = self._view[start : start + n]
            self._advance(sink, n, out)
            start += n
        return stop

    def _advance(self, sink: _Sink, n: int, out: list[Inbound]) -> None:
        """The frame in hand has got ``n`` bytes more."""
        sink.advance(n)
        self._left -= n
        if self._left:
            return
        self._sink = None
        if sink.left:
            return
        segments = sink.complete()
        if sink.kind == MESSAGE:
            out.append((segments[0], None))
        elif sink.kind == BULK:
            self._open(memoryview(segments[0]), out)
        else:
            del self._transfers[sink.key]
            out.append((sink.message, segments))

    def _transfer(self, at: int, length: int) -> _Sink:
        """The open transfer that the next ``length`` bytes belong to."""
        (transfer,) = _U32.unpack_from(self._kept, at)
        sink = self._transfers.get(transfer)
        if sink is None:
            raise ProtocolError(f"a piece of transfer {transfer}, which is not open")
        if length > sink.left:
            raise ProtocolError(f"a piece of {length} bytes, where transfer {transfer} lacks {sink.left}")
        return sink

    def _open(self, payload: memoryview, out: list[Inbound]) -> None:
        """Open a transfer; one without any bytes is complete at once."""
        if len(payload) < 8:
            raise ProtocolError(f"a bulk frame of {len(payload)} bytes")
        transfer, count = _BULK.unpack_from(payload)
        if count > MAX_SEGMENTS:
            raise FrameTooLarge(f"{count} segments were announced; {MAX_SEGMENTS} are admitted")
        if len(payload) < 8 + 8 * count:
            raise ProtocolError(f"a bulk frame of {len(payload)} bytes announces {count} segments")
        if transfer in self._transfers:
            raise ProtocolError(f"transfer {transfer} was opened twice")
        if len(self._transfers) >= MAX_TRANSFERS:
            raise ProtocolError(f"more than {MAX_TRANSFERS} transfers were opened")
        sizes = struct.unpack_from(f"<{count}Q", payload, 8)
        message = bytes(payload[8 + 8 * count :])
        total = len(message) + sum(sizes)
        if total > self._max_message:
            raise FrameTooLarge(f"a message of {total} bytes was announced; {self._max_message} are admitted")
        sink = _Sink(PIECE, sizes, self._allocate, transfer, message)
        if sink.left:
            self._transfers[transfer] = sink
        else:
            out.append((message, sink.complete()))
