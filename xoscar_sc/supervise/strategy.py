"""Who is restarted with whom: one function for each strategy. Pure: names in, steps out.

``order`` are the children in the order in which they were started, ``failed`` those of them that have ended and are to
come back. The steps stop from right to left, and start from left to right.

Source: OTP's strategies. A new one is a function here, and a row in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple, TypeAlias

RestartStrategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]


class Stop(NamedTuple):
    """End a child that runs."""

    child: str


class Start(NamedTuple):
    """Start a child that does not run."""

    child: str


Step: TypeAlias = Stop | Start


def one_for_one(order: Sequence[str], failed: Collection[str]) -> list[Step]:
    """Those that have failed, and nobody else."""
    return [Start(child) for child in order if child in failed]


def one_for_all(order: Sequence[str], failed: Collection[str]) -> list[Step]:
    """All of them."""
    return _around(order, failed) if any(child in failed for child in order) else []


def rest_for_one(order: Sequence[str], failed: Collection[str]) -> list[Step]:
    """The first that has failed, and all that were started after it."""
    first = next((at for at, child in enumerate(order) if child in failed), len(order))
    return _around(order[first:], failed)


def _around(those: Sequence[str], failed: Collection[str]) -> list[Step]:
    stops: list[Step] = [Stop(child) for child in reversed(those) if child not in failed]
    return [*stops, *(Start(child) for child in those)]


STRATEGIES: dict[str, Callable[[Sequence[str], Collection[str]], list[Step]]] = {
    "one_for_one": one_for_one,
    "one_for_all": one_for_all,
    "rest_for_one": rest_for_one,
}
