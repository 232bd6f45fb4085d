"""Children that are ended at random, and many who call them: nothing hangs or runs twice, and all come back."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, count
from tests.contract.homes import seeded
from tests.contract.supervised import phases, until

SECONDS = count("XSC_CHAOS_SECONDS", 3)


class Worker(xsc.Actor):
    """Writes down what it has executed."""

    def __init__(self, directory: str) -> None:
        self.file = Path(directory) / "executed"

    async def work(self, name: str) -> str:
        with self.file.open("a") as file:
            file.write(f"{name}\n")
        await anyio.sleep(0.001)
        return name

    def raises(self) -> None:
        raise ValueError("chaos")

    def pid(self) -> int:
        return os.getpid()


class Caller(xsc.Actor):
    """Calls at random, and keeps what became of each call."""

    def __init__(self, workers: list[Any]) -> None:
        self.workers = workers
        self.ends: Counter[str] = Counter()

    @xsc.no_lock
    async def call(self, seed: int, seconds: float) -> dict[str, str]:
        chance = random.Random(seed)
        ends: dict[str, str] = {}
        until = anyio.current_time() + seconds
        while anyio.current_time() < until:
            name = f"{seed}-{len(ends)}"
            worker = chance.choice(self.workers)
            way = chance.choice(["send", "send", "tell"])
            ends[name] = "open"
            try:
                await getattr(worker.work, way)(name)
            except xsc.ActorDied as exc:
                ends[name] = "maybe" if exc.maybe_executed else "not executed"
            except (xsc.ActorUnavailable, xsc.ActorNotExist):  # restarted, or terminated for a moment
                ends[name] = "not executed"
                await anyio.sleep(0.001)
            else:
                ends[name] = "executed" if way == "send" else "told"
        return ends


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@both_drivers
async def test_whatever_ends_every_call_to_a_child_ends_and_none_runs_twice(
    strategy: Any, tmp_path: Path
) -> None:
    with seeded() as seed:
        chance = random.Random(seed)
        results: list[dict[str, str]] = []
        async with xsc.open_supervisor(0, strategy=strategy, intensity=10**6) as sup:
            homes = [await sup.start_pool(name) for name in ("x", "y")]
            workers = [
                await sup.create_actor(
                    Worker,
                    str(tmp_path),
                    pool=homes[number % 2],
                    on_restart=chance.choice(["wait", "wait", "raise"]),
                    queued=chance.choice(["keep", "fail"]),
                )
                for number in range(4)
            ]
            async with xsc.open_pool_nursery(2) as calm:
                callers = [await calm.create_actor(Caller, workers) for _ in range(2)]

                async def call(number: int) -> None:
                    results.append(await callers[number % 2].call(seed + number, SECONDS))

                async with anyio.create_task_group() as group:
                    for number in range(6):
                        group.start_soon(call, number)
                    ends = anyio.current_time() + SECONDS
                    while anyio.current_time() < ends:
                        await anyio.sleep(chance.uniform(0, 0.1))
                        await _end_something(chance, sup, workers)
            await until(lambda: set(phases(sup).values()) == {"up"})
            assert {await worker.work("last") for worker in workers} == {"last"}
        _check(results, (tmp_path / "executed").read_text().split())


async def _end_something(chance: random.Random, sup: xsc.Supervisor, workers: list[Any]) -> None:
    how = chance.choice(["raise", "kill", "sigkill", "restart"])
    worker = chance.choice(workers)
    try:
        if how == "raise":
            await worker.raises.tell()
        elif how == "kill":
            await worker.kill()
        elif how == "restart":
            await sup.terminate_child(worker.uid)
            await sup.restart_child(worker.uid)
        elif (pool := sup.pools.get(chance.choice("xy"))) is not None:
            os.kill(pool.pid, signal.SIGKILL)
    except (
        xsc.ActorError,
        ProcessLookupError,
        ValueError,
    ):  # it was ending already, or is restarted by its siblings
        pass


def _check(results: list[dict[str, str]], executed: list[str]) -> None:
    times = Counter(name for name in executed if name != "last")
    assert [name for name, number in times.items() if number > 1] == [], "none runs twice"
    ends = {name: end for result in results for name, end in result.items()}
    assert set(times) <= set(ends)
    assert "open" not in ends.values()
    assert [name for name, end in ends.items() if end == "executed" and name not in times] == []
    assert [name for name, end in ends.items() if end == "not executed" and name in times] == []
    assert Counter(ends.values())["executed"] > 0
