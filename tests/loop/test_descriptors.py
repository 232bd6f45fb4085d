"""The contract of :class:`xoscar_sc.loop.Loop`, on both loops: descriptors."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.contract.driving import both_drivers
from tests.loop.sockets import empty, fill, pair
from tests.loop.waiting import settle, until
from xoscar_sc.loop import open_loop


@both_drivers
async def test_a_descriptor_calls_as_long_as_there_is_something_to_read() -> None:
    found: list[bytes] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: found.append(one.recv(1)))
            other.send(b"abc")
            await until(lambda: len(found) == 3)
            await settle()
            other.send(b"d")
            await until(lambda: len(found) == 4)
            loop.unwatch(one.fileno())
    assert found == [b"a", b"b", b"c", b"d"]


@both_drivers
async def test_many_descriptors_each_call_their_own() -> None:
    async with open_loop() as loop:
        pairs = [socket.socketpair() for _ in range(50)]
        found: list[tuple[int, bytes]] = []
        for number, (one, _) in enumerate(pairs):
            loop.watch(one.fileno(), lambda number=number, one=one: found.append((number, one.recv(9))))
        for number, (_, other) in enumerate(pairs):
            other.send(b"%d" % number)
        await until(lambda: len(found) == 50)
        for one, other in pairs:
            loop.unwatch(one.fileno())
            one.close()
            other.close()
    assert sorted(found) == [(number, b"%d" % number) for number in range(50)]


@both_drivers
async def test_an_unwatched_descriptor_calls_no_more_and_can_be_unwatched_again() -> None:
    found: list[bytes] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: found.append(one.recv(1)))
            loop.unwatch(one.fileno())
            other.send(b"x")
            await settle()
            assert found == []
            loop.unwatch(one.fileno())
            loop.watch(one.fileno(), lambda: found.append(one.recv(1)))
            await until(lambda: found)
            loop.unwatch(one.fileno())
    assert found == [b"x"]


@both_drivers
async def test_a_callback_may_unwatch_itself_and_others_that_are_ready() -> None:
    calls: list[str] = []
    async with open_loop() as loop:
        with pair() as (one, other), pair() as (third, fourth):

            def call(name: str) -> None:
                calls.append(name)
                loop.unwatch(one.fileno())
                loop.unwatch(third.fileno())

            loop.watch(one.fileno(), lambda: call("first"))
            loop.watch(third.fileno(), lambda: call("second"))
            other.send(b"x")
            fourth.send(b"x")
            await settle()
    assert len(calls) == 1


@both_drivers
async def test_unwatching_is_heard_in_the_pass_in_which_bytes_come_in() -> None:
    async with open_loop() as loop:
        for number in range(40):
            with pair() as (one, other):
                found: list[bytes] = []
                loop.watch(one.fileno(), lambda one=one, found=found: found.append(one.recv(9)))
                other.send(b"x")  # from now on it is the only one that is ready
                await until(lambda found=found: found)
                await settle()
                other.send(b"x")
                for _ in range(number % 4):
                    await anyio.lowlevel.checkpoint()
                loop.unwatch(one.fileno())
                heard = len(found)
                await settle()
                assert len(found) == heard


@both_drivers
async def test_a_descriptor_that_takes_bytes_again_calls_once() -> None:
    calls: list[str] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: calls.append("readable"))
            fill(one)
            loop.watch_writable(one.fileno(), lambda: calls.append("writable"))
            await settle()
            assert calls == []
            empty(other)
            await until(lambda: calls)
            await settle()
            assert calls == ["writable"]
            loop.watch_writable(one.fileno(), lambda: calls.append("again"))
            await until(lambda: len(calls) == 2)
            loop.unwatch(one.fileno())
    assert calls == ["writable", "again"]


@both_drivers
async def test_a_writable_callback_may_ask_for_the_next_one() -> None:
    calls: list[int] = []
    async with open_loop() as loop:
        with pair() as (one, _):

            def writable() -> None:
                calls.append(len(calls))
                if len(calls) < 5:
                    loop.watch_writable(one.fileno(), writable)

            loop.watch(one.fileno(), lambda: None)
            loop.watch_writable(one.fileno(), writable)
            await settle()
            loop.unwatch(one.fileno())
    assert calls == [0, 1, 2, 3, 4]


@both_drivers
async def test_unwatching_forgets_the_wish_to_write() -> None:
    calls: list[str] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: None)
            fill(one)
            loop.watch_writable(one.fileno(), lambda: calls.append("writable"))
            loop.unwatch(one.fileno())
            empty(other)
            await settle()
    assert calls == []


@both_drivers
async def test_the_end_of_the_file_is_something_to_read() -> None:
    found: list[bytes] = []
    async with open_loop() as loop:
        with pair() as (one, other):

            def readable() -> None:
                found.append(one.recv(9))
                loop.unwatch(one.fileno())

            loop.watch(one.fileno(), readable)
            other.close()
            await until(lambda: found)
    assert found == [b""]


@pytest.fixture(scope="module")
def uvloop() -> Any:
    """The library; with its first loop it opens a pipe, once for each process."""
    library = pytest.importorskip("uvloop")
    library.run(anyio.lowlevel.checkpoint())
    return library


def test_uvloop_calls_until_the_end_of_a_connection_that_was_reset(uvloop: Any) -> None:
    found: list[object] = []

    async def main() -> None:
        async with open_loop() as loop:
            with pair() as (one, other):

                def readable() -> None:
                    try:
                        found.append(one.recv(3))
                    except ConnectionResetError as exc:
                        found.append(type(exc))
                        loop.unwatch(one.fileno())

                loop.watch(one.fileno(), readable)
                one.send(b"never read")
                other.send(b"two reads")
                other.close()
                with anyio.fail_after(20):
                    await until(lambda: ConnectionResetError in found)
                    await settle()

    uvloop.run(main())
    assert found == [b"two", b" re", b"ads", ConnectionResetError]
