"""A pool of workers: which of these numbers are prime? The answers come in the order of the questions."""

import math

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


async def main() -> None:
    async with xsc.open_pool_nursery(pools=4) as n:
        testers = await n.create_group(Tester, size=4, route="least_busy")
        answers = [answer async for answer in testers.is_prime.map(NUMBERS)]
    for number, prime in zip(NUMBERS, answers, strict=True):
        print(f"{number} is {'prime' if prime else 'not prime'}")


if __name__ == "__main__":
    trio.run(main)
