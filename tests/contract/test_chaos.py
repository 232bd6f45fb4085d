"""Everything at once: all kinds of messages, while pools are killed and stopped, and actors are ended and made again.

What happens is drawn from a seed, which ``XSC_SEED`` sets; ``XSC_CHAOS_SECONDS`` says for how long.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

import xoscar_sc as xsc
from tests import leaks
from tests.contract.driving import count
from tests.contract.history import (
    History,
    Recorder,
    Sender,
    SendingActor,
    StatelessRecorder,
    note_by_function,
    send_all,
)
from tests.contract.homes import Home, seeded

SECONDS = count("XSC_CHAOS_SECONDS", 15)
RESOLVED = 20.0
"""Seconds from the last disturbance to the end of the last message."""
REST = 60.0
"""Seconds for all that is not the chaos itself."""
WAYS = {
    "send": 6, "tell": 8, "batch": 4, "failing": 1, "cancelled send": 3, "cancelled tell": 2, "cancelled batch": 1,
    "beside": 2, "hand on": 3,
}  # fmt: skip
ODDS = {"destroy": 6, "kill": 6, "kill_pool": 1, "sigkill": 2, "stop": 3}
NARROW = {"mailbox": 10}
ACTORS: list[list[tuple[type[Any], dict[str, Any]]]] = [
    [(Recorder, {}), (Recorder, NARROW)],
    [(Recorder, {}), (StatelessRecorder, {})],
    [(StatelessRecorder, NARROW), (Recorder, NARROW)],
    [(Recorder, {}), (Recorder, {})],
]


@pytest.mark.timeout(SECONDS + RESOLVED + REST + 15)
@pytest.mark.parametrize("driver", ["trio", "asyncio"])
def test_whatever_happens_every_send_ends_nothing_runs_twice_and_nothing_is_left(
    driver: str, tmp_path: Path
) -> None:
    with seeded() as seed:
        anyio.run(run, driver, seed, tmp_path, backend=driver)


async def run(driver: str, seed: int, directory: Path) -> None:
    with anyio.fail_after(SECONDS + RESOLVED + REST):
        async with xsc.open_pool_nursery(pools=1):
            pass  # what is made once and kept is there now
        tasks, before = count_tasks(driver), leaks.look()
        homes = await make_chaos(seed, directory)
        left = leaks.left_behind(before)
        assert not left, f"XSC_SEED={seed}: left behind: {left}"
        assert count_tasks(driver) == tasks, f"XSC_SEED={seed}"
    history = History(directory)
    wrong = history.check(may_be_cut_off=lambda sender: sender.startswith("function"))
    ends, done = history.ends(), sum((home.done for home in homes), Counter())
    print(f"{driver}: {history.ends().total()} messages: {dict(ends)}; {dict(done)}")
    assert not wrong, f"XSC_SEED={seed}: {len(wrong)} of these:\n" + "\n".join(wrong[:20])
    assert [exc for home in homes for exc in home.unexpected] == [], f"XSC_SEED={seed}"
    assert ends["value"], f"XSC_SEED={seed}"


def count_tasks(driver: str) -> int:
    return trio.lowlevel.current_statistics().tasks_living if driver == "trio" else len(asyncio.all_tasks())


async def make_chaos(seed: int, directory: Path) -> list[Home]:
    homes = []
    for number, classes in enumerate(ACTORS):
        actors = {f"recorder-{number}-{each}": one for each, one in enumerate(classes)}
        homes.append(Home(str(number), seed, directory, actors, ODDS, WAYS))
    uids = [uid for home in homes for uid in home.actors]
    until = time.monotonic() + SECONDS
    async with xsc.open_pool_nursery(pools=1) as n, anyio.create_task_group() as group:
        sending = await n.create_actor(SendingActor)
        for home in homes:
            home.uids = uids
            group.start_soon(home.live)
        async with anyio.create_task_group() as senders:
            for number in range(3):
                for name, send in ((f"task-{number}", send_all), (f"actor-{number}", sending.send_all)):
                    senders.start_soon(send, str(directory), name, seed, uids, WAYS, 10**6, until)
            senders.start_soon(run_functions, directory, seed, homes, until)
            await anyio.sleep(SECONDS)
            for home in homes:
                home.calm_down()
            senders.cancel_scope.deadline = anyio.current_time() + RESOLVED
        assert not senders.cancel_scope.cancelled_caught, f"XSC_SEED={seed}: some messages have not ended"
        for home in homes:
            home.close()
    return homes


async def run_functions(directory: Path, seed: int, homes: list[Home], until: float) -> None:
    """Run functions in the pools."""
    sender = Sender(str(directory), "run~", seed, [])
    with sender.writing():
        while time.monotonic() < until:
            await anyio.sleep(0.001)
            pool = sender.chance.choice(homes).pool
            if pool is not None:
                number = next(sender.numbers)
                call = pool.run(note_by_function, str(directory), sender.name, number)
                with anyio.move_on_after(sender.chance.choice([0.002, math.inf])):
                    await sender.note("run", number, call)
