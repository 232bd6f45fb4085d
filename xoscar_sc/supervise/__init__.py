"""Pools and their nurseries: who owns what, in which order things end, where errors go."""

from __future__ import annotations

from xoscar_sc.supervise.backoff import Backoff
from xoscar_sc.supervise.child import ChildInfo
from xoscar_sc.supervise.children import Supervision
from xoscar_sc.supervise.cluster import open_actor_cluster
from xoscar_sc.supervise.connecting import Connection, connect
from xoscar_sc.supervise.listeners import EventStream
from xoscar_sc.supervise.looking import ChildCounts
from xoscar_sc.supervise.nursery import PoolNursery
from xoscar_sc.supervise.opening import open_pool_nursery, open_supervisor
from xoscar_sc.supervise.pool import Pool
from xoscar_sc.supervise.spec import PoolSpec
from xoscar_sc.supervise.supervisor import Supervisor
from xoscar_sc.supervise.tasks import PoolTask

__all__ = [
    "Backoff",
    "ChildCounts",
    "ChildInfo",
    "Connection",
    "EventStream",
    "Pool",
    "PoolNursery",
    "PoolSpec",
    "PoolTask",
    "Supervision",
    "Supervisor",
    "connect",
    "open_actor_cluster",
    "open_pool_nursery",
    "open_supervisor",
]
