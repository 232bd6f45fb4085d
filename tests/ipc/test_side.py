"""One side of a dialogue's stream, and what a peer may say that breaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.contract.driving import both_drivers
from tests.ipc.talking import call, one_end, said
from tests.loop.waiting import settle, until
from xoscar_sc.errors import ProtocolError
from xoscar_sc.ipc import ChannelLine, Talk
from xoscar_sc.ipc.side import Side
from xoscar_sc.loop import Loop, open_loop
from xoscar_sc.protocol import AnyMessage, Cancelled, Demand, End, Item, Reply, Started


class Line:
    """The way to nowhere: what was said."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def item(self, value: Any) -> None:
        if value == "bad":
            raise ValueError(value)
        self.said.append(value)

    def demand(self, count: int) -> None:
        self.said.append(("demand", count))

    def end(self, *, reads: bool) -> None:
        self.said.append(("end", reads))


@asynccontextmanager
async def a_side() -> AsyncIterator[tuple[Loop, Side, list[Any]]]:
    async with open_loop() as loop:
        line = Line()
        yield loop, Side(loop, line), line.said


@both_drivers
async def test_half_a_window_that_was_read_is_told_and_more_than_a_window_is_wrong() -> None:
    async with a_side() as (_, side, said):
        with pytest.raises(ProtocolError):
            side.put("too early")
        side.open(4)
        for number in range(4):
            side.put(number)
        with pytest.raises(ProtocolError):
            side.put(4)
        assert [await side.receive(), side.receive_nowait()] == [0, 1]
        assert said == [("demand", 4), ("demand", 2)]
        assert side.receive_nowait() == 2
        side.put(4)
        side.put(5)
        with pytest.raises(ProtocolError):
            side.put(6)


@both_drivers
async def test_a_demand_is_as_large_as_it_likes() -> None:
    async with a_side() as (_, side, said):
        side.demanded(2**63 - 1)
        side.demanded(0)
        side.send_nowait(1)
        assert said == [1]


@both_drivers
async def test_writers_have_their_turns_and_who_fails_or_goes_leaves_his_to_the_next() -> None:
    async with a_side() as (_, side, said):
        refused = []

        async def write(value: Any) -> None:
            try:
                await side.send(value)
            except ValueError:
                refused.append(value)

        async with anyio.create_task_group() as group:
            for value in (1, "bad", 2, 3):
                group.start_soon(write, value)
                await settle()
            side.demanded(1)
            await settle()
            assert said == [1]
            side.demanded(1)
            await settle()
            assert (said, refused) == ([1, 2], ["bad"])
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as others:
                    others.start_soon(write, 4)
                    await settle()
                    side.demanded(1)
                    scope.cancel()
            await settle()
            side.demanded(2)
        assert sorted(said) in ([1, 2, 3], [1, 2, 3, 4])


@both_drivers
async def test_a_message_is_no_readers_if_he_is_cancelled() -> None:
    async with a_side() as (_, side, _):
        side.open(10)
        found = []

        async def read() -> None:
            found.append(await side.receive())

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as first:
                    first.start_soon(read)
                    await settle()
                    group.start_soon(read)
                    await settle()
                    side.put("one")
                    scope.cancel()
            if "one" in found:
                side.put("two")
        assert found[0] == "one"


@both_drivers
async def test_the_end_of_one_direction_and_of_both() -> None:
    async with a_side() as (_, side, said):
        side.open(4)
        side.demanded(5)
        side.put("last")
        side.ended(reads=True)
        side.send_nowait("still")
        assert await side.receive() == "last"
        with pytest.raises(anyio.EndOfStream):
            await side.receive()
        side.ended(reads=False)
        with pytest.raises(anyio.BrokenResourceError):
            await side.send("no")
        side.send_eof()
        side.send_eof()
        side.close()
        side.close()
        assert said == [("demand", 4), "still", ("end", True), ("end", False)]
        with pytest.raises(anyio.ClosedResourceError):
            await side.receive()


@both_drivers
async def test_who_breaks_off_tells_later_and_drops_what_was_on_its_way() -> None:
    async with a_side() as (_, side, said):
        side.open(2)
        side.put(1)
        side.close(broken=True)
        side.put(2)
        assert said == [("demand", 2)]
        side.close()
        assert said == [("demand", 2), ("end", False)]


@both_drivers
async def test_the_end_of_the_dialogue_comes_after_what_has_come_before_it() -> None:
    async with a_side() as (_, side, said):
        side.open(2)
        side.demanded(1)
        side.put(1)
        side.finish(lambda: LookupError("why"))
        side.finish(lambda: None)
        assert await side.receive() == 1
        with pytest.raises(LookupError):
            await side.receive()
        with pytest.raises(LookupError):
            await side.send(1)
        side.close()
        assert said == [("demand", 2)]


@both_drivers
async def test_what_ends_because_of_a_cancel_is_no_end_in_good_order() -> None:
    async with a_side() as (_, side, _):
        side.open(2)
        side.put(1)
        side.withdrawn(lambda: LookupError("cancelled"))
        side.ended(reads=False)
        assert await side.receive() == 1
        with pytest.raises(LookupError):
            await side.receive()
        with pytest.raises(LookupError):
            await side.send(1)
    async with a_side() as (_, side, _):
        side.ended(reads=False)
        side.withdrawn(lambda: LookupError("cancelled"))
        with pytest.raises(anyio.EndOfStream):
            await side.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await side.send(1)


# Peers


NONSENSE: list[AnyMessage] = [
    Item(99, b"x"),
    Item(99, b"x", mine=True),
    Demand(99, 2**63 - 1),
    Demand(99, 1, mine=False),
    End(99, mine=False),
    End(99, mine=True, reads=True),
    Started(99, b"x", b"y"),
]


@both_drivers
async def test_what_is_said_of_calls_that_do_not_exist_or_are_no_dialogues_is_ignored() -> None:
    async with one_end() as (_, end, peer):
        answers: list[object] = []

        async def ask() -> None:
            answers.append(await end.request(call()))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await settle()
            peer.send(said(*NONSENSE))
            ones: list[AnyMessage] = [
                Item(1, b"x"), Demand(1, 1, mine=False), End(1, mine=False), Started(1, b"x"), Reply(1, b"answer"),
            ]  # fmt: skip
            peer.send(said(*ones))
        assert answers == [b"answer"]
        assert not end.lost
        mine = [message for message, _ in end.messages]
        assert mine == [message for message in NONSENSE if getattr(message, "mine", False)]


def open_talk(loop: Loop, end: Any) -> Talk:
    """A dialogue that was opened from here."""
    message = call()
    talk = Talk(
        loop,
        lambda _: ChannelLine(end.channel, message, mine=True, pack=lambda value, _: value),
        lambda answer: answer if isinstance(answer, Exception) else None,
    )
    end.channel.talk(message, (), talk)
    return talk


@both_drivers
async def test_what_was_not_asked_for_closes_the_connection_and_does_nothing_worse() -> None:
    for window in (0, 2):
        async with one_end() as (loop, end, peer):
            talk = open_talk(loop, end)
            other = open_talk(loop, end)
            if window:
                talk.side.open(window)
            peer.send(said(*[Item(1, b"x")] * (window + 1)))
            await other.wait()
            assert isinstance(end.lost[0], ProtocolError)
            assert "sent ahead" in str(end.lost[0])
            assert talk.failure() is not None
            assert not end.channel._calls


@both_drivers
async def test_what_is_said_twice_or_too_late_changes_nothing() -> None:
    async with one_end() as (loop, end, peer):
        talk = open_talk(loop, end)
        peer.send(said(Started(1, b"first"), Started(1, b"second"), End(1, mine=False), End(1, mine=False)))
        assert (await talk.started.wait())[0] == b"first"
        late: list[AnyMessage] = [
            Cancelled(1),
            Reply(1, b""),
            Item(1, b"x"),
            Started(1, b""),
            End(1, mine=False),
        ]
        peer.send(said(*late))
        message, _ = await talk.wait()
        assert isinstance(message, Cancelled)
        second = open_talk(loop, end)
        peer.send(said(Reply(2, b"")))
        await until(lambda: second.filled)
        assert await second.started.wait() is None
        assert not end.lost
