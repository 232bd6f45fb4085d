from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio

from xoscar_sc import Actor, Message, extensible, generator, idempotent
from xoscar_sc.runtime.methods import (
    Extensible,
    Method,
    Retry,
    may_wait,
    methods_of,
    no_lock,
    thread,
)
from xoscar_sc.runtime.traits import Traits, traits_of


async def other() -> int:
    return 1


@contextlib.asynccontextmanager
async def context() -> AsyncIterator[int]:
    yield 1


async def numbers() -> AsyncIterator[int]:
    yield 1


# Each function of this class may wait.


class Waits:
    async def plain_await(self) -> None:
        await other()

    async def await_in_an_expression(self) -> int:
        return 1 + (await other() if self else 0)

    async def await_that_is_never_reached(self) -> None:
        if not self:
            await other()

    async def async_with(self) -> None:
        async with context():
            pass

    async def async_for(self) -> None:
        async for _ in numbers():
            pass

    async def async_list(self) -> list[int]:
        return [n async for n in numbers()]

    async def async_set(self) -> set[int]:
        return {n async for n in numbers()}

    async def async_dict(self) -> dict[int, int]:
        return {n: n async for n in numbers()}

    async def await_in_a_comprehension(self) -> list[int]:
        return [await other() for _ in range(3)]

    async def await_in_a_condition_of_a_comprehension(self) -> list[int]:
        return [n for n in range(3) if await other()]

    async def nested_comprehension(self) -> list[list[int]]:
        return [[m async for m in numbers()] for _ in range(3)]

    async def finally_with_await(self) -> None:
        try:
            pass
        finally:
            await other()

    async def except_with_await(self) -> None:
        try:
            pass
        except ValueError:
            await other()

    async def except_star_with_await(self) -> None:
        try:
            pass
        except* ValueError:
            await other()

    async def match_with_await(self) -> None:
        match self:
            case 1:
                await other()

    async def await_in_a_default_of_a_lambda(self) -> Any:
        return lambda x=await other(): x  # noqa: B008 - it is what is tested

    async def await_in_an_f_string(self) -> str:
        return f"{await other()}"

    async def await_after_much_code(self) -> int:
        total = 0
        total += 1 if total > 1000 else 2 if total > 2000 else 3
        values = {n: (n, [n] * n, {"n": n}) for n in range(300)}
        for number, _more, named in values.values():
            total += number * named["n"] if number % 2 else -number
        await other()
        return total


# And none of these can.


class Ends:
    async def nothing(self) -> None:
        pass

    async def value(self) -> int:
        return 1

    async def raises(self) -> None:
        raise KeyError

    async def loop(self) -> list[int]:
        return [n for n in range(3) if n]

    async def generator(self) -> Any:
        return (n for n in range(3))

    async def coroutine_not_awaited(self) -> Any:
        return other()

    async def async_generator_not_awaited(self) -> Any:
        return (n async for n in numbers())

    async def awaits_in_a_function_inside(self) -> Any:
        async def inside() -> None:
            await other()

        return inside

    async def yields_in_a_function_inside(self) -> Any:
        def inside() -> Any:
            yield 1

        return inside

    async def sync_with_and_try(self) -> None:
        with contextlib.suppress(KeyError):
            try:
                raise KeyError
            finally:
                pass

    async def match(self) -> int:
        match self:
            case 1:
                return 1
        return 2

    async def large_numbers(self) -> list[int]:
        # The arguments of instructions are any bytes, those of awaiting ones too.
        return [n + 257 for n in range(300)] + [1, 2, 3][0 : len("x" * 131)]

    def sync(self) -> int:
        return 1

    def sync_that_returns_an_awaitable(self) -> Any:
        return other()


def functions(cls: type) -> list[Any]:
    return [pytest.param(value, id=name) for name, value in vars(cls).items() if inspect.isfunction(value)]


@pytest.mark.parametrize("function", functions(Waits))
def test_a_coroutine_function_that_awaits_anywhere_may_wait(function: Callable[..., Any]) -> None:
    assert may_wait(function)


@pytest.mark.parametrize("function", functions(Ends))
def test_a_function_without_an_await_does_not_wait(function: Callable[..., Any]) -> None:
    assert not may_wait(function)


@pytest.mark.parametrize("function", [f for f in functions(Ends) if inspect.iscoroutinefunction(f.values[0])])
def test_a_coroutine_that_does_not_wait_ends_in_its_first_step(function: Callable[..., Any]) -> None:
    coroutine = function(Ends())
    with pytest.raises((StopIteration, KeyError)) as found:
        coroutine.send(None)
    if isinstance(found.value, StopIteration) and inspect.iscoroutine(found.value.value):
        found.value.value.close()


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any) -> Any:
        return await function(*args)

    return wrapper


def handed_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def test_a_wrapper_counts_and_not_what_it_wraps() -> None:
    assert may_wait(logged(Ends.nothing))
    assert not may_wait(handed_on(Waits.plain_await))  # that it gives an awaitable shows only then


def test_a_lambda_and_a_builtin_do_not_wait() -> None:
    assert not may_wait(lambda: [other()])
    assert not may_wait(len)


# What a class offers


class CanBeCalled:
    def __call__(self, actor: object) -> int:
        return 1


class Base(Actor):
    attribute = 1

    def inherited(self) -> int:
        return 1

    async def overridden(self) -> None:
        await other()

    def shadowed(self) -> int:
        return 1


class Mixin:
    async def mixed_in(self) -> int:
        return 1


class Derived(Base, Mixin):
    class Nested:
        pass

    shadowed = None  # type: ignore[assignment]
    called = CanBeCalled()
    partly = functools.partialmethod(Base.inherited)
    short = lambda self: 1  # noqa: E731

    def __init__(self) -> None:
        self.own = len

    async def overridden(self) -> None:
        pass

    @property
    def a_property(self) -> int:
        raise AssertionError("nobody should read this")

    @staticmethod
    def static(value: int) -> int:
        return value

    @staticmethod
    async def static_that_waits() -> None:
        await other()

    @classmethod
    async def of_the_class(cls) -> type:
        return cls

    @logged
    async def decorated(self) -> int:
        return 1

    @extensible
    async def extended(self, value: int) -> int:
        return value

    def _private(self) -> None:
        pass

    async def waits(self) -> None:
        await other()


def test_a_class_offers_its_public_methods_and_those_it_inherits() -> None:
    found = methods_of(Derived)
    inherited = {"ref", "stop"}
    assert set(found) - inherited == {
        "inherited", "overridden", "mixed_in", "short", "static", "static_that_waits", "of_the_class", "decorated",
        "extended", "waits", "called", "partly",
    }  # fmt: skip
    assert inherited <= set(found)
    assert all(name == method.name for name, method in found.items())


@pytest.mark.parametrize(
    ("name", "at_once", "one_step"),
    [
        ("inherited", True, False),
        ("overridden", True, True),
        ("mixed_in", True, True),
        ("short", True, False),
        ("static", True, False),
        ("static_that_waits", False, False),
        ("of_the_class", True, True),
        ("decorated", False, False),
        ("extended", False, False),
        ("called", False, False),
        ("waits", False, False),
    ],
)
def test_what_is_known_of_a_method_before_it_is_called(name: str, at_once: bool, one_step: bool) -> None:
    method = methods_of(Derived)[name]
    assert (method.at_once, method.one_step) == (at_once, one_step)


def test_what_a_class_offers_is_computed_once_and_for_each_class() -> None:
    assert methods_of(Base) is methods_of(Base)
    assert methods_of(Base) is not methods_of(Derived)
    assert not methods_of(Base)["overridden"].at_once
    assert methods_of(Derived)["overridden"].at_once
    assert "shadowed" in methods_of(Base)
    assert "shadowed" not in methods_of(Derived)


def test_a_partial_is_not_run_at_once() -> None:
    method = Method("partial", functools.partial(Waits.plain_await))
    assert not method.at_once
    assert not method.one_step


@no_lock
async def beside_others() -> None: ...


@thread
def blocks() -> None: ...


@no_lock
@thread
def blocks_beside_others() -> None: ...


@pytest.mark.parametrize(
    ("function", "beside", "in_thread", "at_once"),
    [
        (Ends.sync, False, False, True),
        (beside_others, True, False, True),
        (blocks, False, True, False),
        (blocks_beside_others, True, True, False),
        (no_lock(extensible(Ends.value)), True, False, False),
    ],
)
def test_a_mark_says_where_and_beside_what_a_method_runs(
    function: Any, beside: bool, in_thread: bool, at_once: bool
) -> None:
    method = Method("method", function)
    assert (method.beside, method.in_thread, method.at_once) == (beside, in_thread, at_once)


@pytest.mark.parametrize("function", [Ends.value, numbers])
def test_an_async_method_needs_no_thread(function: Any) -> None:
    with pytest.raises(TypeError, match=r"is async; thread is for methods that block"):
        thread(function)


# Generators


class Streams(Actor):
    async def numbers(self) -> AsyncIterator[int]:
        yield 1

    @generator
    def marked(self) -> Iterator[int]:
        yield 1

    @no_lock
    @generator
    async def marked_twice(self) -> AsyncIterator[int]:
        yield 1

    def styled(self) -> Iterator[Any]:
        yield other()

    async def gives_a_generator(self) -> Any:
        return self.numbers()

    def plain(self) -> int:
        return 1

    @idempotent()
    async def may_be_repeated(self) -> None: ...

    @no_lock
    @idempotent(retries=1, backoff=2)
    def may_be_repeated_beside(self) -> None: ...


@pytest.mark.parametrize(
    ("name", "streams", "at_once", "beside"),
    [
        ("numbers", True, False, False),
        ("marked", True, False, False),
        ("marked_twice", True, False, True),
        ("styled", False, False, False),
        ("gives_a_generator", False, True, False),
        ("plain", False, True, False),
    ],
)
def test_a_generator_that_gives_a_stream_is_known_as_one(
    name: str, streams: bool, at_once: bool, beside: bool
) -> None:
    method = methods_of(Streams)[name]
    assert (method.streams, method.at_once, method.beside) == (streams, at_once, beside)


def test_a_reference_has_to_know_what_streams_and_what_may_be_repeated() -> None:
    _, _, streams, retries, *_ = traits_of(Streams, 5, "wait")
    assert sorted(streams) == ["marked", "marked_twice", "numbers"]
    assert sorted(retries) == [("may_be_repeated", 3, 0.1), ("may_be_repeated_beside", 1, 2.0)]
    assert traits_of(Base, 5, "raise") == Traits(5, "raise")
    assert methods_of(Streams)["may_be_repeated"].retry == Retry(3, 0.1)
    assert methods_of(Streams)["plain"].retry is None


def test_only_a_generator_can_be_marked_as_one() -> None:
    for function in (Ends.sync, Ends.value, lambda: [1]):
        with pytest.raises(TypeError, match="is no generator function"):
            generator(function)


def test_a_generator_can_neither_run_in_a_thread_nor_be_repeated() -> None:
    with pytest.raises(TypeError, match=r"numbers\(\) is async"):
        thread(numbers)
    with pytest.raises(TypeError, match=r"styled\(\) is a generator, which cannot run in a thread"):
        thread(Streams.styled)
    for function in (numbers, Streams.styled):
        with pytest.raises(TypeError, match=r"\(\) is a generator: what it has yielded"):
            idempotent()(function)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"retries": 0}, ValueError, "retries= is 0"),
        ({"retries": -1}, ValueError, "retries= is -1"),
        ({"retries": 1.5}, TypeError, "retries= is 1.5"),
        ({"retries": True}, TypeError, "retries= is True"),
        ({"retries": "3"}, TypeError, "retries= is '3'"),
        ({"backoff": -0.1}, ValueError, "backoff= -0.1"),
        ({"backoff": math.inf}, ValueError, "backoff= inf"),
        ({"backoff": math.nan}, ValueError, "backoff= nan"),
        ({"backoff": "1"}, TypeError, "backoff= is '1'"),
        ({"backoff": False}, TypeError, "backoff= is False"),
    ],
)
def test_a_wrong_way_to_repeat_is_refused(
    settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        idempotent(**settings)


# Messages that are seen before they run


class Watching(Base):
    async def __on_receive__(self, message: Message) -> Any:
        return await super().__on_receive__(message)


class WatchingToo(Watching):
    pass


def test_a_method_is_called_itself_unless_the_actor_wants_to_see_its_messages() -> None:
    assert methods_of(Base)["overridden"].plain
    for cls in (Watching, WatchingToo):
        assert not any(
            method.plain or method.at_once or method.one_step for method in methods_of(cls).values()
        )


# Parameters


class Takes(Actor):
    def nothing(self) -> None: ...

    def some(self, one: int, two: int, three: int = 3) -> None: ...

    def named(self, one: int, *, name: str, more: int = 1) -> None: ...

    def named_or_not(self, one: int, *, name: str = "") -> None: ...

    def anything(self, *args: Any, **kwargs: Any) -> None: ...

    def at_least_one(self, one: int, *args: Any) -> None: ...

    def by_position(self, one: int, two: int = 2, /) -> None: ...

    def any_names(self, **kwargs: Any) -> None: ...

    @staticmethod
    def static(one: int) -> None: ...

    @classmethod
    def of_the_class(cls, one: int) -> None: ...

    async def stream(self, one: int) -> AsyncIterator[int]:
        yield one

    @logged
    async def decorated(self, one: int) -> None: ...

    @extensible
    def extended(self, one: int, two: int = 2) -> None: ...

    called = CanBeCalled()
    short = lambda *args: None  # noqa: E731


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("nothing", 0, 0),
        ("some", 2, 3),
        ("named", math.inf, 1),
        ("named_or_not", 1, 1),
        ("anything", 0, math.inf),
        ("at_least_one", 1, math.inf),
        ("by_position", 1, 2),
        ("any_names", 0, 0),
        ("static", 1, 1),
        ("of_the_class", 1, 1),
        ("stream", 1, 1),
        ("decorated", 0, math.inf),
        ("extended", 1, 2),
        ("called", 0, math.inf),
        ("short", 0, math.inf),
    ],
)
def test_how_many_positional_arguments_fit(name: str, low: float, high: float) -> None:
    method = methods_of(Takes)[name]
    assert (method.low, method.high) == (low, high)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("nothing", (), {}),
        ("some", (1, 2), {}),
        ("some", (1,), {"two": 2, "three": 3}),
        ("named", (1,), {"name": "a"}),
        ("named", (), {"one": 1, "name": "a", "more": 2}),
        ("anything", (1, 2), {"three": 3, "self": 4}),
        ("at_least_one", (1, 2, 3), {}),
        ("by_position", (1,), {}),
        ("any_names", (), {"self": 1, "args": 2}),
        ("static", (1,), {}),
        ("of_the_class", (), {"one": 1}),
        ("decorated", (1, 2, 3), {}),
        ("extended", (1,), {"two": 2}),
        ("called", (1, 2), {"three": 3}),
    ],
)
def test_arguments_that_fit(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    methods_of(Takes)[name].check(args, kwargs)


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "text"),
    [
        ("nothing", (1,), {}, "too many positional arguments"),
        ("nothing", (), {"one": 1}, "unexpected keyword argument 'one'"),
        ("some", (1,), {}, "missing a required argument: 'two'"),
        ("some", (1, 2, 3, 4), {}, "too many positional arguments"),
        ("some", (1, 2), {"one": 1}, "multiple values for argument 'one'"),
        ("some", (1, 2), {"self": 1}, "unexpected keyword argument 'self'"),
        ("named", (1,), {}, "missing a required .*argument: 'name'"),
        ("named", (1, "a"), {}, "too many positional arguments"),
        ("at_least_one", (), {}, "missing a required argument: 'one'"),
        ("by_position", (), {"one": 1}, "positional"),
        ("static", (), {}, "missing a required argument: 'one'"),
        ("of_the_class", (1, 2), {}, "too many positional arguments"),
        ("stream", (), {}, "missing a required argument: 'one'"),
        ("extended", (1, 2, 3), {}, "too many positional arguments"),
    ],
)
def test_arguments_that_do_not_fit(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\): .*{text}"):
        methods_of(Takes)[name].check(args, kwargs)


# Extensible methods


class Store:
    def __init__(self) -> None:
        self.log: list[object] = []

    @extensible
    async def put(self, key: str, value: int = 0, *, now: bool = False) -> str:
        self.log.append((key, value, now))
        return key

    @put.batch
    async def put_many(self, args_list: list[Any], kwargs_list: list[Any]) -> list[Any]:
        self.log.append((args_list, kwargs_list))
        return [args[0] for args in args_list]

    @extensible
    def only_batch(self, value: int) -> int:
        raise NotImplementedError

    @only_batch.batch
    def _only_batch_many(self, args_list: list[Any], kwargs_list: list[Any]) -> list[int]:
        return [value * 2 for (value,) in args_list]

    @extensible
    async def only_async_batch(self, value: int) -> int:
        raise NotImplementedError

    @only_async_batch.batch
    async def _only_async_batch_many(self, args_list: list[Any], kwargs_list: list[Any]) -> list[int]:
        await trio.lowlevel.checkpoint()
        return [value * 3 for (value,) in args_list]

    @extensible
    def single(self) -> str:
        """Says so."""
        return "single"

    @extensible
    def not_yet(self) -> None:
        raise NotImplementedError("not yet")

    @extensible
    def fails_deeper(self) -> None:
        self.not_there()

    @fails_deeper.batch
    def _fails_deeper_many(self, args_list: list[Any], kwargs_list: list[Any]) -> list[None]:
        raise AssertionError("what was meant is lost")

    def not_there(self) -> None:
        raise NotImplementedError("deep inside")

    @extensible
    def gives_nothing(self) -> int:
        raise NotImplementedError

    @gives_nothing.batch
    def _gives_nothing_many(self, args_list: list[Any], kwargs_list: list[Any]) -> None:
        self.log.append("called")


def test_an_extensible_method_looks_like_its_function() -> None:
    assert isinstance(Store.single, Extensible)
    assert Store.single.__name__ == "single"
    assert Store.single.__doc__ == "Says so."
    assert Store.single(Store()) == "single"


def test_a_batch_version_belongs_to_its_method() -> None:
    found = methods_of(Store)
    assert found["put"].batch is Store.put.batch_function
    assert found["put"].batch is not None
    assert found["put_many"].batch is found["put"].batch
    assert found["single"].batch is None
    assert found["not_there"].batch is None


async def test_a_single_call_goes_to_the_method_itself() -> None:
    store = Store()
    assert await store.put("a", 1, now=True) == "a"
    assert await store.single() == "single"
    assert store.log == [("a", 1, True)]


async def test_a_method_that_is_not_implemented_sends_single_calls_to_its_batch_version() -> None:
    store = Store()
    assert await store.only_batch(4) == 8
    assert await store.only_async_batch(4) == 12
    assert await store.gives_nothing() is None
    assert store.log == ["called"]


async def test_without_a_batch_version_it_is_just_not_implemented() -> None:
    with pytest.raises(NotImplementedError, match="not yet"):
        await Store().not_yet()


async def test_what_is_not_implemented_deeper_is_no_reason_to_try_the_batch_version() -> None:
    with pytest.raises(NotImplementedError, match="deep inside"):
        await Store().fails_deeper()


async def test_the_batch_version_can_be_called_directly() -> None:
    store = Store()
    assert await store.put.batch([("a",), ("b", 2)], [{}, {"now": True}]) == ["a", "b"]
    assert store.log == [([("a",), ("b", 2)], [{}, {"now": True}])]


@pytest.mark.parametrize(
    ("args", "kwargs", "bound"),
    [
        (("a",), {}, ("a", 0, False)),
        (("a", 1), {}, ("a", 1, False)),
        ((), {"key": "a", "now": True}, ("a", 0, True)),
        (("a",), {"value": 5}, ("a", 5, False)),
    ],
)
def test_binding_gives_the_arguments_in_order_with_defaults(
    args: tuple[Any, ...], kwargs: dict[str, Any], bound: tuple[Any, ...]
) -> None:
    assert Store().put.bind(*args, **kwargs) == bound


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "missing a required argument: 'key'"),
        (("a", 1, 2), {}, "too many positional arguments"),
        (("a",), {"other": 1}, "unexpected keyword argument 'other'"),
        (("a",), {"key": "b"}, "multiple values for argument 'key'"),
    ],
)
def test_binding_what_does_not_fit_is_a_type_error(
    args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        Store().put.bind(*args, **kwargs)


def test_an_extensible_method_runs_on_asyncio_too() -> None:
    assert asyncio.run(Store().only_batch(2)) == 4
