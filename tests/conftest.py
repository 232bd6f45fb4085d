"""Every test is watched for what it leaves behind, and stopped if it hangs."""

from __future__ import annotations

import functools
import inspect
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import Any

import pytest
import trio

from tests import leaks

GRACE = 5.0
"""Seconds for a test that hangs to let itself be cancelled."""
CANCEL = pytest.StashKey[Callable[[], None]]()


def pytest_configure() -> None:
    """Mark the processes of this run, and give them a runtime directory of their own."""
    os.environ[leaks.MARK] = secrets.token_hex(8)
    # Directly under /tmp: the path of a unix socket has 107 bytes at most.
    os.environ[leaks.RUNTIME_DIR] = tempfile.mkdtemp(prefix="xsc-", dir="/tmp")


def pytest_unconfigure() -> None:
    """Take the runtime directory away again."""
    shutil.rmtree(os.environ[leaks.RUNTIME_DIR], ignore_errors=True)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a process, a descriptor, a thread, shared memory or a file behind."""
    before = leaks.look()
    yield
    left = leaks.left_behind(before, leaks.PATIENCE)
    if left:
        leaks.kill(left)
        pytest.fail("left behind:\n  " + "\n  ".join(left.values()), pytrace=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make async tests such that they can be cancelled when their time is up."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _cancellable(item, item.obj)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item) -> Generator[None, object, object]:
    """Cancel an async test first; only what does not end by that is interrupted.

    An exception that a signal raises in the middle of trio leaves no event loop for the tests that follow.
    """
    result = yield
    interrupt = signal.getsignal(signal.SIGALRM)

    def cancel(number: int, frame: FrameType | None) -> None:
        assert callable(interrupt)
        if CANCEL in item.stash:
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, GRACE)
            item.stash[CANCEL]()
        else:
            interrupt(number, frame)

    if callable(interrupt):
        signal.signal(signal.SIGALRM, cancel)
    return result


def _cancellable(item: pytest.Function, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(**fixtures: Any) -> None:
        place: BaseException | None = None
        with trio.CancelScope() as scope:
            token = trio.lowlevel.current_trio_token()
            item.stash[CANCEL] = functools.partial(token.run_sync_soon, scope.cancel)
            try:
                await function(**fixtures)
            except BaseException as exc:
                place = exc
                raise
            finally:
                del item.stash[CANCEL]
        if scope.cancelled_caught:
            raise TimeoutError("the test did not end in time; where it was waiting stands above") from place

    return run
