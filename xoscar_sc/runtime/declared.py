"""Methods whose annotations are held: what does not fit is refused where it is sent."""

from __future__ import annotations

import inspect
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from typing import Any, TypeVar

from xoscar_sc.serialize import Checked

F = TypeVar("F", bound=Callable[..., Any])

_TYPED = "__xsc_typed__"
_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator, Iterator, Iterable)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Declared:
    """What a method takes and gives.

    Args:
        function: the method.

    Raises:
        TypeError: an annotation is no type that can be checked; the text says which.
        NameError: an annotation is not known here.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        result = hints.pop("return", Any)
        item: Any = Any
        origin = typing.get_origin(result) or result
        generates = inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
        if generates and origin in (*_STREAMS, Generator):
            types = typing.get_args(result)
            result = types[2] if origin is Generator and len(types) > 2 else Any
            item = types[0] if origin is not Generator and types else Any
        name = function.__name__
        self._parameters = {
            key: checked for key, hint in hints.items() if (checked := _checked(name, key, hint)) is not None
        }
        self._result = _checked(name, "what it returns", result)
        self._item = _checked(name, "what it yields", item)

    def take(self, method: str, bound: inspect.BoundArguments) -> None:
        """Check a call's arguments, which are rebuilt by their types.

        Raises:
            MsgTypeError: one does not fit.
        """
        arguments = bound.arguments
        for name, value in arguments.items():
            checked = self._parameters.get(name)
            if checked is None:
                continue
            kind = bound.signature.parameters[name].kind
            what = f"argument {name!r} of {method}()"
            if kind is inspect.Parameter.VAR_POSITIONAL:
                arguments[name] = tuple(checked(each, what) for each in value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                arguments[name] = {
                    key: checked(each, f"argument {key!r} of {method}()") for key, each in value.items()
                }
            else:
                arguments[name] = checked(value, what)

    def give(self, method: str, value: Any, *, batch: bool) -> Any:
        """Check a value, or the values of a batch.

        Raises:
            MsgTypeError: it does not fit.
        """
        if self._result is None:
            return value
        what = f"what {method}() returned"
        if batch:
            return [self._result(each, what) for each in value]
        return self._result(value, what)

    def item(self, method: str, value: Any) -> Any:
        """Check a value of a stream.

        Raises:
            MsgTypeError: it does not fit.
        """
        return value if self._item is None else self._item(value, f"what {method}() yielded")


def _checked(method: str, what: str, hint: Any) -> Checked | None:
    if hint is Any or hint is inspect.Parameter.empty:
        return None
    try:
        return Checked(hint)
    except TypeError as exc:
        raise TypeError(
            f"{method}(): {what} is annotated as {hint!r}, which cannot be checked: {exc}"
        ) from None


def typed(function: F) -> F:
    """Let msgspec check what a method of an actor takes and gives by its annotations.

    Arguments are checked where the call is made, if the actor's class is known there, as it is to whoever has created
    the actor; otherwise before the method runs. A result, and each value that a generator yields, is checked where it
    comes from. What fits is rebuilt by its type: a Struct's fields are checked as well, and a dict becomes the Struct
    that it describes. Parameters without an annotation take anything; objects of classes that msgspec does not know,
    NumPy's arrays, say, are only checked to be that.

    Raises:
        TypeError: an annotation is no type that can be checked.

    A call whose arguments or whose result do not fit raises :exc:`MsgTypeError`, with the parameter and the path of the
    field. A tell whose arguments do not fit is refused at the sender in the same way.
    """
    inner = inner_function(function)
    try:
        found: Declared | None = Declared(inner)
    except NameError:  # what it names is defined later
        found = None
    setattr(inner, _TYPED, (found,))
    return function


def inner_function(function: Any) -> Any:
    """The function that a method is made of."""
    while not inspect.isfunction(function):
        inner = getattr(function, "__func__", None) or getattr(function, "function", None)
        if inner is None:
            raise TypeError(f"{function!r} is no method")
        function = inner
    return function


def declared_of(function: Any) -> Declared | None:
    """What a method that is marked with :func:`typed` takes and gives; None if it is not.

    Raises:
        TypeError: an annotation is not known, or cannot be checked.
    """
    inner = getattr(function, "function", function)  # of an extensible one
    found = getattr(inner, _TYPED, None)
    if found is None:
        return None
    if found[0] is not None:
        return typing.cast("Declared", found[0])
    try:
        return Declared(inner)
    except NameError as exc:
        raise TypeError(f"{inner.__name__}() is typed, and an annotation is not known: {exc}") from None
