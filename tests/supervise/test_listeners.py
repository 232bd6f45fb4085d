from __future__ import annotations

import anyio

from tests.contract.driving import both_drivers
from tests.loop.waiting import settle, until
from xoscar_sc.events import Event, PoolStarted
from xoscar_sc.loop import open_loop
from xoscar_sc.supervise.listeners import KEPT, EventStream


def event(number: int) -> Event:
    return PoolStarted(f"pool-{number}", number, "unix:///x")


async def listen(stream: EventStream, found: list[Event]) -> None:
    async for each in stream:
        found.append(each)


@both_drivers
async def test_events_come_in_order_and_end_with_the_nursery() -> None:
    async with open_loop() as loop:
        stream, found = EventStream(loop), list[Event]()
        stream.put(event(0))
        async with anyio.create_task_group() as group:
            group.start_soon(listen, stream, found)
            await until(lambda: len(found) == 1)
            await settle()
            stream.put(event(1))
            stream.put(event(2))
            await until(lambda: len(found) == 3)
            stream.put(event(3))
            stream.end()
        assert found == [event(number) for number in range(4)]


@both_drivers
async def test_what_happened_before_the_end_is_still_heard_after_it() -> None:
    async with open_loop() as loop:
        stream, found = EventStream(loop), list[Event]()
        for number in range(3):
            stream.put(event(number))
        stream.end()
        await listen(stream, found)
        assert found == [event(0), event(1), event(2)]
        await listen(stream, found)
        assert len(found) == 3


@both_drivers
async def test_the_end_wakes_who_listens() -> None:
    async with open_loop() as loop:
        stream, found = EventStream(loop), list[Event]()
        async with anyio.create_task_group() as group:
            group.start_soon(listen, stream, found)
            await settle()
            stream.end()
        assert found == []


@both_drivers
async def test_a_cancelled_wait_loses_no_event() -> None:
    async with open_loop() as loop:
        stream, found = EventStream(loop), list[Event]()
        for number in range(20):
            with anyio.CancelScope() as scope:

                def happens(number: int = number, scope: anyio.CancelScope = scope) -> None:
                    stream.put(event(number))
                    scope.cancel()

                loop.soon(happens)
                found.append(await anext(stream))
                await listen(stream, found)
            assert scope.cancel_called
        stream.end()
        await listen(stream, found)
        assert found == [event(number) for number in range(20)]


@both_drivers
async def test_who_does_not_listen_loses_the_oldest_and_costs_no_more_memory() -> None:
    async with open_loop() as loop:
        stream, found = EventStream(loop), list[Event]()
        for number in range(KEPT + 5):
            stream.put(event(number))
        stream.end()
        await listen(stream, found)
        assert len(found) == KEPT
        assert found[0] == event(5)


@both_drivers
async def test_listeners_each_hear_everything() -> None:
    async with open_loop() as loop:
        streams = [EventStream(loop) for _ in range(3)]
        found: list[list[Event]] = [[], [], []]
        async with anyio.create_task_group() as group:
            for stream, heard in zip(streams, found, strict=True):
                group.start_soon(listen, stream, heard)
            for stream in streams:
                stream.put(event(1))
                stream.end()
        assert found == [[event(1)]] * 3
