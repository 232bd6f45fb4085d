"""Durable tells."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import xoscar_sc as xsc
from benchmarks.bare import count_calls
from benchmarks.common import PAYLOAD, Values
from benchmarks.inserts import EVERY, TELLERS


class Kept(xsc.Actor):
    """Counts, and keeps that."""

    def __init__(self) -> None:
        self.count = 0

    def __snapshot__(self) -> int:
        return self.count

    def __restore__(self, state: int) -> None:
        self.count = state

    def add(self, _payload: bytes) -> None:
        self.count += 1


async def tell(pool: Any, fsync: Literal["always", "never"], seconds: float) -> Values:
    """Durable tells in a second: of one teller, and of many at a time."""
    values = Values()
    for tellers in (1, TELLERS):
        with tempfile.TemporaryDirectory() as directory:
            keep = xsc.Snapshots(Path(directory, "state.db"), every=EVERY, keep=1, fsync=fsync)
            kept = await pool.create_actor(Kept, uid="kept", snapshot=keep)
            durable = kept.add.tell.durable
            values[f"durable.{fsync}.{tellers}"] = await count_calls(
                lambda durable=durable: durable(PAYLOAD), tellers, seconds
            )
            await kept.destroy()
    return values
