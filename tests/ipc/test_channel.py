from __future__ import annotations

import random
import socket
import struct

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.driving import both_drivers
from tests.ipc.talking import End, Reader, call, hello, one_end, pair, said, tell, two_ends
from tests.loop.waiting import settle, until
from xoscar_sc.errors import ConnectionLost, FrameTooLarge, ProtocolError
from xoscar_sc.ipc.channel import INLINE
from xoscar_sc.loop import open_loop
from xoscar_sc.protocol import (
    VERSION,
    Call,
    Cancel,
    Cancelled,
    Failed,
    Failure,
    Hello,
    Notice,
    Reply,
    Tell,
    bulk,
    decode,
    encode,
)

MIB = 1 << 20
NARROW = 4096


def heard(reader: Reader) -> list[object]:
    return [decode(message) for message, _ in reader.found]


async def outcome(found: list[object], end: End, message: Call, *segments: bytes) -> None:
    """What a call ends with, whatever it is."""
    try:
        found.append(await end.request(message, *segments))
    except Exception as exc:
        found.append(exc)


# Greeting


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
        frames = [head + bytes(part or b"") for head, part in bulk(1, encode(tell()), [memoryview(bytes(MIB))])]
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
    large = [head + bytes(part or b"") for head, part in bulk(3, encode(Reply(1, b"")), [memoryview(bytes(500))])]
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
                for size in [*sizes, len(data)]:
                    other.send(data[at : at + size] or b"")
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


# Calls and their answers


@both_drivers
async def test_a_thousand_calls_at_once_each_get_their_own_answer() -> None:
    async with two_ends() as (_, left, right):
        right.answers = True
        found: dict[int, object] = {}

        async def ask(number: int) -> None:
            found[number] = await left.request(call(f"actor {number % 7}", b"%d" % number))

        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(ask, number)
        assert found == {number: b"%d" % number for number in range(1000)}
        assert len({message.id for message, _ in right.messages if isinstance(message, Call)}) == 1000
        assert not left.channel._calls


@both_drivers
async def test_answers_in_any_order_reach_those_who_asked() -> None:
    draw = random.Random(3)
    async with two_ends() as (_, left, right):
        found: dict[int, object] = {}

        async def ask(number: int) -> None:
            found[number] = await left.request(call(body=b"%d" % number))

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(ask, number)
            await until(lambda: len(right.messages) == 200)
            calls = [message for message, _ in right.messages if isinstance(message, Call)]
            draw.shuffle(calls)
            for each in calls:
                right.channel.reply(each.id, b"to " + bytes(each.body), ())
                await anyio.lowlevel.checkpoint()
        assert found == {number: b"to %d" % number for number in range(200)}


@both_drivers
async def test_both_sides_call_each_other_at_once() -> None:
    async with two_ends(NARROW) as (_, left, right):
        left.answers = right.answers = True
        found: list[object] = []
        async with anyio.create_task_group() as group:
            for number in range(100):
                for end in (left, right):
                    body = b"%d" % number * draw_size(number)
                    group.start_soon(outcome, found, end, call(body=body))
        assert len(found) == 200
        assert all(isinstance(each, bytes) for each in found)


def draw_size(number: int) -> int:
    return 1 if number % 10 else 100_000


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, 5 * MIB])
@both_drivers
async def test_bodies_and_segments_of_any_size_arrive_as_they_were(size: int) -> None:
    async with two_ends() as (_, left, right):
        body, segments = b"b" * size, [b"x" * size, b"", b"y"]
        found: list[object] = []
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, found, left, call(body=body or b"b"), *segments)
            await until(lambda: right.messages)
            ((message, more),) = right.messages
            assert isinstance(message, Call)
            assert (bytes(message.body), more) == (body or b"b", segments)
            right.channel.reply(message.id, body or b"r", [memoryview(each) for each in segments])
        assert found == [(body or b"r", *segments)]


@both_drivers
async def test_the_sender_of_a_post_may_change_what_it_has_sent() -> None:
    async with two_ends(NARROW) as (_, left, right):
        mine = bytearray(b"x" * MIB)
        left.channel.post(tell(body=b"body"), [memoryview(mine)])
        mine[:] = b"y" * MIB
        await until(lambda: right.messages)
        assert right.messages[0][1] == [b"x" * MIB]


@both_drivers
async def test_posts_of_one_key_arrive_in_the_order_sent_whatever_their_size() -> None:
    async with two_ends(NARROW) as (_, left, right):
        bodies = [b"%d" % number + bytes(draw_size(number)) for number in range(60)]
        for body in bodies:
            left.channel.post(tell("one", body), key="one")
            left.channel.post(tell("other", b"x"), key="other")
        await until(lambda: len(right.messages) == 120)
        assert [body for body in right.bodies if body != b"x"] == bodies


@both_drivers
async def test_a_small_call_is_answered_while_a_large_one_is_on_its_way() -> None:
    async with two_ends() as (_, left, right):
        right.answers = True
        found: list[object] = []
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, found, left, call("one", bytes(32 * MIB)))
            await anyio.lowlevel.checkpoint()
            assert await left.request(call("other", b"small")) == b"small"
            assert found == []
        assert found == [bytes(32 * MIB)]


@both_drivers
async def test_who_posts_much_is_made_to_wait_for_room() -> None:
    async with one_end(NARROW) as (_, end, other):
        await end.channel.wait_room()
        end.channel.post(tell(body=bytes(2 * MIB)))
        assert end.channel.crowded
        reader = Reader(other)
        log: list[str] = []

        async def wait() -> None:
            await end.channel.wait_room()
            log.append("room")

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await settle()
            assert log == []
            await reader.take_until(1)
        assert not end.channel.crowded


@both_drivers
async def test_an_answer_to_nothing_is_ignored() -> None:
    async with one_end() as (_, end, other):
        other.send(said(Reply(77, b""), Cancelled(78), Failed(79, Failure("KeyError", "x")), tell()))
        await until(lambda: end.messages)
        assert len(end.messages) == 1
        assert end.lost == []


@both_drivers
async def test_a_call_that_cannot_be_sent_leaves_nothing_behind() -> None:
    async with two_ends() as (_, left, right):
        right.answers = True
        with pytest.raises(FrameTooLarge):
            await left.request(call(), *[b""] * 65_537)
        assert not left.channel._calls
        assert await left.request(call(body=b"next")) == b"next"


# Cancelling a call


@both_drivers
async def test_a_cancelled_call_asks_its_peer_and_waits_for_the_end() -> None:
    async with two_ends() as (_, left, right):
        log: list[str] = []
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def ask() -> None:
                with scope:
                    await left.request(call())
                log.append("left")

            group.start_soon(ask)
            await until(lambda: len(right.messages) == 1)
            asked = right.messages[0][0]
            assert isinstance(asked, Call)
            scope.cancel()
            await until(lambda: len(right.messages) == 2)
            assert right.messages[1][0] == Cancel(asked.id)
            await settle()
            assert log == []
            right.channel.post(Cancelled(asked.id))
        assert log == ["left"]
        assert scope.cancelled_caught
        assert left.unconfirmed == []
        assert not left.channel._calls


async def _cancelled_and_answered(answer: type, found: list[object]) -> bool:
    """Cancel a call, and let the peer give it this answer all the same; whether the cancellation came through."""
    async with two_ends() as (_, left, right):
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def ask() -> None:
                with scope:
                    await outcome(found, left, call())

            group.start_soon(ask)
            await until(lambda: right.messages)
            scope.cancel()
            await until(lambda: len(right.messages) == 2)
            if answer is Reply:
                right.channel.post(Reply(1, b"all the same"))
            elif answer is Failed:
                right.channel.post(Failed(1, Failure("KeyError", "while cleaning up")))
            else:
                right.channel.close()
        return scope.cancelled_caught


@both_drivers
async def test_a_cancelled_call_whose_value_comes_all_the_same_is_cancelled() -> None:
    found: list[object] = []
    assert await _cancelled_and_answered(Reply, found)
    assert found == []


@both_drivers
async def test_a_failure_replaces_the_cancellation_that_led_to_it() -> None:
    found: list[object] = []
    assert not await _cancelled_and_answered(Failed, found)
    assert found == [Failed(1, Failure("KeyError", "while cleaning up"))]


@both_drivers
async def test_the_loss_of_the_channel_replaces_a_cancellation_that_waits() -> None:
    found: list[object] = []
    assert not await _cancelled_and_answered(Cancelled, found)
    assert [type(each) for each in found] == [ConnectionLost]


@both_drivers
async def test_a_cancelled_call_is_given_up_when_its_grace_is_over_and_its_late_answer_ignored() -> None:
    async with two_ends(grace=0.0) as (_, left, right):
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                with scope:
                    await left.request(call("slow"))

            group.start_soon(ask)
            await until(lambda: right.messages)
            scope.cancel()
        assert scope.cancelled_caught
        ((given_up, address),) = left.unconfirmed
        assert (given_up.uid, given_up.method, address) == ("slow", "method", "unix:///run/right.sock")
        assert not left.channel._calls
        right.channel.post(Reply(1, b"late"))
        right.answers = True
        assert await left.request(call(body=b"next")) == b"next"


@both_drivers
async def test_a_call_that_is_cancelled_before_it_waits_is_withdrawn_too() -> None:
    async with two_ends() as (_, left, right):
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def ask() -> None:
                with scope:
                    scope.cancel()
                    await left.request(call())

            group.start_soon(ask)
            await until(lambda: len(right.messages) == 2)
            assert [type(message) for message, _ in right.messages] == [Call, Cancel]
            right.channel.post(Cancelled(1))
        assert scope.cancelled_caught


@both_drivers
async def test_a_cancellation_does_not_overtake_its_large_call() -> None:
    async with two_ends(NARROW) as (_, left, right):
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def ask() -> None:
                with scope:
                    await left.request(call("one", bytes(4 * MIB)))

            group.start_soon(ask)
            await anyio.lowlevel.checkpoint()
            scope.cancel()
            await until(lambda: len(right.messages) == 2)
            assert [type(message) for message, _ in right.messages] == [Call, Cancel]
            right.channel.post(Cancelled(1))
        assert scope.cancelled_caught


@both_drivers
async def test_cancelling_a_hundred_of_two_hundred_calls_leaves_the_others_alone() -> None:
    async with two_ends() as (_, left, right):
        scopes = [anyio.CancelScope() for _ in range(200)]
        found: list[int] = []

        async def ask(number: int) -> None:
            with scopes[number]:
                assert await left.request(call(body=b"%d" % number)) == b"%d" % number
                found.append(number)

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(ask, number)
            await until(lambda: len(right.messages) == 200)
            calls = [message for message, _ in right.messages if isinstance(message, Call)]
            for number in range(0, 200, 2):
                scopes[number].cancel()
            await until(lambda: len(right.messages) == 300)
            withdrawn = {message.id for message, _ in right.messages if isinstance(message, Cancel)}
            for each in calls:
                if each.id in withdrawn:
                    right.channel.post(Cancelled(each.id))
                else:
                    right.channel.reply(each.id, bytes(each.body), ())
        assert sorted(found) == list(range(1, 200, 2))
        assert not left.channel._calls


# Losing the channel


@both_drivers
async def test_each_open_call_fails_with_an_exception_of_its_own_when_the_peer_has_gone() -> None:
    async with one_end() as (_, end, other):
        found: list[object] = []
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(outcome, found, end, call())
            await settle()
            other.close()
        assert {type(each) for each in found} == {ConnectionLost}
        assert len({id(each) for each in found}) == 20
        assert len(end.lost) == 1


@both_drivers
async def test_calls_wait_until_the_owner_knows_why_the_channel_was_lost() -> None:
    async with one_end() as (_, end, other):
        end.fails = False
        found: list[object] = []
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, found, end, call())
            await settle()
            other.close()
            await until(lambda: end.lost)
            group.start_soon(outcome, found, end, call())
            await settle()
            assert found == []
            end.channel.fail(lambda: KeyError("the reason"))
        assert [repr(each) for each in found] == ["KeyError('the reason')"] * 2
        assert len(end.lost) == 1
        with pytest.raises(KeyError, match="the reason"):
            await end.request(call())


@both_drivers
async def test_a_call_on_a_lost_channel_does_not_wait_for_another_channel_of_the_same_number() -> None:
    async with open_loop() as loop:
        one, other = socket.socketpair()
        number = one.fileno()
        end = End(loop, one, hello("end"))
        end.fails = False
        other.close()
        await until(lambda: end.lost)
        again, peer = socket.socketpair()
        assert again.fileno() == number
        second = End(loop, again, hello("second"))
        peer.setblocking(False)
        peer.send(said(hello()))
        await second.channel.wait_greeting()
        found: list[object] = []
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, found, end, call())
            await settle()
            end.channel.fail(lambda: KeyError("the reason"))
        assert [repr(each) for each in found] == ["KeyError('the reason')"]
        assert second.lost == []
        second.channel.close()
        peer.close()


@both_drivers
async def test_what_the_peer_said_before_it_went_is_heard_by_a_writer_who_meets_its_absence() -> None:
    async with one_end() as (_, end, other):
        found: list[object] = []
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, found, end, call())
            group.start_soon(outcome, found, end, call())
            await settle()
            other.send(said(tell(body=b"last words"), Reply(1, b"an answer")))
            other.close()
            for _ in range(3):
                end.channel.post(tell())
                end.channel.flush()
        assert end.bodies == [b"last words"]
        assert len(end.lost) == 1
        assert b"an answer" in found
        assert {type(each) for each in found} == {bytes, ConnectionLost}


@both_drivers
async def test_a_peer_that_went_with_unread_bytes_is_lost_once_after_what_it_said() -> None:
    async with one_end() as (_, end, other):
        end.channel.post(tell(body=b"never read"))
        end.channel.flush()
        other.send(said(tell(body=b"last words")))
        other.close()
        await until(lambda: end.lost)
        await settle()
        assert end.bodies == [b"last words"]
        assert len(end.lost) == 1
        assert end.lost[0] is None or isinstance(end.lost[0], ConnectionLost)


@both_drivers
async def test_a_peer_that_goes_while_much_is_written_to_it_is_lost_once() -> None:
    async with one_end(NARROW) as (_, end, other):
        found: list[object] = []
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(outcome, found, end, call(f"{number}", bytes(MIB)))
            group.start_soon(end.channel.wait_room)
            await settle()
            other.recv(10_000)
            other.close()
        assert len(end.lost) == 1
        assert {type(each) for each in found} == {ConnectionLost}


@both_drivers
async def test_draining_reads_what_has_arrived_and_no_more() -> None:
    async with one_end() as (_, end, other):
        other.send(said(tell(body=b"one"), tell(body=b"two")))
        end.channel.drain()
        assert end.bodies == [b"one", b"two"]
        assert end.lost == []
        other.send(said(tell(body=b"three")))
        other.close()
        end.channel.drain()
        assert end.bodies == [b"one", b"two", b"three"]
        assert end.lost == [None]
        end.channel.drain()
        assert end.lost == [None]


@both_drivers
async def test_closing_from_here_ends_open_calls_and_is_heard_there() -> None:
    async with two_ends() as (_, left, right):
        found: list[object] = []
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, found, left, call())
            await until(lambda: right.messages)
            left.channel.close()
            left.channel.close()
        assert [str(each) for each in found] == ["the connection was closed from here"]
        assert left.lost == [None]
        await until(lambda: right.lost)
        assert right.lost == [None]
        left.channel.post(tell())
        left.channel.flush()
        await settle()


@both_drivers
async def test_a_receiver_may_close_the_channel_that_it_hears_from() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            end = End(loop, one, hello("end"))
            other.send(said(hello()))
            await end.channel.wait_greeting()
            end.channel._receive = lambda channel, _message, _segments: channel.close()
            other.send(said(tell(), tell(), tell()))
            await until(lambda: end.lost)
            await settle()
            assert end.lost == [None]


@both_drivers
async def test_a_greeting_alone_is_what_a_channel_says_by_itself() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            end = End(loop, one, hello("end"))
            reader = Reader(other)
            reader.take()
            assert heard(reader) == [hello("end")]
            assert isinstance(heard(reader)[0], Hello)
            end.channel.close()
