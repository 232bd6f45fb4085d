"""How long a child that keeps failing waits before it is started again. Pure: neither clock nor randomness."""

from __future__ import annotations

from dataclasses import dataclass

from xoscar_sc.supervise.spec import check_seconds


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow from one restart of a child to the next.

    Raises:
        TypeError, ValueError: what is wrong with it.
    """

    min: float = 0.1
    """Seconds before the first restart."""
    max: float = 30.0
    """Seconds that no wait exceeds, jitter included."""
    factor: float = 2.0
    """Each wait is so many times the one before."""
    jitter: float = 0.1
    """Each wait is longer by a random part of itself, up to this one: children that fail together come back apart."""
    reset: float = 10.0
    """A child that has run for so many seconds begins again with the first wait."""

    def __post_init__(self) -> None:
        for name in ("min", "max", "factor", "jitter", "reset"):
            check_seconds(getattr(self, name), name)
        if self.max < self.min:
            raise ValueError(f"max= is {self.max!r}, which is less than min={self.min!r}")
        if self.factor < 1:
            raise ValueError(f"factor= is {self.factor!r}; it is 1 or more")

    def delay(self, failures: int, drawn: float) -> float:
        """Seconds to wait before a restart.

        Args:
            failures: how often the child has failed in a row, this time included.
            drawn: a random number from 0 to 1.
        """
        if not self.min:
            return 0.0
        wait = self.min
        for _ in range(failures - 1):  # not a power, which may exceed what a float holds
            if wait >= self.max:
                break
            wait *= self.factor
        return min(wait * (1 + self.jitter * drawn), self.max)


_UNTOLD = Backoff(min=0.05, max=5.0, reset=0.0)


def delay(backoff: Backoff | None, failures: int, drawn: float) -> float:
    """Seconds to wait before a restart; without ``backoff`` none, but from 0.05 to 5 while no start succeeds."""
    if backoff is not None:
        return backoff.delay(failures, drawn)
    return 0.0 if failures <= 1 else _UNTOLD.delay(failures - 1, drawn)


def in_a_row(backoff: Backoff | None, failures: int, ran: float | None) -> int:
    """How often a child has failed in a row, this time included.

    Args:
        backoff: as it was given.
        failures: how often it had, up to its last start.
        ran: for how many seconds it has run since then; None if it could not be started.
    """
    return 1 if ran is not None and ran >= (backoff or _UNTOLD).reset else failures + 1
