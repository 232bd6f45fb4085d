"""A pool of workers: which of these numbers are prime? The answers come in the order of the questions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import trio

import xoscar_sc as xsc

NUMBERS = [
    112272535095293,
    112582705942171,
    112272535095297,
    115280095190773,
    115797848077099,
    1099726899285419,
]


class Tester(xsc.StatelessActor):
    """It keeps nothing between messages, so there is no order to keep either."""

    def is_prime(self, number: int) -> bool:
        if number < 2 or number % 2 == 0:
            return number == 2
        return all(number % divisor for divisor in range(3, math.isqrt(number) + 1, 2))


async def spread(methods: Sequence[Callable[[Any], Any]], items: Sequence[Any]) -> list[Any]:
    """Call one of the methods for each item, each method with one item at a time; the results in order."""
    results: list[Any] = [None] * len(items)
    waiting = iter(enumerate(items))

    async def keep_busy(method: Callable[[Any], Any]) -> None:
        for index, item in waiting:  # whoever is free takes the next one
            results[index] = await method(item)

    async with trio.open_nursery() as tasks:
        for method in methods:
            tasks.start_soon(keep_busy, method)
    return results


async def main() -> None:
    async with xsc.open_pool_nursery(pools=4) as n:
        testers = [await n.create_actor(Tester) for _ in n.pools]
        answers = await spread([tester.is_prime for tester in testers], NUMBERS)
    for number, prime in zip(NUMBERS, answers, strict=True):
        print(f"{number} is {'prime' if prime else 'not prime'}")


if __name__ == "__main__":
    trio.run(main)
