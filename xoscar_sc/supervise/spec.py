"""What a nursery's callers give, checked where they gave it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from xoscar_sc.ipc import Auth, tcp
from xoscar_sc.protocol import TcpAddress
from xoscar_sc.runtime import GateSettings, Overflow, check_settings


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool of a nursery.

    Raises:
        TypeError, ValueError: what is wrong with it.
    """

    name: str | None = None
    """Unique in the nursery; made up if it is None."""
    label: str | Sequence[str] | None = None
    """What a strategy may look for."""
    cpus: Sequence[int] | None = None
    """The CPUs that the process may run on; None for all that this one may."""
    env: Mapping[str, str] | None = None
    """Environment variables, on top of this process's."""
    door: GateSettings | None = None
    """Where other programs come in, to this pool itself; see :meth:`PoolNursery.start_pool`."""
    asyncio: bool = False
    """Its trio runs as a guest on an asyncio loop: asyncio code may run there; see :mod:`xoscar_sc.to_asyncio`."""
    uvloop: bool = False
    """That loop is one of uvloop's."""

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name, "name")
        check_env(self.env)
        if self.uvloop and not self.asyncio:
            raise ValueError("uvloop=True goes with asyncio=True")
        if self.cpus is not None:
            check_cpus(self.cpus)
        given: object = self.label
        if not (given is None or isinstance(given, (str, Sequence))) or any(
            not isinstance(label, str) for label in self.labels
        ):
            raise TypeError(f"label= is {self.label!r}; it is a text, or a sequence of them")

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, as a tuple."""
        if self.label is None:
            return ()
        return (self.label,) if isinstance(self.label, str) else tuple(self.label)


def door(
    address: str | None,
    *,
    advertise: str | None = None,
    auth: Auth | None = None,
    expose: Sequence[Any] | None = None,
    pickle: bool = True,
    makes_actors: bool = True,
) -> GateSettings | None:
    """What a door for other programs is opened with; None if there is to be none.

    Raises:
        TypeError, ValueError: what is wrong with it.
        AuthenticationError: others than this host could come, and nothing says who may.
    """
    if address is None:
        if advertise is not None or auth is not None or expose is not None or not pickle:
            raise ValueError(
                "advertise=, auth=, expose= and pickle= say how others come in at address=, which is missing"
            )
        return None
    if isinstance(expose, str):
        raise TypeError(f"expose= is {expose!r}; it is a list: [{expose!r}]")
    settings = GateSettings(address, advertise, auth, None if expose is None else tuple(expose), pickle)
    exposed = check_settings(settings)
    if exposed.classes and not makes_actors:
        raise ValueError("expose= has actor classes: actors are made at the door of a nursery, not of a pool")
    return settings


def same_port(address: str, opened: str) -> str:
    """Where to open a door again: where it was wanted, at the port that it has got, which its clients know."""
    return str(TcpAddress(tcp.parse(address).host, tcp.parse(opened).port))


def check_name(name: object, what: str) -> None:
    """A name is a text of 1 to 200 characters that can be printed."""
    if not isinstance(name, str):
        raise TypeError(f"{what}= is {name!r}; it is a text")
    if not (0 < len(name) <= 200 and name.isprintable()):
        raise ValueError(f"{what}= is {name[:40]!r}; it has 1 to 200 characters, all printable")


def check_env(env: object) -> None:
    """An environment maps text to text."""
    if env is None:
        return
    if not isinstance(env, Mapping):
        raise TypeError(f"env= is {type(env).__name__}; it is a mapping of texts to texts")
    for key, value in env.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"env= has {key!r}: {value!r}; both are texts")
        if not key or "=" in key or "\0" in key + value:
            raise ValueError(f"env= has {key!r}, which cannot be an environment variable")


def check_cpus(cpus: object) -> None:
    """CPUs are some of those that this process may run on."""
    if not isinstance(cpus, Sequence) or any(type(cpu) is not int for cpu in cpus):
        raise TypeError(f"cpus= is {cpus!r}; it is a sequence of numbers of CPUs")
    usable = os.sched_getaffinity(0)
    if not cpus or not usable.issuperset(cpus):
        raise ValueError(f"cpus= is {list(cpus)}; this process may run on {sorted(usable)}")


def check_seconds(seconds: object, what: str) -> None:
    """A number of seconds, 0 or more."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what}= is {seconds!r}; it is a number of seconds")
    if not seconds >= 0:
        raise ValueError(f"{what}= is {seconds!r}; it is 0 or more")


def check_mailbox(bound: object, overflow: object) -> None:
    """A mailbox holds at least one message."""
    if isinstance(bound, bool) or not isinstance(bound, int):
        raise TypeError(f"mailbox= is {bound!r}; it is a number of messages")
    if bound < 1:
        raise ValueError(f"mailbox= is {bound}; it is 1 or more")
    if overflow not in get_args(Overflow):
        raise ValueError(f"overflow= is {overflow!r}; it is one of {get_args(Overflow)}")


def check_callable(function: object) -> Callable[..., Any]:
    """A function that can be called."""
    if not callable(function):
        raise TypeError(f"{function!r} is {type(function).__name__}, which cannot be called")
    return function


def pool_specs(pools: object, labels: object) -> list[PoolSpec] | None:
    """The pools that a nursery opens with; None if they start when they are needed."""
    if pools is None:
        if labels is not None:
            raise ValueError("labels= goes with a number of pools")
        return None
    if isinstance(pools, bool) or not isinstance(pools, (int, Sequence)) or isinstance(pools, str):
        raise TypeError(f"pools is {pools!r}; it is a number, a sequence of PoolSpec, or None")
    if not isinstance(pools, int):
        for spec in pools:
            if not isinstance(spec, PoolSpec):
                raise TypeError(f"pools has {spec!r}, which is no PoolSpec")
        if labels is not None:
            raise ValueError("labels= goes with a number of pools; a PoolSpec has its own")
        names = [spec.name for spec in pools if spec.name is not None]
        if len(set(names)) < len(names):
            raise ValueError(f"pools has two pools of one name: {sorted(names)}")
        return list(pools)
    if pools < 0:
        raise ValueError(f"pools is {pools}; it is 0 or more")
    if labels is None:
        return [PoolSpec()] * pools
    if isinstance(labels, str) or not isinstance(labels, Sequence) or len(labels) != pools:
        raise ValueError(f"labels= is {labels!r}; it has one for each of the {pools} pools")
    return [PoolSpec(label=label) for label in labels]
