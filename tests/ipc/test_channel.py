from __future__ import annotations

import random

import anyio
import anyio.lowlevel
import pytest

from tests.contract.driving import both_drivers
from tests.ipc.talking import Reader, call, one_end, outcome, said, tell, two_ends
from tests.loop.waiting import settle, until
from xoscar_sc.errors import ConnectionLost, FrameTooLarge
from xoscar_sc.ipc.packing import INLINE
from xoscar_sc.protocol import (
    Call,
    Cancel,
    Cancelled,
    Credit,
    Failed,
    Failure,
    Reply,
    decode,
)

MIB = 1 << 20
NARROW = 4096


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
            await reader.take_until(2)  # that large messages will come, and one
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


# Credits


def credits_heard(end: Reader) -> list[tuple[str, int]]:
    heard = [decode(message) for message, _ in end.found]
    return [(each.uid, each.count) for each in heard if isinstance(each, Credit)]


@both_drivers
async def test_credits_for_tells_go_back_several_at_once_and_the_rest_with_the_actors_end() -> None:
    async with one_end() as (_, end, other):
        reader = Reader(other)
        for _ in range(10):
            end.channel.executed("actor", 16)
        end.channel.executed("small", 1)
        await settle()
        reader.take()
        assert credits_heard(reader) == [("actor", 4), ("actor", 4), ("small", 1)]
        end.channel.forget("actor")
        end.channel.forget("small")
        await settle()
        reader.take()
        assert credits_heard(reader)[3:] == [("actor", 2)]
        assert not end.channel.debts._executed


@both_drivers
async def test_credits_let_the_next_message_go() -> None:
    async with one_end() as (_, end, other):
        windows = end.channel.windows
        assert [windows.take_nowait("actor", 2) for _ in range(3)] == [True, True, False]
        log: list[str] = []

        async def take() -> None:
            await windows.take("actor", 2)
            log.append("taken")

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            await settle()
            assert log == []
            other.send(said(Credit("other", 5), Credit("actor", 1)))
        assert log == ["taken"]


@both_drivers
async def test_a_lost_channel_lets_those_go_who_wait_for_credits() -> None:
    async with one_end() as (_, end, other):
        assert end.channel.windows.take_nowait("actor", 1)
        async with anyio.create_task_group() as group:
            group.start_soon(end.channel.windows.take, "actor", 1)
            await settle()
            other.close()
        assert end.channel.closed
        end.channel.executed("actor", 1)
        end.channel.forget("actor")
