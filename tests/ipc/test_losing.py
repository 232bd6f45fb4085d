from __future__ import annotations

import socket

import anyio
import anyio.lowlevel
import pytest

from tests.contract.driving import both_drivers
from tests.ipc.talking import End, call, hello, one_end, outcome, pair, said, tell, two_ends
from tests.loop.waiting import settle, until
from xoscar_sc.errors import ConnectionLost
from xoscar_sc.loop import open_loop
from xoscar_sc.protocol import (
    Reply,
)

MIB = 1 << 20
NARROW = 4096


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
        # On trio, who waits for a channel's answer reads it himself, if no worker happens to do so: keep them busy.
        third, fourth = socket.socketpair()
        loop.watch(third.fileno(), lambda: third.recv(9))
        fourth.send(b"x")
        await settle()
        peer.send(said(tell()))
        await settle()
        found: list[object] = []
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, found, end, call())
            await settle()
            end.channel.fail(lambda: KeyError("the reason"))
        assert [repr(each) for each in found] == ["KeyError('the reason')"]
        assert second.lost == []
        second.channel.close()
        peer.close()
        loop.unwatch(third.fileno())
        third.close()
        fourth.close()


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
