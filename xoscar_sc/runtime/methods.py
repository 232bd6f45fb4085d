"""What a class offers as an actor: its methods, and what is known about each before it is called."""

from __future__ import annotations

import functools
import inspect
import opcode
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

F = TypeVar("F", bound=Callable[..., Any])

_NO_LOCK = "__xsc_no_lock__"
_THREAD = "__xsc_thread__"
_WAITS = frozenset(opcode.opmap[name] for name in ("GET_AWAITABLE", "GET_ANEXT", "YIELD_VALUE"))


def may_wait(function: Callable[..., Any]) -> bool:
    """Whether a call may have to wait for something: False only if it certainly ends in its first step.

    A coroutine function without an ``await`` cannot wait. Neither can a plain function, unless what it returns is
    awaitable, which shows only then.
    """
    code = getattr(function, "__code__", None)
    if code is None or not inspect.iscoroutinefunction(function):
        return False
    if not code.co_flags & inspect.CO_COROUTINE:
        return True  # it is only marked as one: what it returns may be anything
    # Every second byte is an instruction; inline caches are zero in co_code.
    return not _WAITS.isdisjoint(code.co_code[::2])


class Method:
    """One method of an actor's class.

    Attributes:
        name: its name.
        at_once: a call ends in its first step, as far as is known.
        one_step: it is a coroutine function, and its coroutines end in their first step.
        beside: it may run beside other messages.
        in_thread: it runs in a thread of its own.
        batch: the method's version for many calls, if it has one.
    """

    __slots__ = ("at_once", "batch", "beside", "in_thread", "name", "one_step")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.batch: Callable[..., Any] | None = None
        self.beside = getattr(function, _NO_LOCK, False)
        self.in_thread = getattr(function, _THREAD, False)
        if isinstance(function, Extensible):
            self.batch = function.batch_function
            self.at_once = False
            function = function.function
        else:
            self.at_once = inspect.isfunction(function) and not self.in_thread and not may_wait(function)
        if inspect.isasyncgenfunction(function):
            raise TypeError(f"{name}() is an async generator; streamed methods are not supported yet")
        self.one_step = self.at_once and inspect.iscoroutinefunction(function)


def methods_of(cls: type) -> dict[str, Method]:
    """The public methods of a class, by name; computed once for each class."""
    found = cls.__dict__.get("__xsc_methods__")
    if found is None:
        found = dict(_public_methods(cls))
        cls.__xsc_methods__ = found  # type: ignore[attr-defined]
    return cast("dict[str, Method]", found)


def _public_methods(cls: type) -> Iterator[tuple[str, Method]]:
    for name in dir(cls):
        if not name.startswith("_"):
            value = inspect.getattr_static(cls, name)
            if isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
            if callable(value) and not isinstance(value, type):
                yield name, Method(name, value)


class Extensible(Generic[P, R]):
    """A method that may have a version for many calls at once: what :func:`extensible` makes."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self.batch_function: Callable[..., Any] | None = None
        functools.update_wrapper(cast("Any", self), function)

    def batch(self, function: Callable[..., Any]) -> Extensible[P, R]:
        """Declare the version for many calls: it takes ``(args_list, kwargs_list)`` and gives a list."""
        self.batch_function = function
        return self

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else BoundExtensible(self, instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)


class BoundExtensible:
    """An extensible method of one actor."""

    __slots__ = ("_instance", "_method")

    def __init__(self, method: Extensible[Any, Any], instance: object) -> None:
        self._method = method
        self._instance = instance

    def bind(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """One call's arguments as the method's parameters, in order, defaults filled in.

        Raises:
            TypeError: they do not fit the signature.
        """
        bound = inspect.signature(self._method.function).bind(self._instance, *args, **kwargs)
        bound.apply_defaults()
        return tuple(bound.arguments.values())[1:]

    def batch(self, args_list: list[tuple[Any, ...]], kwargs_list: list[dict[str, Any]]) -> Any:
        """The version for many calls, called directly."""
        assert self._method.batch_function is not None
        return self._method.batch_function(self._instance, args_list, kwargs_list)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch = self._method.batch_function
        try:
            value = self._method.function(self._instance, *args, **kwargs)
            return await value if inspect.isawaitable(value) else value
        except NotImplementedError as exc:
            inner = exc.__traceback__.tb_next if exc.__traceback__ else None
            if batch is None or (inner is not None and inner.tb_next is not None):
                raise
        values = batch(self._instance, [args], [kwargs])
        if inspect.isawaitable(values):
            values = await values
        return None if values is None else values[0]


def extensible(function: Callable[P, R]) -> Extensible[P, R]:
    """Let a method have a version for many calls.

    ``ref.method.batch(...)`` then calls the version declared by ``@method.batch``, once, with a list of the
    arguments and one of the keyword arguments; without such a version it calls the method for each item. A method whose
    own body only raises :exc:`NotImplementedError` sends single calls to the batch version too.

    Source: the manner is xoscar's.
    """
    return Extensible(function)


def no_lock(function: F) -> F:
    """Let a method run beside other messages of its actor, in no order with them.

    Source: xoscar.
    """
    setattr(function, _NO_LOCK, True)
    return function


def thread(function: F) -> F:
    """Run a sync method in a thread, so that it does not hold up its pool while it blocks.

    It is one message of the actor like any other: the next one waits for it. A cancellation cannot reach it.

    Raises:
        TypeError: the method is async.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__name__}() is async; thread is for methods that block")
    setattr(function, _THREAD, True)
    return function
