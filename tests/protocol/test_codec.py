from __future__ import annotations

import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xoscar_sc.errors import ProtocolError
from xoscar_sc.protocol import (
    SHARED,
    VERSION,
    AnyMessage,
    Call,
    Cancel,
    Cancelled,
    Credit,
    Demand,
    Dropped,
    End,
    Failed,
    Failure,
    Hello,
    Item,
    Memory,
    Message,
    Notice,
    Placed,
    Released,
    Reply,
    Started,
    Tell,
    decode,
    encode,
)

NESTED = Failure(
    type_name="builtins.ValueError",
    text="no",
    payload=b"p",
    notes=("n",),
    traceback="tb",
    cause=Failure("K", "c"),
    suppress_context=True,
    members=(Failure("M", "m"),),
)

# Bytes of version 1. If one of these changes, so must VERSION.
GOLDEN: list[tuple[Message, str]] = [
    (Hello(1, "t", "unix:///a", "p", 7), "960001a174a9756e69783a2f2f2f61a17007"),
    (
        Call(1, "u", 2, "m", b"b", 1.5, (("a", "b", 3),), batch=True, window=4, dialogue=True, plain=True),
        "9c0101a17502a16dc40162cb3ff80000000000009193a161a16203c304c3c3",
    ),
    (Call(1, "u", 0, "m", b""), "9c0101a17500a16dc400c090c200c2c2"),
    (Tell("u", 2, "m", b"b", batch=True), "9602a17502a16dc40162c3"),
    (Reply(1, b"b"), "930301c40162"),
    (
        Failed(1, NESTED),
        (
            "93040199b36275696c74696e732e56616c75654572726f72a26e6fc4017091a16ea2746299a14ba163c40090a0c0c0c290c0"
            "c39199a14da16dc40090a0c0c0c290"
        ),
    ),
    (Cancelled(1), "920501"),
    (Cancel(1), "920601"),
    (Notice(1, b"b"), "930701c40162"),
    (Credit("u", 3), "9308a17503"),
    (Item(1, b"b", mine=True), "940901c40162c3"),
    (Demand(1, 3, mine=False), "940a0103c2"),
    (Started(1, b"b", b"t"), "940b01c40162c40174"),
    (End(1, mine=True, reads=False), "940c01c3c2"),
    (Memory(1, 131072), "940d01ce00020000c2"),
    (Memory(SHARED + 1, 131072, passed=True), "940dcf0000000100000001ce00020000c3"),
    (Placed(((1, 131072), (0, 0)), b"m"), "940e929201ce00020000920000c4016d90"),
    (Placed(((SHARED + 1, 65536),), b"m", (4096,)), "940e9192cf0000000100000001ce00010000c4016d91cd1000"),
    (Released((1, 2), declined=True), "930f920102c3"),
    (Dropped(1), "93100100"),
    (Dropped(SHARED + 1, 7), "9310cf000000010000000107"),
]


@pytest.mark.parametrize(("message", "golden"), GOLDEN, ids=lambda value: type(value).__name__)
def test_the_bytes_of_a_message_never_change(message: AnyMessage, golden: str) -> None:
    assert encode(message).hex() == golden
    assert decode(bytes.fromhex(golden)) == message


def test_every_message_has_golden_bytes() -> None:
    assert VERSION == 1
    assert {type(message) for message, _ in GOLDEN} == set(typing.get_args(AnyMessage))


def test_a_field_added_at_the_end_is_ignored_by_whoever_does_not_know_it() -> None:
    assert decode(bytes.fromhex("930501c0")) == Cancelled(1)


def test_a_decoded_message_keeps_nothing_of_the_buffer() -> None:
    buffer = bytearray(encode(Reply(1, b"body")))
    message = decode(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert message == Reply(1, b"body")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x90",
        encode(Cancel(1)) + b"\x00",
        bytes.fromhex("92ff01"),  # an unknown tag
        bytes.fromhex("920601")[:-1],
        bytes.fromhex("9206ff"),  # a negative id
        bytes.fromhex("9206cfffffffffffffffff"),  # an id of 64 bits
        bytes.fromhex("9602a1ff02a16dc40162c3"),  # a name that is no UTF-8
        bytes.fromhex("930301c6ffffffff"),  # a body of 4 GiB
        b"\x92\x06" + b"\x91" * 100_000,
        b"\x93\x04\x01" + b"\x96\xa1t\xa1x\xc4\x00\x90\xa0" * 100_000,  # causes without end
        encode(Tell("u" * 1025, 0, "m", b"")),
    ],
)
def test_garbage_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="no message"):
        decode(data)


def attack(data: bytes) -> None:
    try:
        message = decode(data)
    except ProtocolError:
        return
    assert isinstance(message, Message)


def test_every_mutation_of_one_byte_is_a_message_or_a_protocol_error() -> None:
    for message, _ in GOLDEN:
        data = encode(typing.cast(AnyMessage, message))
        for at in range(len(data)):
            for value in range(0, 256, 3):
                attack(data[:at] + bytes([value]) + data[at + 1 :])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=100), st.sampled_from([b"", b"\x92\x06", b"\x99\x01", b"\x93\x04\x01\x99"]))
def test_random_bytes_are_a_message_or_a_protocol_error(data: bytes, head: bytes) -> None:
    attack(head + data)
