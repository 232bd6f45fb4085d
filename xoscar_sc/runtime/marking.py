"""What type checkers know of a reference.

``ref.typed`` is the reference, seen as the actor's class: its async methods are known with their parameters and
results. A method that is marked with :func:`method` is known in every way that it can be used, and a sync one as
something that has to be awaited, as it has to be from outside. Of a generator method the annotation tells which kind
it is: ``AsyncIterator`` and ``Iterator`` are streams, ``Generator`` returns a value in xoscar's manner.

What types cannot express: the methods of ``ref`` itself, which are all known as :class:`ActorMethod`; that a broadcast
of a group gives a list; that the items of :meth:`ActorGroup.map` fit the method.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, overload

from xoscar_sc.runtime.ref import Delayed
from xoscar_sc.runtime.streams import ResultStream

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class TypedTell(Protocol[P]):
    """``tell`` of a marked method; see :class:`TellMethod`. That of ``durable`` has a keyword more: it is not typed."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, None]: ...
    def durable(self, *args: Any, id: str | None = None, **kwargs: Any) -> Coroutine[Any, Any, None]: ...


class TypedMethod(Protocol[P, R_co]):
    """A marked method of a reference; see :class:`ActorMethod`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...
    def send(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...
    @property
    def tell(self) -> TypedTell[P]: ...
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Delayed: ...
    def batch(self, *delayed: Delayed) -> Coroutine[Any, Any, Sequence[R_co]]: ...


class MarkedMethod(Protocol[P, R_co]):
    """A marked method of a class."""

    @overload
    def __get__(self, instance: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: Any) -> TypedMethod[P, R_co]: ...


class TypedStreamMethod(Protocol[P, R_co]):
    """A marked generator method of a reference; see :class:`ResultStream`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ResultStream[R_co]: ...
    def send(self, *args: P.args, **kwargs: P.kwargs) -> ResultStream[R_co]: ...


class MarkedStreamMethod(Protocol[P, R_co]):
    """A marked generator method of a class."""

    @overload
    def __get__(self, instance: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: Any) -> TypedStreamMethod[P, R_co]: ...


@overload
def method(function: Callable[Concatenate[Any, P], AsyncIterator[R]]) -> MarkedStreamMethod[P, R]: ...  # type: ignore[overload-overlap]
@overload
def method(function: Callable[Concatenate[Any, P], Generator[Any, Any, R]]) -> MarkedMethod[P, R]: ...
@overload
def method(function: Callable[Concatenate[Any, P], Iterator[R]]) -> MarkedStreamMethod[P, R]: ...  # type: ignore[overload-overlap]
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
