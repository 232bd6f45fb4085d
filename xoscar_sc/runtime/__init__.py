"""One pool: actors, references, messages."""

from __future__ import annotations

from xoscar_sc.runtime.access import (
    CurrentPool,
    actor_ref,
    come_through,
    current_pool,
    destroy_actor,
    find_actor,
    find_through,
    has_actor,
    kill_actor,
    wait_for,
    wait_for_actor,
)
from xoscar_sc.runtime.actor import Actor, Message, StatelessActor, is_actor_class
from xoscar_sc.runtime.asyncio_actor import AsyncioActor, AsyncioStatelessActor
from xoscar_sc.runtime.copying import copy_to
from xoscar_sc.runtime.current import check_library, current_actor, running_runtime, set_running_runtime
from xoscar_sc.runtime.declared import typed
from xoscar_sc.runtime.dialogue import Context
from xoscar_sc.runtime.exposure import name_of as exposed_name
from xoscar_sc.runtime.fanout import Subscription
from xoscar_sc.runtime.fatal import fatal
from xoscar_sc.runtime.gate_settings import GateSettings, OpenGate, check_settings
from xoscar_sc.runtime.gathering import gather, gather_contexts
from xoscar_sc.runtime.generators import Return
from xoscar_sc.runtime.group import ActorGroup, GroupMethod, Route, check_route
from xoscar_sc.runtime.heartbeat import Missing, Pulse, forget_pulse
from xoscar_sc.runtime.infected import infected_runtime
from xoscar_sc.runtime.kept_work import Delivery, check_snapshot, current_delivery
from xoscar_sc.runtime.links import Link
from xoscar_sc.runtime.mapping import MapStream
from xoscar_sc.runtime.marking import method
from xoscar_sc.runtime.methods import (
    context,
    extensible,
    generator,
    idempotent,
    no_lock,
    talks_of,
    thread,
)
from xoscar_sc.runtime.names import Ending, Found, found_from
from xoscar_sc.runtime.open_context import OpenContext, leave_scope
from xoscar_sc.runtime.peers import died
from xoscar_sc.runtime.place import Listening, Place, Wish
from xoscar_sc.runtime.pool_main import PoolConfig, run_pool
from xoscar_sc.runtime.ref import ActorMethod, ActorRef, Delayed, Target
from xoscar_sc.runtime.runtime import Runtime
from xoscar_sc.runtime.sharing import shared_context
from xoscar_sc.runtime.stream import Stream
from xoscar_sc.runtime.streams import ResultStream
from xoscar_sc.runtime.targets import BufferRef, FileObjectRef, buffer_ref, file_object_ref
from xoscar_sc.runtime.telling import TellMethod
from xoscar_sc.runtime.traits import BOUND, FIRST_CHILD, Overflow, Traits, traits_of

__all__ = [
    "BOUND",
    "FIRST_CHILD",
    "Actor",
    "ActorGroup",
    "ActorMethod",
    "ActorRef",
    "AsyncioActor",
    "AsyncioStatelessActor",
    "BufferRef",
    "Context",
    "CurrentPool",
    "Delayed",
    "Delivery",
    "Ending",
    "FileObjectRef",
    "Found",
    "GateSettings",
    "GroupMethod",
    "Link",
    "Listening",
    "MapStream",
    "Message",
    "Missing",
    "OpenContext",
    "OpenGate",
    "Overflow",
    "Place",
    "PoolConfig",
    "Pulse",
    "ResultStream",
    "Return",
    "Route",
    "Runtime",
    "StatelessActor",
    "Stream",
    "Subscription",
    "Target",
    "TellMethod",
    "Traits",
    "Wish",
    "actor_ref",
    "buffer_ref",
    "check_library",
    "check_route",
    "check_settings",
    "check_snapshot",
    "come_through",
    "context",
    "copy_to",
    "current_actor",
    "current_delivery",
    "current_pool",
    "destroy_actor",
    "died",
    "exposed_name",
    "extensible",
    "fatal",
    "file_object_ref",
    "find_actor",
    "find_through",
    "forget_pulse",
    "found_from",
    "gather",
    "gather_contexts",
    "generator",
    "has_actor",
    "idempotent",
    "infected_runtime",
    "is_actor_class",
    "kill_actor",
    "leave_scope",
    "method",
    "no_lock",
    "run_pool",
    "running_runtime",
    "set_running_runtime",
    "shared_context",
    "talks_of",
    "thread",
    "traits_of",
    "typed",
    "wait_for",
    "wait_for_actor",
]
