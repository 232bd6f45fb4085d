"""What a nursery's block is left with: pure functions over the exceptions that came together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xoscar_sc.errors import ActorDied, ConnectionLost, PoolDied


def leaves(exc: BaseException) -> Iterable[BaseException]:
    """An exception, or those of a group, down to the last."""
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from leaves(each)
    else:
        yield exc


def is_consequence(exc: BaseException) -> bool:
    """Whether an exception says nothing but that something else has ended."""
    return all(isinstance(each, (ActorDied, PoolDied, ConnectionLost)) for each in leaves(exc))


def combine(
    body: BaseException | None,
    failures: Sequence[BaseException],
    failed_actors: frozenset[str],
    cancelled: type[BaseException],
    *,
    filters_groups: bool,
) -> BaseException | None:
    """The one exception to be raised, or None.

    A single one is itself; several are a group. What only tells of a cause that is there too is left out: the death
    of a pool is told once, however many calls it ended, an actor's failure tells why calls to it ended, and Ctrl-C
    is one interrupt, however often and wherever it was noticed.

    Args:
        body: what came out of the block itself.
        failures: what the nursery's children failed with, in order.
        failed_actors: the uids of those that failed.
        cancelled: what the loop cancels with.
        filters_groups: the loop's scopes find a cancellation in a group too.
    """
    found: list[BaseException] = []
    deaths: set[tuple[str, int]] = set()
    interrupted = False
    for exc in [*([] if body is None else [body]), *failures]:
        if any(exc is other for other in found):
            continue
        if all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(exc)):
            if not interrupted:
                found.append(next(iter(leaves(exc))))
            interrupted = True
            continue
        if isinstance(exc, PoolDied):
            if (exc.pool, exc.pid) in deaths:
                continue
            deaths.add((exc.pool, exc.pid))
        if exc is body and isinstance(exc, ActorDied) and exc.uid in failed_actors:
            continue
        found.append(exc)
    cancellations = [exc for exc in found if isinstance(exc, cancelled)]
    others = [exc for exc in found if not isinstance(exc, cancelled)]
    if cancellations and (filters_groups or not others):
        others = [cancellations[0], *others]
    if len(others) <= 1:
        return others[0] if others else None
    return BaseExceptionGroup("several children of a pool nursery failed", others)
