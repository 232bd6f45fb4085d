"""NumPy's arrays of dates and of spans, which do not travel apart by themselves: they export no buffer."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

_MARKS = (b"\x8c\x02M8", b"\x8c\x02m8")
"""How a pickle names the two types."""


def has_dates(body: bytes) -> bool:
    """Whether a pickle is likely to have such arrays in it."""
    return "numpy" in sys.modules and any(mark in body for mark in _MARKS)


def dump_dates(value: object, callback: Callable[[pickle.PickleBuffer], Any]) -> bytes:
    """Pickle ``value``, with such arrays as their numbers."""
    stream = io.BytesIO()
    _pickler()(stream, 5, buffer_callback=callback).dump(value)
    return stream.getvalue()


def as_dates(numbers: Any, kind: str) -> Any:
    """The array of these numbers: what is unpickled."""
    return numbers.view(kind)


@cache
def _pickler() -> type[pickle.Pickler]:
    import numpy

    class Pickler(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            if type(value) is not numpy.ndarray or value.dtype.kind not in "mM":
                return NotImplemented
            if not value.flags.forc or not value.dtype.isnative:
                return NotImplemented
            return as_dates, (value.view("i8"), value.dtype.str)

    return Pickler
