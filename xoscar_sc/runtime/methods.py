"""What a class offers as an actor: its methods, and what is known about each before it is called."""

from __future__ import annotations

import functools
import inspect
import math
import opcode
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from xoscar_sc.runtime.declared import declared_of
from xoscar_sc.serialize import Codec, Extensions, Types, extensions_of

P = ParamSpec("P")
R = TypeVar("R")

F = TypeVar("F", bound=Callable[..., Any])

_NO_LOCK = "__xsc_no_lock__"
_THREAD = "__xsc_thread__"
_GENERATOR = "__xsc_generator__"
_IDEMPOTENT = "__xsc_idempotent__"
_APART = "__xsc_apart__"
_CONTEXT = "__xsc_context__"
_DISPATCHES = "__xsc_dispatches__"
DURABLE = "__tell_durable__"
"""The method of an actor that records what it is told durably, if it has a journal."""
LOCAL = frozenset({"unlocked"})
"""Public methods of every actor that are for its own code."""
_WAITS = frozenset(opcode.opmap[name] for name in ("GET_AWAITABLE", "GET_ANEXT", "YIELD_VALUE"))


def is_awaitable(value: object) -> bool:
    """Whether a value has to be awaited to get the real one."""
    return value.__class__ is CoroutineType or hasattr(value.__class__, "__await__")


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


class Retry(NamedTuple):
    """How a call is repeated whose pool has died."""

    retries: int
    backoff: float
    """Seconds before the first repetition; twice as many before each further one."""


class Method:
    """One method of an actor's class.

    Attributes:
        name: its name.
        at_once: a call ends in its first step, as far as is known.
        one_step: it is a coroutine function, and its coroutines end in their first step.
        code: its byte code, of which that is known.
        beside: it may run beside other messages.
        in_thread: it runs in a thread of its own.
        apart: it is no message of the actor's, whose end does not wait for it.
        plain: it is called itself, and not ``__on_receive__``.
        batch: the method's version for many calls, if it has one.
        streams: a call gives a stream.
        retry: how often, and how, a call is repeated whose pool has died; None if it is not.
        declared: what it takes and gives is checked; None if it is not.
        talks: it takes part in dialogues: what it sends and receives; None for any other method.
        low, high: so many positional arguments fit, if there are no others.
    """

    __slots__ = (
        "_signature",
        "apart",
        "at_once",
        "batch",
        "beside",
        "code",
        "declared",
        "high",
        "in_thread",
        "low",
        "name",
        "one_step",
        "plain",
        "retry",
        "streams",
        "talks",
    )

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        plain: bool = True,
        static: bool = False,
        exact: bool = True,
    ) -> None:
        self.name = name
        self.talks = talks_of(function)
        self.declared = declared_of(function)
        self.plain = plain and self.talks is None and self.declared is None
        self.batch: Callable[..., Any] | None = None
        self.beside = getattr(function, _NO_LOCK, False) or self.talks is not None
        self.in_thread = getattr(function, _THREAD, False)
        self.apart = getattr(function, _APART, False)
        self.retry: Retry | None = getattr(function, _IDEMPOTENT, None)
        at_once = self.plain and exact and not self.in_thread and inspect.isfunction(function)
        if isinstance(function, Extensible):
            self.batch = function.batch_function
            function = function.function
        self.streams = inspect.isasyncgenfunction(function) or getattr(function, _GENERATOR, False)
        generates = self.streams or inspect.isgeneratorfunction(function)
        self.at_once = at_once and not generates and not may_wait(function)
        self.one_step = self.at_once and inspect.iscoroutinefunction(function)
        self.code = getattr(function, "__code__", None)
        skip = 1 if self.talks is None else 2
        self._signature = _signature(function, static=static, skip=skip) if exact else None
        # A number of arguments says nothing where each has to be looked at.
        self.low, self.high = _limits(self._signature) if self.declared is None else (math.inf, -1.0)

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, as they are to be sent.

        Raises:
            TypeError: they do not fit the method's parameters, as far as these are known.
            MsgTypeError: they do not fit its annotations, if these are declared to be held.
        """
        if self._signature is None:
            return args, kwargs
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise TypeError(f"{self.name}(): {exc}") from None
        if self.declared is None:
            return args, kwargs
        self.declared.take(self.name, bound)
        return bound.args, bound.kwargs


def methods_of(cls: type) -> dict[str, Method]:
    """The public methods of a class, by name; computed once for each class."""
    found = cls.__dict__.get("__xsc_methods__")
    if found is None:
        found = dict(_public_methods(cls))
        cls.__xsc_methods__ = found  # type: ignore[attr-defined]
    return cast("dict[str, Method]", found)


def intercepts(cls: type) -> bool:
    """Whether a class has an ``__on_receive__`` of its own."""
    receive = getattr(cls, "__on_receive__", None)
    return receive is not None and not getattr(receive, _DISPATCHES, False)


def _public_methods(cls: type) -> Iterator[tuple[str, Method]]:
    plain = not intercepts(cls)
    for name in dir(cls):
        if not name.startswith("_") and name not in LOCAL:
            value = inspect.getattr_static(cls, name)
            static, exact = isinstance(value, staticmethod), True
            if isinstance(value, (staticmethod, classmethod)):
                function = value.__func__  # a mark may have been put on either
                vars(function).update({k: v for k, v in vars(value).items() if k.startswith("__xsc_")})
                value = function
            if isinstance(value, functools.partialmethod):
                value, exact = value.func, False
            if callable(value) and not isinstance(value, type):
                yield name, Method(name, value, plain=plain, static=static, exact=exact)


def _signature(function: Callable[..., Any], *, static: bool, skip: int) -> inspect.Signature | None:
    """The parameters of a call, if they are known: without the first ``skip``, which are not the caller's."""
    try:
        # What wraps a function may take other arguments than the function: its own count.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    if static or not inspect.isfunction(function):
        return signature if static else None
    parameters = list(signature.parameters.values())
    for _ in range(skip):  # the actor itself, and the context of a dialogue
        if parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            del parameters[0]
    return signature.replace(parameters=parameters)


def _limits(signature: inspect.Signature | None) -> tuple[float, float]:
    """How many positional arguments fit where there are no others; none do if a keyword is required."""
    low, high = 0.0, 0.0
    for each in [] if signature is None else signature.parameters.values():
        if each.kind is inspect.Parameter.VAR_POSITIONAL:
            high = math.inf
        elif each.kind is inspect.Parameter.KEYWORD_ONLY:
            low = math.inf if each.default is inspect.Parameter.empty else low
        elif each.kind is not inspect.Parameter.VAR_KEYWORD:
            low += each.default is inspect.Parameter.empty
            high += 1
    return (0.0, math.inf) if signature is None else (low, high)


def apart(function: F) -> F:
    """Let a method run beside all messages, and be neither waited for nor cancelled when its actor ends."""
    setattr(function, _APART, True)
    return function


def dispatches(function: F) -> F:
    """Mark an ``__on_receive__`` that does nothing but call the method."""
    setattr(function, _DISPATCHES, True)
    return function


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


def generator(function: F) -> F:
    """Let a sync generator method give a stream, as an async one does: each value that it yields is one of the stream.

    Raises:
        TypeError: the method is no generator.

    Source: xoscar.
    """
    if not (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        raise TypeError(f"{function!r} is no generator function")
    setattr(function, _GENERATOR, True)
    return function


def talks_of(function: Callable[..., Any]) -> Types | None:
    """What a function that is marked with :func:`context` sends and receives; None if it is not."""
    found: Types | None = getattr(function, _CONTEXT, None)
    return found


@overload
def context(function: F) -> F: ...
@overload
def context(
    *, sends: Any = None, receives: Any = None, types: Extensions | None = None
) -> Callable[[F], F]: ...
def context(
    function: Any = None, *, sends: Any = None, receives: Any = None, types: Extensions | None = None
) -> Any:
    """Mark a function, or a method of an actor, that takes part in a dialogue: its first argument is the context.

    The other side opens it with ``pool.open_context(function, ...)`` or ``ref.method.open_context(...)``. A method runs
    beside the other messages of its actor, as one that is marked with :func:`no_lock` does.

    Args:
        function: an async function.
        sends: the type of the messages that it sends, as msgspec takes it; None for anything.
        receives: the type of those that it receives.
        types: classes that msgspec does not know and that messages have in them, with two functions each: one makes
            something of an object that msgspec does know, and the other makes the object of that again.

    Raises:
        TypeError: the function is not async, or msgspec cannot take a type.
    """

    def mark(function: F) -> F:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is no async function")
        setattr(function, _CONTEXT, declared)
        return function

    declared = Types(sends, receives, extensions_of(types))
    Codec(declared)
    return mark if function is None else mark(function)


def idempotent(*, retries: int = 3, backoff: float = 0.1) -> Callable[[F], F]:
    """Let calls of a method be repeated when the actor's pool dies: to run it twice does no harm.

    A call whose actor's pool dies is sent again, to whichever actor has the uid then; for anything else that happens,
    once is all. Tells and batches are not repeated.

    Args:
        retries: how often, at most.
        backoff: seconds to wait before the first repetition; twice as many before each further one.

    Raises:
        TypeError, ValueError: it cannot be repeated like that.
    """
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError(f"retries= is {retries!r}; it is a number of times")
    if isinstance(backoff, bool) or not isinstance(backoff, (int, float)):
        raise TypeError(f"backoff= is {backoff!r}; it is a number of seconds")
    if retries < 1 or not 0 <= backoff < math.inf:
        raise ValueError(f"retries= is {retries} and backoff= {backoff}; they are 1 or more, and 0 or more")

    def mark(function: F) -> F:
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f"{function.__name__}() is a generator: what it has yielded cannot be taken back")
        setattr(function, _IDEMPOTENT, Retry(retries, float(backoff)))
        return function

    return mark


def thread(function: F) -> F:
    """Run a sync method in a thread, so that it does not hold up its pool while it blocks.

    It is one message of the actor like any other: the next one waits for it. A cancellation cannot reach it.

    Raises:
        TypeError: the method is async.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__name__}() is async; thread is for methods that block")
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"{function.__name__}() is a generator, which cannot run in a thread")
    setattr(function, _THREAD, True)
    return function
