"""What a pool tells the one above it: events, as the body of a notice."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from xoscar_sc.events import ActorExited, Event
from xoscar_sc.ipc import Segments
from xoscar_sc.protocol import Failure
from xoscar_sc.runtime.place import Wish
from xoscar_sc.serialize import dumps, loads, rebuild, record


class News(NamedTuple):
    """An event, and what goes with the end of an actor."""

    event: Event
    unclaimed: BaseException | None = None
    """An exception that nobody has waited for."""
    token: str = ""
    """The creation that the actor had come to be by."""
    wish: Wish = ""


def packed(news: News, where: str) -> bytes:
    """The body of a notice; ``where`` says in a traceback where an error was."""
    event, failure = news.event, None
    if isinstance(event, ActorExited):
        error = event.exit.error
        failure = None if error is None else record(error, where=where)
        event = replace(event, exit=replace(event.exit, error=None))
    return dumps((event, failure, news.unclaimed is not None, news.token, news.wish))


def unpacked(body: bytes, segments: Segments) -> News:
    """What a notice tells."""
    event: Event
    failure: Failure | None
    unclaimed: bool
    token: str
    wish: Wish
    event, failure, unclaimed, token, wish = loads(body, segments)  # type: ignore[misc]
    if not isinstance(event, ActorExited):
        return News(event)
    error = None if failure is None else rebuild(failure)
    event = replace(event, exit=replace(event.exit, error=error))
    return News(event, error if unclaimed else None, token, wish)
