from __future__ import annotations

import itertools
import random
import struct
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xoscar_sc.errors import FrameTooLarge, ProtocolError
from xoscar_sc.protocol import (
    MAX_FRAME,
    MAX_MESSAGE,
    MAX_SEGMENTS,
    MAX_TRANSFERS,
    PIECE_SIZE,
    Decoder,
    bulk,
    frame,
)

MESSAGE, BULK, PIECE = range(3)


def feed(decoder: Decoder, data: bytes, sizes: Iterable[int] = itertools.repeat(1 << 30)) -> list:
    """Receive ``data`` in chunks of at most these sizes, as a driver does; copy what comes out."""
    found, at, steps = [], 0, iter(sizes)
    while at < len(data):
        room = decoder.buffer()
        n = min(len(room), len(data) - at, next(steps, 1 << 30))
        assert n > 0
        room[:n] = data[at : at + n]
        at += n
        got = decoder.received(n)
        while got:
            found += [(bytes(m), None if s is None else [bytes(one) for one in s]) for m, s in got]
            got = decoder.received(0)
    return found


def raw(kind: int, payload: bytes, length: int | None = None) -> bytes:
    return struct.pack("<IB", len(payload) if length is None else length, kind) + payload


def opening(transfer: int, sizes: list[int], message: bytes = b"m") -> bytes:
    return raw(BULK, struct.pack(f"<II{len(sizes)}Q", transfer, len(sizes), *sizes) + message)


def piece(transfer: int, data: bytes) -> bytes:
    return raw(PIECE, struct.pack("<I", transfer) + data)


def frames(transfer: int, message: bytes, segments: list[bytes]) -> Iterator[bytes]:
    for head, part in bulk(transfer, message, [memoryview(one) for one in segments]):
        yield head + (part or b"")


def test_a_frame_is_length_kind_and_message() -> None:
    assert frame(b"abc") == b"\x03\x00\x00\x00\x00abc"


def test_bulk_announces_its_segments_then_sends_them_in_pieces() -> None:
    assert list(bulk(7, b"abc", [memoryview(b"xy"), memoryview(b"")])) == [
        (bytes.fromhex("1b000000 01 07000000 02000000 0200000000000000 0000000000000000") + b"abc", None),
        (bytes.fromhex("06000000 02 07000000"), b"xy"),
    ]


def test_pieces_are_views_of_the_segment() -> None:
    data = bytearray(PIECE_SIZE + 1)
    parts = [part for _, part in bulk(1, b"", [memoryview(data)]) if part is not None]
    assert [len(part) for part in parts] == [PIECE_SIZE, 1]
    assert all(part.obj is data for part in parts)


def test_a_message_too_long_for_a_frame_is_refused_by_its_sender() -> None:
    assert len(frame(bytes(MAX_FRAME))) == MAX_FRAME + 5
    with pytest.raises(FrameTooLarge, match=f"{MAX_FRAME + 1} bytes"):
        frame(bytes(MAX_FRAME + 1))
    with pytest.raises(FrameTooLarge, match=f"{MAX_FRAME + 1} bytes"):
        bulk(1, bytes(MAX_FRAME - 7), [])
    with pytest.raises(FrameTooLarge, match="65537 segments"):
        bulk(1, b"", [memoryview(b"")] * (MAX_SEGMENTS + 1))


def two_interleaved() -> tuple[bytes, list]:
    first, second = list(frames(1, b"first", [b"abc", b"", b"d"])), list(frames(2, b"second", [b"efgh", b""]))
    stream = b"".join(
        (first[0], frame(b"x"), second[0], second[1], first[1], frame(b""), first[2], frame(b"y"))
    )
    return stream, [
        (b"x", None),
        (b"second", [b"efgh", b""]),
        (b"", None),
        (b"first", [b"abc", b"", b"d"]),
        (b"y", None),
    ]


def test_every_split_of_the_bytes_gives_the_same_messages() -> None:
    stream, expected = two_interleaved()
    for first, second in itertools.combinations_with_replacement(range(len(stream) + 1), 2):
        decoder = Decoder()
        assert feed(decoder, stream, [n for n in (first, second - first) if n]) == expected
        decoder.eof()


def test_byte_by_byte_gives_the_same_messages() -> None:
    stream, expected = two_interleaved()
    assert feed(Decoder(), stream, itertools.repeat(1)) == expected


def test_a_piece_may_run_across_segments() -> None:
    stream = opening(1, [2, 0, 3, 1, 0]) + piece(1, b"abc") + piece(1, b"def")
    for n in range(1, len(stream)):
        assert feed(Decoder(), stream, itertools.repeat(n)) == [(b"m", [b"ab", b"", b"cde", b"f", b""])]


@pytest.mark.parametrize("sizes", [[], [0], [0, 0, 0]])
def test_a_transfer_without_bytes_is_complete_at_once(sizes: list[int]) -> None:
    decoder = Decoder()
    assert feed(decoder, opening(1, sizes)) == [(b"m", [b""] * len(sizes))]
    decoder.eof()


sizes_near_borders = st.one_of(
    st.integers(0, 40),
    st.sampled_from([4095, 4096, 4097, 65530, 65531, 65532, 65536, 70_000, PIECE_SIZE, PIECE_SIZE + 1]),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(sizes_near_borders, st.none() | st.lists(sizes_near_borders, max_size=3)), max_size=6),
    st.lists(st.integers(1, 1 << 17), max_size=30),
    st.integers(0, 2**32),
)
def test_any_mixture_of_sizes_and_reads_arrives_whole(mixture: list, reads: list, seed: int) -> None:
    rng, expected, queues = random.Random(seed), [], []
    for number, (size, sizes) in enumerate(mixture):
        message = rng.randbytes(size)
        segments = None if sizes is None else [rng.randbytes(n) for n in sizes]
        expected.append((message, segments))
        queues.append([frame(message)] if segments is None else list(frames(number, message, segments)))
    stream = b""
    while queues := [queue for queue in queues if queue]:
        stream += rng.choice(queues).pop(0)
    decoder = Decoder()
    assert sorted(feed(decoder, stream, reads), key=str) == sorted(expected, key=str)
    decoder.eof()


def test_large_segments_are_received_into_their_own_memory() -> None:
    made = []

    def allocate(n: int) -> bytearray:
        made.append(bytearray(n))
        return made[-1]

    decoder = Decoder(allocate=allocate)
    data = bytes(range(256)) * 4096
    stream, directly = b"".join(frames(1, b"m", [data])), 0
    while stream:
        room = decoder.buffer()
        n = min(len(room), len(stream))
        room[:n], stream = stream[:n], stream[n:]
        directly += n if made and room.obj is made[0] else 0
        for _, segments in decoder.received(n):
            assert segments is not None
            assert segments[0] is made[0]
            assert made[0] == data
            made[0].append(0)  # nobody else holds it
    assert directly > 0.9 * len(data)


def test_messages_stay_as_they_are_until_the_next_buffer() -> None:
    decoder = Decoder()
    stream = b"".join(frame(bytes([n]) * 1000) for n in range(60)) + b"\x05"
    decoder.buffer()[: len(stream)] = stream
    got = decoder.received(len(stream))
    assert [(message[0], len(message)) for message, _ in got] == [(n, 1000) for n in range(60)]


# --- limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (raw(MESSAGE, b"", MAX_FRAME + 1), "a frame of 1048577 bytes was announced; 1048576 are admitted"),
        (raw(MESSAGE, b"", 0xFFFFFFFF), "a frame of 4294967295 bytes"),
        (raw(PIECE, b"", 0xFFFFFFFF), "a frame of 4294967295 bytes"),
        (opening(1, [2**40]), "a message of 1099511627777 bytes was announced"),
        (opening(1, [2**63] * 2), "a message of 18446744073709551617 bytes was announced"),
        (opening(1, [MAX_MESSAGE]), "bytes was announced"),
        (
            raw(BULK, struct.pack("<II", 1, 0xFFFFFFFF)),
            "4294967295 segments were announced; 65536 are admitted",
        ),
    ],
)
def test_a_header_beyond_the_limits_fails_before_anything_is_allocated(data: bytes, text: str) -> None:
    tracemalloc.start()
    try:
        decoder = Decoder()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with pytest.raises(FrameTooLarge, match=text):
            feed(decoder, data)
        assert tracemalloc.get_traced_memory()[1] - before < 100_000
    finally:
        tracemalloc.stop()


def test_an_announced_segment_is_allocated_when_its_first_byte_comes() -> None:
    made: list[int] = []

    def allocate(n: int) -> bytearray:
        made.append(n)
        return bytearray(n)

    decoder = Decoder(allocate=allocate)
    feed(decoder, opening(1, [1000, 2000]))
    assert made == []
    feed(decoder, piece(1, bytes(999)))
    assert made == [1000]
    feed(decoder, piece(1, bytes(2)))
    assert made == [1000, 2000]


def test_a_segment_that_memory_cannot_hold_is_an_error_of_the_protocol() -> None:
    def allocate(n: int) -> bytearray:
        raise MemoryError

    with pytest.raises(FrameTooLarge, match="no memory for a segment of 9 bytes"):
        feed(Decoder(allocate=allocate), opening(1, [9]) + piece(1, b"x"))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (raw(3, b"x"), "unknown kind 3"),
        (raw(255, b"", 0xFFFFFFFF), "unknown kind 255"),
        (raw(PIECE, b"\1\0\0\0"), "a piece without bytes"),
        (raw(PIECE, b""), "a piece without bytes"),
        (piece(9, b"x"), "transfer 9, which is not open"),
        (opening(1, [1]) + piece(1, b"x") + piece(1, b"y"), "transfer 1, which is not open"),
        (opening(1, [1]) + piece(1, b"xy"), "a piece of 2 bytes, where transfer 1 lacks 1"),
        (opening(1, [1]) + opening(1, [1]), "transfer 1 was opened twice"),
        (raw(BULK, b"1234567"), "a bulk frame of 7 bytes"),
        (raw(BULK, struct.pack("<IIQ", 1, 2, 0)), "a bulk frame of 16 bytes announces 2 segments"),
        (b"".join(opening(n, [1]) for n in range(MAX_TRANSFERS + 1)), "more than 1024 transfers"),
    ],
)
def test_frames_that_no_correct_peer_sends(data: bytes, text: str) -> None:
    for sizes in (itertools.repeat(1 << 30), itertools.repeat(7)):
        with pytest.raises(ProtocolError, match=text):
            feed(Decoder(), data, sizes)


def test_before_the_handshake_frames_are_short_and_without_segments() -> None:
    assert feed(Decoder(4096, 0), frame(bytes(4096))) == [(bytes(4096), None)]
    with pytest.raises(FrameTooLarge, match="4096 are admitted"):
        feed(Decoder(4096, 0), frame(bytes(4097)))
    for data in (opening(1, []), piece(1, b"x")):
        with pytest.raises(ProtocolError, match="before they are admitted"):
            feed(Decoder(4096, 0), data)


def test_limits_may_change_before_the_message_that_came_along_with_the_handshake() -> None:
    decoder = Decoder(4096, 0)
    stream = frame(b"hello") + frame(bytes(5000)) + opening(1, [])
    decoder.buffer()[: len(stream)] = stream
    assert [bytes(message) for message, _ in decoder.received(len(stream))] == [b"hello"]
    decoder.limits(MAX_FRAME, MAX_MESSAGE)
    assert [len(message) for message, _ in decoder.received(0)] == [5000, 1]
    decoder.eof()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (frame(b"abc")[:-1], "inside a frame"),
        (frame(b"abc") + b"\0", "inside a frame"),
        (frame(bytes(100_000))[:-1], "inside a frame"),
        (opening(1, [9]), "inside 1 transfers"),
        (opening(1, [9]) + piece(1, b"abc"), "inside 1 transfers"),
        (opening(1, [9]) + piece(1, b"abc")[:-1], "inside a frame"),
    ],
)
def test_an_end_inside_a_frame_or_a_transfer_is_not_clean(data: bytes, text: str) -> None:
    decoder = Decoder()
    feed(decoder, data)
    with pytest.raises(ProtocolError, match=text):
        decoder.eof()


def test_what_has_ended_is_forgotten() -> None:
    decoder = Decoder()
    for _ in range(MAX_TRANSFERS * 2):
        feed(decoder, opening(5, [1]) + piece(5, b"x"))
    decoder.eof()


# --- hostile bytes ----------------------------------------------------------------------------------------------


def attack(data: bytes, sizes: Iterable[int]) -> None:
    """The only outcomes are messages and ProtocolError."""
    decoder = Decoder(max_message=1 << 20)
    try:
        feed(decoder, data, sizes)
        decoder.eof()
    except ProtocolError:
        pass


def test_frames_longer_than_the_kept_buffer_arrive_whole() -> None:
    message = bytes(range(256)) * 300
    stream = frame(message) + b"".join(frames(1, message, [b"abc"])) + frame(b"x")
    for n in (1 << 30, 60_000, 4097):
        decoder = Decoder()
        assert feed(decoder, stream, itertools.repeat(n)) == [
            (message, None),
            (message, [b"abc"]),
            (b"x", None),
        ]
        decoder.eof()


def test_every_mutation_of_one_byte_is_messages_or_a_protocol_error() -> None:
    stream, _ = two_interleaved()
    for at in range(len(stream)):
        for value in (0, 1, 2, 3, 4, 5, 127, 128, 255, stream[at] ^ 1, stream[at] ^ 64):
            attack(stream[:at] + bytes([value]) + stream[at + 1 :], itertools.repeat(13))


def test_every_truncation_and_deletion_is_messages_or_a_protocol_error() -> None:
    stream, _ = two_interleaved()
    for at in range(len(stream)):
        attack(stream[:at], itertools.repeat(1 << 30))
        attack(stream[:at] + stream[at + 1 :], itertools.repeat(1 << 30))


kinds = st.integers(0, 4) | st.integers(0, 255)
lengths = st.integers(0, 40) | st.integers(0, 2**32 - 1)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(lengths, kinds, st.binary(max_size=40)), max_size=8), st.lists(st.integers(1, 60)))
def test_random_frames_are_messages_or_a_protocol_error(parts: list, sizes: list[int]) -> None:
    attack(b"".join(raw(kind, payload, length) for length, kind, payload in parts), sizes)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.lists(st.integers(1, 60)))
def test_random_bytes_are_messages_or_a_protocol_error(data: bytes, sizes: list[int]) -> None:
    attack(data, sizes)
