"""Exceptions that are an actor's failure, though a caller gets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_FATAL = "__xsc_fatal__"


def fatal(*errors: type[Exception]) -> Callable[[F], F]:
    """Let some exceptions of a method, or of all methods of a class, be the actor's failure, though a caller gets them.

    An exception that a call raises is its caller's, and the actor goes on. After one of ``errors`` it does not: the
    actor ends as after an exception in a tell, and its supervisor may start it again.

    Raises:
        TypeError: one of ``errors`` is no class of exceptions.
    """
    error: Any
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, Exception)):
            raise TypeError(f"fatal() takes classes of exceptions, not {error!r}")
    if not errors:
        raise TypeError("fatal() takes one class of exceptions at least: fatal(OSError)")

    def mark(function: F) -> F:
        setattr(function, _FATAL, (*fatal_of(function), *errors))
        return function

    return mark


def fatal_of(marked: object) -> tuple[type[Exception], ...]:
    """The exceptions that are the actor's failure, of a method or of a class."""
    errors: tuple[type[Exception], ...] = getattr(marked, _FATAL, ())
    return errors
