"""Exceptions over the wire, and other interpreters to send them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from xoscar_sc.protocol import MAX_FRAME, Failed, Failure, decode, encode
from xoscar_sc.serialize import rebuild, record

ROOT = Path(__file__).parent.parent.parent


def wire(failure: Failure) -> Failure:
    """Send a record over the wire."""
    body = encode(Failed(1, failure))
    assert len(body) <= MAX_FRAME
    message = decode(body)
    assert isinstance(message, Failed)
    return message.failure


def cross(exc: BaseException, where: str = "actor 'a' in pool 'p' (pid 7)") -> BaseException:
    return rebuild(wire(record(exc, where=where)))


def raised(make: Callable[[], object]) -> BaseException:
    try:
        make()
    except BaseException as exc:
        return exc
    raise AssertionError("nothing was raised")


def child(code: str, data: bytes = b"", *argv: str) -> bytes:
    """Run code in another interpreter, and return what it wrote."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *argv],
        input=data,
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
