from __future__ import annotations

import contextlib
import socket
import struct

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.driving import both_drivers
from tests.ipc.talking import End, Reader, call, hello, one_end, outcome, pair, said, tell, two_ends
from tests.loop.waiting import settle, until
from xoscar_sc.errors import ConnectionLost, ProtocolError
from xoscar_sc.loop import open_loop
from xoscar_sc.protocol import (
    VERSION,
    Call,
    Cancel,
    Cancelled,
    Failed,
    Failure,
    Notice,
    Reply,
    Tell,
    bulk,
    decode,
    encode,
)

MIB = 1 << 20


@both_drivers
async def test_a_greeting_alone_is_what_a_channel_says_by_itself() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            end = End(loop, one, hello("end"))
            reader = Reader(other)
            reader.take()
            ((message, _),) = reader.found
            assert decode(message) == hello("end")
            end.channel.close()


@both_drivers
async def test_each_side_hears_who_the_other_is() -> None:
    async with two_ends(greet=False) as (_, left, right):
        assert left.channel.peer is None
        assert (await left.channel.wait_greeting()).pool == "right"
        assert (await right.channel.wait_greeting()).pool == "left"
        assert left.channel.peer == hello("right")


@both_drivers
async def test_what_follows_a_greeting_in_the_same_bytes_is_heard_with_the_larger_limits() -> None:
    async with one_end(greet=False) as (_, end, other):
        other.send(said(hello(), tell(body=b"short"), tell(body=bytes(30_000))))
        await until(lambda: len(end.messages) == 2)
        assert end.bodies == [b"short", bytes(30_000)]


GARBAGE = {
    "a frame larger than a greeting may be": (struct.pack("<IB", 4097, 0), "4097 bytes was announced"),
    "a frame of four gibibytes": (struct.pack("<IB", 2**32 - 1, 0), "4294967295 bytes was announced"),
    "an unknown kind of frame": (struct.pack("<IB", 1, 9) + b"x", "unknown kind 9"),
    "segments": (b"".join(head for head, _ in bulk(1, encode(hello()), [])), "before they are admitted"),
    "no message at all": (struct.pack("<IB", 3, 0) + b"\xc1\xc1\xc1", "no message"),
    "an empty message": (struct.pack("<IB", 0, 0), "0 bytes that are no message"),
    "an unknown message": (struct.pack("<IB", 2, 0) + b"\x91\x7f", "no message"),
    "plain text": (b"GET / HTTP/1.1\r\n\r\n", "unknown kind 47"),
    "a call before a greeting": (said(call()), "Call is not legal"),
    "a tell before a greeting": (said(tell()), "Tell is not legal"),
    "a reply before a greeting": (said(Reply(1, b"")), "Reply is not legal"),
    "a notice before a greeting": (said(Notice(1, b"")), "Notice is not legal"),
    "another version": (said(hello(version=VERSION + 1)), "speaks version 2 of the protocol, and we 1"),
    "another tree": (said(hello(tree="elsewhere")), "another tree, 'elsewhere'"),
}


@pytest.mark.parametrize("what", GARBAGE)
@both_drivers
async def test_a_stranger_is_lost_with_a_protocol_error(what: str) -> None:
    data, text = GARBAGE[what]
    async with one_end(greet=False) as (_, end, other):
        other.send(data)
        with pytest.raises(ConnectionLost):
            await end.channel.wait_greeting()
        (error,) = end.lost
        assert isinstance(error, ProtocolError)
        assert text in str(error)
        assert end.channel.closed
        assert end.channel.peer is None
        assert end.messages == []


GARBAGE_LATER = {
    "a second greeting": (said(hello()), "Hello is not legal"),
    "a frame that is too large": (struct.pack("<IB", MIB + 1, 0), "1048577 bytes was announced"),
    "an unknown kind of frame": (struct.pack("<IB", 1, 3) + b"x", "unknown kind 3"),
    "no message": (struct.pack("<IB", 3, 0) + b"abc", "no message"),
    "a piece of nothing": (struct.pack("<IBI", 5, 2, 7) + b"x", "transfer 7, which is not open"),
    "too large a message": (struct.pack("<IBIIQ", 16, 1, 1, 1, 2**40), "1099511627776 bytes was announced"),
}


@pytest.mark.parametrize("what", GARBAGE_LATER)
@both_drivers
async def test_a_peer_that_breaks_the_protocol_is_lost_with_the_calls_to_it(what: str) -> None:
    data, text = GARBAGE_LATER[what]
    async with one_end() as (_, end, other):
        found: list[object] = []
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, found, end, call())
            await settle()
            other.send(said(tell(body=b"before")))
            await until(lambda: end.messages)
            other.send(data)
        (error,) = end.lost
        assert isinstance(error, ProtocolError)
        assert text in str(error)
        assert [type(each) for each in found] == [ConnectionLost]


@pytest.mark.parametrize("length", [1, 4, 5, 6, 12])
@pytest.mark.parametrize("greeted", [False, True])
@both_drivers
async def test_an_end_inside_of_a_frame_is_a_protocol_error(length: int, greeted: bool) -> None:
    async with one_end(greet=greeted) as (_, end, other):
        other.send(said(tell() if greeted else hello())[:length])
        await settle()
        other.close()
        await until(lambda: end.lost)
        (error,) = end.lost
        assert isinstance(error, ProtocolError)
        assert "ended inside a frame" in str(error)


@both_drivers
async def test_an_end_inside_of_a_large_message_is_a_protocol_error() -> None:
    async with one_end() as (_, end, other):
        frames = [
            head + bytes(part or b"") for head, part in bulk(1, encode(tell()), [memoryview(bytes(MIB))])
        ]
        other.send(frames[0])
        await settle()
        other.close()
        await until(lambda: end.lost)
        assert "ended inside 1 transfers" in str(end.lost[0])
        assert end.messages == []


@pytest.mark.parametrize("greeted", [False, True])
@both_drivers
async def test_an_end_between_messages_is_no_error(greeted: bool) -> None:
    async with one_end(greet=greeted) as (_, end, other):
        other.close()
        await until(lambda: end.lost)
        assert end.lost == [None]
        with pytest.raises(ConnectionLost):
            await end.request(call())
        if not greeted:
            with pytest.raises(ConnectionLost):
                await end.channel.wait_greeting()


@both_drivers
async def test_a_greeting_that_is_given_up_can_be_waited_for_again() -> None:
    async with one_end(greet=False) as (loop, end, other):
        with anyio.CancelScope() as scope:
            loop.soon(scope.cancel)
            await end.channel.wait_greeting()
        assert scope.cancelled_caught
        other.send(said(hello()))
        assert await end.channel.wait_greeting() == hello()


def conversation() -> bytes:
    large = [
        head + bytes(part or b"") for head, part in bulk(3, encode(Reply(1, b"")), [memoryview(bytes(500))])
    ]
    return (
        said(hello(), tell(body=b"one"), call("other", b"two"), Cancel(9), Notice(1, b"x"))
        + b"".join(large)
        + said(Failed(2, Failure("KeyError", "x")), Cancelled(3), Reply(4, b"yes"), tell(body=b"last"))
    )


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    data = bytearray(conversation())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        to = draw(st.integers(at, min(at + 40, len(data))))
        what = draw(st.sampled_from(["set", "flip", "cut", "insert", "repeat", "end"]))
        if what == "set" and data:
            data[at] = draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0x90, 0xC1, 0xDD, 0xFF]))
        elif what == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del data[at:to]
        elif what == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        elif what == "repeat":
            data[at:at] = data[at:to]
        elif what == "end":
            del data[at:]
    return bytes(data)


async def _hear(data: bytes, sizes: list[int]) -> None:
    """Whatever the peer says: one end, a clear one, and every call ends too."""
    async with one_end(greet=False) as (_, end, other):
        found: list[object] = []
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(outcome, found, end, call())
                await anyio.lowlevel.checkpoint()
                at = 0
                with contextlib.suppress(BrokenPipeError):  # it may have heard enough
                    for size in [*sizes, len(data)]:
                        other.send(data[at : at + size])
                        at += size
                        await anyio.lowlevel.checkpoint()
                    other.shutdown(socket.SHUT_WR)
                await until(lambda: end.lost)
        (error,) = end.lost
        assert error is None or isinstance(error, ProtocolError)
        assert len(found) == 3
        assert end.channel.closed


@settings(max_examples=150, deadline=None)
@given(data=mutations(), sizes=st.lists(st.integers(1, 60), max_size=5))
def test_a_conversation_that_is_changed_anyhow_ends_in_one_clear_way(data: bytes, sizes: list[int]) -> None:
    anyio.run(_hear, data, sizes, backend="trio")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), greeted=st.booleans())
def test_random_bytes_end_in_one_clear_way(data: bytes, greeted: bool) -> None:
    anyio.run(_hear, (said(hello()) if greeted else b"") + data, [], backend="trio")


@both_drivers
async def test_the_conversation_itself_is_heard_whole() -> None:
    async with one_end(greet=False) as (_, end, other):
        found: list[object] = []
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(outcome, found, end, call())
                await settle()
            for byte in conversation():
                other.send(bytes([byte]))
                await anyio.lowlevel.checkpoint()
        assert [type(message) for message, _ in end.messages] == [Tell, Call, Cancel, Notice, Tell]
        assert found == [bytes(500), Failed(2, Failure("KeyError", "x")), Cancelled(3), b"yes"]
