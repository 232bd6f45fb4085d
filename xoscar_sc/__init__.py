"""Actors in processes, under structured concurrency.

``import xoscar_sc as xsc``. Open a pool nursery, create actors in it, call their methods; when the block has been
left, no process is left.
"""

from __future__ import annotations

from xoscar_sc import errors, events, strategy
from xoscar_sc.errors import *  # noqa: F403
from xoscar_sc.events import Exit
from xoscar_sc.ipc import TLS, Secret
from xoscar_sc.runtime import (
    Actor,
    ActorGroup,
    ActorRef,
    Context,
    CurrentPool,
    Delivery,
    Message,
    ResultStream,
    Return,
    StatelessActor,
    Stream,
    Subscription,
    actor_ref,
    context,
    current_actor,
    current_delivery,
    current_pool,
    destroy_actor,
    extensible,
    find_actor,
    gather_contexts,
    generator,
    has_actor,
    idempotent,
    kill_actor,
    method,
    no_lock,
    shared_context,
    thread,
    wait_for,
    wait_for_actor,
)
from xoscar_sc.state import Snapshots, Store
from xoscar_sc.supervise import (
    Connection,
    Pool,
    PoolNursery,
    PoolSpec,
    PoolTask,
    connect,
    open_actor_cluster,
    open_pool_nursery,
)
from xoscar_sc.timeouts import Timeouts

__all__ = [
    "TLS",
    "Actor",
    "ActorGroup",
    "ActorRef",
    "Connection",
    "Context",
    "CurrentPool",
    "Delivery",
    "Exit",
    "Message",
    "Pool",
    "PoolNursery",
    "PoolSpec",
    "PoolTask",
    "ResultStream",
    "Return",
    "Secret",
    "Snapshots",
    "StatelessActor",
    "Store",
    "Stream",
    "Subscription",
    "Timeouts",
    "actor_ref",
    "connect",
    "context",
    "current_actor",
    "current_delivery",
    "current_pool",
    "destroy_actor",
    "errors",
    "events",
    "extensible",
    "find_actor",
    "gather_contexts",
    "generator",
    "has_actor",
    "idempotent",
    "kill_actor",
    "method",
    "no_lock",
    "open_actor_cluster",
    "open_pool_nursery",
    "shared_context",
    "strategy",
    "thread",
    "wait_for",
    "wait_for_actor",
]
__all__ += errors.__all__
