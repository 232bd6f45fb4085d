"""What type checkers know of a reference.

``ref.typed`` is the reference, seen as the actor's class: its async methods are known with their parameters and
results. A method that is marked with :func:`method` is known in every way that it can be used, and a sync one as
something that has to be awaited, as it has to be from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, overload

from xoscar_sc.runtime.ref import Delayed

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class TypedMethod(Protocol[P, R_co]):
    """A marked method of a reference; see :class:`ActorMethod`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...
    def send(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...
    def tell(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, None]: ...
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Delayed: ...
    def batch(self, *delayed: Delayed) -> Coroutine[Any, Any, Sequence[R_co]]: ...


class MarkedMethod(Protocol[P, R_co]):
    """A marked method of a class."""

    @overload
    def __get__(self, instance: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: Any) -> TypedMethod[P, R_co]: ...


@overload
def method(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> MarkedMethod[P, R]: ...
@overload
def method(function: Callable[Concatenate[Any, P], R]) -> MarkedMethod[P, R]: ...
def method(function: Any) -> Any:
    """Mark a method, so that type checkers know it in every way that a reference can use it.

    ``ref.typed.m(...)``, ``.send``, ``.tell``, ``.delay`` and ``.batch`` then have its parameters and its result. It
    has no other effect.
    """
    return function
