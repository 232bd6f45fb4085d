"""The contract of :class:`xoscar_sc.loop.Loop`, on both loops: waiting for a value that comes through a descriptor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel

from tests.contract.driving import both_drivers
from tests.loop.sockets import empty, fill, pair
from tests.loop.waiting import settle, until
from xoscar_sc.loop import Loop, Slot, open_loop


class Numbers:
    """Reads numbers of one byte from a socket, and fills the slot of each."""

    def __init__(self, loop: Loop, sock: socket.socket, count: int) -> None:
        self.sock = sock
        self.slots = [loop.slot() for _ in range(count)]

    def read(self) -> None:
        try:
            data = self.sock.recv(100)
        except BlockingIOError:
            return
        for number in data:
            self.slots[number].set(number)


async def collect(found: list[object], function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    found.append(await function())


@both_drivers
async def test_everybody_who_waits_on_one_descriptor_gets_his_own_value() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 50)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                for slot in numbers.slots:
                    group.start_soon(collect, found, lambda slot=slot: loop.wait_reading(slot, one.fileno()))
                await settle()
                order = [*range(49, 0, -7), *(n for n in range(50) if n % 7)]
                for number in dict.fromkeys([*order, *range(50)]):
                    other.send(bytes([number]))
                    await until(lambda number=number: number in found)
            loop.unwatch(one.fileno())
    assert sorted(found) == list(range(50))  # type: ignore[type-var]


@both_drivers
async def test_values_that_came_in_one_read_reach_all_who_wait() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 20)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                for slot in numbers.slots:
                    group.start_soon(collect, found, lambda slot=slot: loop.wait_reading(slot, one.fileno()))
                await settle()
                other.send(bytes(reversed(range(20))))
            loop.unwatch(one.fileno())
    assert sorted(found) == list(range(20))  # type: ignore[type-var]


@both_drivers
async def test_when_the_first_to_wait_is_cancelled_the_others_still_get_their_values() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 3)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as scope:

                    async def rest() -> None:
                        await settle()
                        group.start_soon(
                            collect, found, lambda: loop.wait_reading(numbers.slots[1], one.fileno())
                        )
                        await settle()
                        scope.cancel()

                    group.start_soon(rest)
                    await loop.wait_reading(numbers.slots[0], one.fileno())
                assert scope.cancelled_caught
                other.send(b"\1")
                await until(lambda: found)
            # The first value comes after all, while nobody waits; then it can be had.
            other.send(b"\0")
            await until(lambda: numbers.slots[0].filled)
            assert await loop.wait_reading(numbers.slots[0], one.fileno()) == 0
            # And the descriptor can be led anew.
            loop.soon(lambda: other.send(b"\2"))
            assert await loop.wait_reading(numbers.slots[2], one.fileno()) == 2
            loop.unwatch(one.fileno())
    assert found == [1]


@both_drivers
async def test_when_the_first_to_wait_has_his_value_the_others_still_get_theirs() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 2)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                for slot in numbers.slots:
                    group.start_soon(collect, found, lambda slot=slot: loop.wait_reading(slot, one.fileno()))
                    await settle()
                other.send(b"\0")
                await until(lambda: found)
                await settle()
                other.send(b"\1")
            loop.unwatch(one.fileno())
    assert found == [0, 1]


@both_drivers
async def test_unwatching_a_descriptor_keeps_those_who_wait_on_it_waiting() -> None:
    async with open_loop() as loop:
        with pair() as (one, _):
            numbers = Numbers(loop, one, 3)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                for slot in numbers.slots:
                    group.start_soon(collect, found, lambda slot=slot: loop.wait_reading(slot, one.fileno()))
                await settle()
                loop.unwatch(one.fileno())
                one.close()
                await settle()
                assert found == []
                for number, slot in enumerate(numbers.slots):
                    slot.set(number)
    assert sorted(found) == [0, 1, 2]  # type: ignore[type-var]


@both_drivers
async def test_a_callback_that_unwatches_what_is_being_waited_on_does_no_harm() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            slot = loop.slot()

            def readable() -> None:
                loop.unwatch(one.fileno())
                one.close()
                loop.soon(lambda: slot.set("from elsewhere"))

            loop.watch(one.fileno(), readable)
            loop.soon(lambda: other.send(b"x"))
            assert await loop.wait_reading(slot, one.fileno()) == "from elsewhere"


@both_drivers
async def test_waiting_on_a_descriptor_that_is_not_watched_is_waiting_for_the_slot() -> None:
    async with open_loop() as loop:
        slot = loop.slot()
        loop.soon(lambda: slot.set(1))
        assert await loop.wait_reading(slot, -1) == 1
        assert await loop.wait_reading(slot, -1) == 1


@both_drivers
async def test_a_descriptor_that_is_waited_on_can_be_written_to() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 1)
            loop.watch(one.fileno(), numbers.read)
            fill(one)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                group.start_soon(collect, found, lambda: loop.wait_reading(numbers.slots[0], one.fileno()))
                await settle()
                loop.watch_writable(one.fileno(), lambda: found.append("writable"))
                await settle()
                assert found == []
                empty(other)
                await until(lambda: found)
                other.send(b"\0")
            loop.unwatch(one.fileno())
    assert found == ["writable", 0]


@both_drivers
async def test_a_descriptor_number_that_is_used_again_belongs_to_the_new_one() -> None:
    async with open_loop() as loop:
        for number in range(10):
            with pair() as (one, other):
                slot = loop.slot()

                def readable(slot: Slot = slot, one: socket.socket = one, number: int = number) -> None:
                    slot.set((number, one.recv(9)))

                loop.watch(one.fileno(), readable)
                loop.soon(lambda other=other: other.send(b"x"))
                assert await loop.wait_reading(slot, one.fileno()) == (number, b"x")
                loop.unwatch(one.fileno())
