"""Looking for the signs of life of pools, where a supervisor was asked to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from xoscar_sc.events import HeartbeatLost
from xoscar_sc.runtime import Missing, Pulse

if TYPE_CHECKING:
    from xoscar_sc.supervise.pool import Pool
    from xoscar_sc.supervise.supervisor import Supervisor

log = logging.getLogger("xoscar_sc.supervise")


async def watch(sup: Supervisor, pool: Pool, pulse: Pulse) -> None:
    """Look at a pool until it has ended; tell when it shows no sign of life, and kill it if that is wanted."""
    told: Missing | None = None
    try:
        while pool.exit is None:
            with anyio.move_on_after(pulse.pause):
                await pool.wait()
            missing = pulse.missing()
            if missing == told or pool.exit is not None:
                continue
            told = missing
            if missing is not None:
                _lost(sup, pool, HeartbeatLost(pool.name, missing, pulse.state()))
    finally:
        pulse.close()


def _lost(sup: Supervisor, pool: Pool, event: HeartbeatLost) -> None:
    what = "its thread and its loop" if event.missing == "both" else f"its {event.missing}"
    text = "pool %r (pid %d) shows no sign of life: %s, and the process is %s"
    log.warning(text, pool.name, pool.pid, what, event.state, extra={"pool": pool.name, "actor": ""})
    sup.happened(event)
    if sup.supervision.on_heartbeat_lost == "restart":
        pool.give_up()
