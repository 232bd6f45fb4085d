"""Programs that are killed at any moment, again and again: what they were told durably is there, once, in order.

What happens is drawn from a seed, which ``XSC_SEED`` sets; ``XSC_STATE_ROUNDS`` says how often.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import leaks
from tests.contract.driving import Program, count, program
from tests.contract.homes import seeded

ROUNDS = count("XSC_STATE_ROUNDS", 6)
TELLERS = 3
SOURCE = """
import json, os, sys
import trio
import xoscar_sc as xsc

path, acks, every, fsync, last = sys.argv[1:]


class Ledger(xsc.Actor):
    def __init__(self):
        self.entries = []

    async def __snapshot__(self):
        await trio.lowlevel.checkpoint()
        return self.entries

    def __restore__(self, state):
        self.entries = state

    async def add(self, teller, number):
        if number % 7 == 0:
            await trio.lowlevel.checkpoint()
        self.entries.append((teller, number))

    def plain(self):
        pass

    def read(self):
        return self.entries


async def tell(ref, teller, number, file):
    for again in range(max(1, number - 2), number):  # what may have been told already
        await ref.add.tell.durable(teller, again, id=f"{teller}-{again}")
    while True:
        await ref.add.tell.durable(teller, number, id=f"{teller}-{number}")
        os.write(file, f"{teller} {number}\\n".encode())
        number += 1
        if number % 5 == 0:
            await ref.plain()


async def main():
    async with xsc.open_pool_nursery(pools=1) as n:
        (pool,) = n.pools.values()
        keep = xsc.Snapshots(path, every=int(every), every_seconds=0.01, fsync=fsync)
        ref = await n.create_actor(Ledger, uid="ledger", snapshot=keep)
        entries = await ref.read()
        print(json.dumps([pool.pid, entries]), flush=True)
        if last == "no":
            file = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            for teller in range(3):
                number = max((number for who, number in entries if who == teller), default=0)
                n_soon.start_soon(tell, ref, teller, number + 1, file)
            await trio.sleep_forever()


async def run():
    global n_soon
    async with trio.open_nursery() as n_soon:
        await main()


trio.run(run)
"""


def acknowledged(acks: Path) -> list[int]:
    """For each teller, the last number that was acknowledged. Ask when nobody tells anything."""
    last = [0] * TELLERS
    for line in acks.read_text().splitlines() if acks.exists() else []:
        teller, number = map(int, line.split())
        last[teller] = number
    return last


def look(running: Program, told: list[int], seed: int) -> tuple[int, list[Any]]:
    """What a program that has just begun says of the state: it is what was acknowledged, and perhaps a little more."""
    pid, entries = json.loads(running.line())
    for teller in range(TELLERS):
        numbers = [number for who, number in entries if who == teller]
        assert numbers == list(range(1, len(numbers) + 1)), f"XSC_SEED={seed}: {numbers}"
        assert told[teller] <= len(numbers), (
            f"XSC_SEED={seed}: {told[teller]} were acknowledged, {len(numbers)} are there"
        )
    return pid, entries


@pytest.fixture
def sockets() -> Iterator[dict[str, str]]:
    """A runtime directory, which killed programs may leave as it is; its path is short, since it is one of sockets."""
    directory = tempfile.mkdtemp(prefix="xsc-", dir="/tmp")
    yield {leaks.RUNTIME_DIR: directory}
    shutil.rmtree(directory)


@pytest.mark.timeout(60 + 4 * ROUNDS)
@pytest.mark.parametrize(("every", "fsync"), [(4, "never"), (1000, "snapshot")])
def test_whenever_it_is_killed_what_was_acknowledged_is_there_once_and_in_order(
    tmp_path: Path, sockets: dict[str, str], every: int, fsync: str
) -> None:
    with seeded() as seed:
        chance = random.Random(seed)
        acks = tmp_path / "acks"
        arguments = [str(tmp_path / "state.db"), str(acks), str(every), fsync]
        for _ in range(ROUNDS):
            told = acknowledged(acks)
            with program(tmp_path, SOURCE, *arguments, "no", env=sockets) as running:
                how = chance.choice(["early", "program", "program", "pool", "both"])
                if how == "early":
                    time.sleep(chance.uniform(0.2, 0.8))
                    running.signal(signal.SIGKILL)
                    running.wait()
                    continue
                pid, _ = look(running, told, seed)
                time.sleep(chance.uniform(0, 0.2))
                if how != "program":
                    os.kill(pid, signal.SIGKILL)
                if how != "pool":
                    running.signal(signal.SIGKILL)
                running.wait()
        told = acknowledged(acks)
        with program(tmp_path, SOURCE, *arguments, "yes", env=sockets) as running:
            _, entries = look(running, told, seed)
            assert running.wait() == 0, running.stderr
        print(f"{len(entries)} entries")
