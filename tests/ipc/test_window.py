from __future__ import annotations

import random

import anyio
import anyio.lowlevel

from tests.contract.driving import both_drivers
from tests.loop.waiting import settle, until
from xoscar_sc.ipc.window import Windows
from xoscar_sc.loop import open_loop


async def take(windows: Windows, log: list[str], name: str, uid: str = "actor", size: int = 1) -> None:
    await windows.take(uid, size)
    log.append(name)


@both_drivers
async def test_there_are_as_many_credits_as_the_window_is_large() -> None:
    async with open_loop() as loop:
        windows = Windows(loop)
        assert [windows.take_nowait("actor", 3) for _ in range(5)] == [True, True, True, False, False]
        windows.give("actor", 2)
        assert [windows.take_nowait("actor", 3) for _ in range(3)] == [True, True, False]


@both_drivers
async def test_a_window_with_all_its_credits_is_no_entry() -> None:
    async with open_loop() as loop:
        windows = Windows(loop)
        for _ in range(1000):
            await windows.take("actor", 2)
            await windows.take("other", 2)
            windows.give("actor")
            windows.give("other")
        assert len(windows) == 0


@both_drivers
async def test_who_waits_gets_credits_first_come_first_served() -> None:
    async with open_loop() as loop:
        windows, log = Windows(loop), []
        assert windows.take_nowait("actor", 1)
        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(take, windows, log, name)
                await settle()
            for count in (1, 2, 3):
                assert not windows.take_nowait("actor", 1)
                windows.give("actor")
                # Nobody gets in between, even before he who waited has woken up.
                assert not windows.take_nowait("actor", 1)
                await until(lambda count=count: len(log) == count)
                await settle()
                assert log == list("abc"[:count])
        windows.give("actor")
        assert len(windows) == 0


@both_drivers
async def test_several_credits_at_once_wake_as_many() -> None:
    async with open_loop() as loop:
        windows, log = Windows(loop), []
        for _ in range(3):
            assert windows.take_nowait("actor", 3)
        async with anyio.create_task_group() as group:
            for name in "abcde":
                group.start_soon(take, windows, log, name)
                await settle()
            windows.give("actor", 3)
            await settle()
            assert sorted(log) == list("abc")
            windows.give("actor", 2)
        assert sorted(log) == list("abcde")
        windows.give("actor", 3)
        assert len(windows) == 0


@both_drivers
async def test_windows_of_different_actors_do_not_touch() -> None:
    async with open_loop() as loop:
        windows, log = Windows(loop), []
        assert windows.take_nowait("slow", 1)
        async with anyio.create_task_group() as group:
            group.start_soon(take, windows, log, "slow", "slow")
            await settle()
            assert windows.take_nowait("fast", 1)
            await take(windows, log, "fast", "faster")
            assert log == ["fast"]
            windows.give("slow")
        assert log == ["fast", "slow"]
        assert len(windows) == 3


@both_drivers
async def test_a_wait_that_was_given_up_took_nothing() -> None:
    async with open_loop() as loop:
        windows, log = Windows(loop), []
        assert windows.take_nowait("actor", 1)
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:

                async def give_up() -> None:
                    await settle()
                    group.start_soon(take, windows, log, "second")
                    await settle()
                    scope.cancel()

                group.start_soon(give_up)
                await windows.take("actor", 1)
            assert scope.cancelled_caught
            windows.give("actor")
        assert log == ["second"]
        windows.give("actor")
        assert len(windows) == 0


@both_drivers
async def test_a_credit_that_comes_with_the_cancellation_is_taken_or_goes_to_the_next() -> None:
    async with open_loop() as loop:
        for _ in range(20):  # who is first within a pass, trio draws
            windows, log = Windows(loop), []
            assert windows.take_nowait("actor", 1)
            async with anyio.create_task_group() as group:
                scope = anyio.CancelScope()

                async def first(
                    windows: Windows = windows, log: list[str] = log, scope: anyio.CancelScope = scope
                ) -> None:
                    with scope:
                        await take(windows, log, "first")

                group.start_soon(first)
                await settle()
                group.start_soon(take, windows, log, "second")
                await settle()
                windows.give("actor")
                scope.cancel()
                await settle()
                if log == ["first"]:
                    windows.give("actor")
            assert log in (["first", "second"], ["second"])
            windows.give("actor")
            assert len(windows) == 0


@both_drivers
async def test_more_credits_than_were_taken_make_no_more_room() -> None:
    async with open_loop() as loop:
        windows = Windows(loop)
        windows.give("nobody", 5)
        assert len(windows) == 0
        assert windows.take_nowait("actor", 2)
        windows.give("actor", 100)
        assert len(windows) == 0
        assert [windows.take_nowait("actor", 2) for _ in range(3)] == [True, True, False]


@both_drivers
async def test_closing_lets_all_go_that_wait() -> None:
    async with open_loop() as loop:
        windows, log = Windows(loop), []
        assert windows.take_nowait("one", 1)
        assert windows.take_nowait("other", 1)
        async with anyio.create_task_group() as group:
            for name in ("one", "one", "other"):
                group.start_soon(take, windows, log, name, name)
            await settle()
            assert log == []
            windows.close()
        assert sorted(log) == ["one", "one", "other"]
        assert len(windows) == 0
        windows.give("one", 2)
        windows.close()
        assert len(windows) == 0


@both_drivers
async def test_whatever_happens_no_more_credits_are_out_than_there_are() -> None:
    draw = random.Random(7)
    async with open_loop() as loop:
        windows = Windows(loop)
        out = 0
        most = 0

        async def user() -> None:
            nonlocal out, most
            with anyio.CancelScope() as scope:
                if draw.random() < 0.3:
                    scopes.append(scope)
                await windows.take("actor", 5)
                out += 1
                most = max(most, out)
                try:
                    for _ in range(draw.randrange(5)):
                        await anyio.lowlevel.checkpoint()
                finally:
                    out -= 1
                    windows.give("actor")

        scopes: list[anyio.CancelScope] = []
        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(user)
                if draw.random() < 0.5:
                    await anyio.lowlevel.checkpoint()
                if scopes and draw.random() < 0.3:
                    scopes.pop(draw.randrange(len(scopes))).cancel()
        assert most == 5
        assert out == 0
        assert len(windows) == 0
