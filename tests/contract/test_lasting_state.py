"""Children whose state outlives them: snapshots and durable tells, under a supervisor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers
from tests.contract.supervised import next_of, restarts, until, until_answers
from xoscar_sc.events import Restarting


class Ledger(xsc.Actor):
    """Writes down what it is told; that is its state."""

    def __init__(self) -> None:
        self.entries: list[int] = []

    def __snapshot__(self) -> list[int]:
        return self.entries

    def __restore__(self, state: list[int]) -> None:
        self.entries = state

    async def add(self, entry: int) -> int:
        self.entries.append(entry)
        return len(self.entries)

    def all(self) -> list[int]:
        return self.entries

    def pid(self) -> int:
        return os.getpid()

    def raises(self) -> None:
        raise ValueError("a tell")

    def dies(self) -> None:
        os._exit(1)

    async def waits(self) -> None:
        await anyio.sleep_forever()


@both_drivers
async def test_a_child_that_is_stopped_with_another_comes_back_with_its_state(tmp_path: Path) -> None:
    async with xsc.open_supervisor(strategy="one_for_all") as sup:
        ledger: Any = await sup.create_actor(Ledger, uid="ledger", snapshot=xsc.Snapshots(tmp_path / "state"))
        other: Any = await sup.create_actor(Ledger, uid="other")
        assert await ledger.add(1) == await other.add(1) == 1
        assert await ledger.add(2) == 2
        await other.kill()
        await until(lambda: restarts(sup) == {"ledger": 1, "other": 1})
        assert await ledger.add(3) == 3
        assert await ledger.all() == [1, 2, 3]
        assert await other.all() == []


@pytest.mark.parametrize("queued", ["keep", "fail"])
@pytest.mark.parametrize("way", ["raises", "dies"])
@both_drivers
async def test_what_was_told_durably_is_done_once_to_the_state_whatever_ends(
    way: str, queued: Any, tmp_path: Path
) -> None:
    async with xsc.open_supervisor(intensity=20) as sup:
        snapshots = xsc.Snapshots(tmp_path / "state", every=3)
        ledger: Any = await sup.create_actor(Ledger, uid="ledger", snapshot=snapshots, queued=queued)
        for number in range(5):
            await ledger.add.tell.durable(2 * number)
            await ledger.waits.tell()
            await ledger.add.tell.durable(2 * number + 1)  # waits, and is in the journal
            if way == "raises":
                await ledger.kill()
            else:
                os.kill(sup.pools[f"pool-{number + 1}"].pid, 9)
                await until(lambda number=number: restarts(sup) == {"ledger": number + 1})
            await until_answers(ledger)
        assert await ledger.all() == list(range(10))


@both_drivers
async def test_a_durable_tell_waits_for_a_child_that_is_restarted(tmp_path: Path) -> None:
    backoff = xsc.Backoff(min=0.2, jitter=0)
    for way in ("raises", "dies"):
        async with xsc.open_supervisor() as sup:
            events = sup.events()
            snapshots = xsc.Snapshots(tmp_path / way)
            ledger: Any = await sup.create_actor(Ledger, uid="ledger", snapshot=snapshots, backoff=backoff)
            await getattr(ledger, way).tell()
            await next_of(events, Restarting)
            await ledger.add.tell.durable(1, id="one")
            await ledger.add.tell.durable(1, id="one")
            assert await ledger.all() == [1]
