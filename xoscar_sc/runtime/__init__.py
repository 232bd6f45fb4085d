"""One pool: actors, references, messages."""

from __future__ import annotations

from xoscar_sc.runtime.access import (
    CurrentPool,
    actor_ref,
    current_pool,
    destroy_actor,
    find_actor,
    has_actor,
    kill_actor,
    wait_for_actor,
)
from xoscar_sc.runtime.actor import Actor, StatelessActor, is_actor_class
from xoscar_sc.runtime.current import current_actor, running_runtime, set_running_runtime
from xoscar_sc.runtime.mailbox import BOUND, Capacity, Overflow
from xoscar_sc.runtime.methods import extensible, no_lock, thread
from xoscar_sc.runtime.peers import died
from xoscar_sc.runtime.pool_main import PoolConfig, run_pool
from xoscar_sc.runtime.ref import ActorMethod, ActorRef, Delayed
from xoscar_sc.runtime.runtime import Listening, Place, Runtime
from xoscar_sc.runtime.typed import method

__all__ = [
    "BOUND",
    "Actor",
    "ActorMethod",
    "ActorRef",
    "Capacity",
    "CurrentPool",
    "Delayed",
    "Listening",
    "Overflow",
    "Place",
    "PoolConfig",
    "Runtime",
    "StatelessActor",
    "actor_ref",
    "current_actor",
    "current_pool",
    "destroy_actor",
    "died",
    "extensible",
    "find_actor",
    "has_actor",
    "is_actor_class",
    "kill_actor",
    "method",
    "no_lock",
    "run_pool",
    "running_runtime",
    "set_running_runtime",
    "thread",
    "wait_for_actor",
]
