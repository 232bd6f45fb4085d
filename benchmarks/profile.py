"""Where the time of a call goes: ``python -m benchmarks profile [driver|pool] [--callers N] [--tells]``."""

from __future__ import annotations

import cProfile

import trio

import xoscar_sc as xsc
from benchmarks.actors import Echo, Profiler, report
from benchmarks.common import PAYLOAD

CALLS = 5000
LINES = 40


async def _some(echo: xsc.ActorRef[Echo], callers: int, *, tells: bool) -> None:
    async def caller() -> None:
        for _ in range(CALLS // callers):
            if tells:
                await echo.plain.tell(PAYLOAD)
            else:
                await echo.plain(PAYLOAD)

    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(caller)
    await echo.plain(PAYLOAD)


async def _profile(side: str, callers: int, *, tells: bool) -> str:
    async with xsc.open_pool_nursery(pools=1) as pools:
        echo = await pools.create_actor(Echo)
        profiler = await pools.create_actor(Profiler)
        await _some(echo, callers, tells=tells)
        if side == "pool":
            await profiler.begin()
            await _some(echo, callers, tells=tells)
            text: str = await profiler.end(LINES)
            return text
        profile = cProfile.Profile()
        profile.enable()
        await _some(echo, callers, tells=tells)
        profile.disable()
        return report(profile, LINES)


def profile_calls(side: str, callers: int, *, tells: bool) -> str:
    """The profile of 5000 calls, of the caller's side or the pool's."""

    async def main() -> str:
        return await _profile(side, callers, tells=tells)

    return trio.run(main)
