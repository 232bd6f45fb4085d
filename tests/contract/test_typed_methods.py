"""Methods whose annotations are held."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Annotated, Any

import anyio
import msgspec
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, next_event, run_program

np = pytest.importorskip("numpy")


class Order(msgspec.Struct):
    symbol: str
    amounts: list[int]


class Shop(xsc.Actor):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    @xsc.typed
    async def place(self, order: Order, *more: int, fast: bool = False, **notes: str) -> int:
        assert type(order) is Order
        self.seen.append((order, more, fast, notes))
        return len(self.seen)

    @xsc.typed
    def total(self, order: Order) -> int:
        return "many" if order.symbol == "wrong" else sum(order.amounts)  # type: ignore[return-value]

    @xsc.typed
    @xsc.extensible
    async def each(self, number: Annotated[int, msgspec.Meta(ge=0)]) -> int:
        raise NotImplementedError

    @each.batch
    async def _each(self, args_list: Any, kwargs_list: Any) -> list[Any]:
        return [args[0] if args[0] < 100 else "large" for args in args_list]

    @xsc.typed
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            try:
                yield number if number != 3 else "three"  # type: ignore[misc]
            except xsc.MsgTypeError as exc:
                self.seen.append(str(exc))
                yield -1

    @xsc.typed
    @xsc.generator
    def letters(self, text: str) -> Iterator[str]:
        yield from text

    @xsc.typed
    def ask(self, other: xsc.ActorRef[Any], order: Order) -> Generator[Any, Any, int]:
        yield other.place(order)
        return len(self.seen)

    @xsc.typed
    @xsc.thread
    def slow(self, number: float) -> float:
        return number

    @xsc.typed
    @xsc.no_lock
    async def sizes(self, arrays: list[np.ndarray], names: dict[int, Any], anything) -> tuple[int, ...]:  # type: ignore[no-untyped-def]
        assert type(anything) is object or anything is None or type(anything) is list
        return tuple(each.size for each in arrays)

    @xsc.typed
    async def nothing(self) -> None:
        return len(self.seen)  # type: ignore[return-value]

    def history(self) -> list[Any]:
        return self.seen


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_arguments_that_do_not_fit_are_refused_where_the_call_is_made(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        shop = await n.create_actor(Shop)
        for args, kwargs, text in [
            (
                (Order("a", [1, "2"]),),
                {},
                r"argument 'order' of place\(\) .*Expected `int`.*\$\.amounts\[1\]",
            ),  # type: ignore[list-item]
            (("a",), {}, r"'order'.*Order"),
            ((Order("a", []), 1, "2"), {}, r"argument 'more'.*Expected `int`"),
            ((Order("a", []),), {"fast": 1}, r"'fast'.*Expected `bool`"),
            ((Order("a", []),), {"fast": True, "note": b"x"}, r"'note' of place.*Expected `str`"),
            ((object(),), {}, "'order'"),
        ]:
            for call in (shop.place, shop.place.send, shop.place.tell, shop.place.delay):
                with pytest.raises(xsc.MsgTypeError, match=text):
                    call(*args, **kwargs)
        with pytest.raises(TypeError, match="missing"):
            shop.place()
        with pytest.raises(xsc.MsgTypeError, match=">= 0"):
            shop.each.delay(-1)
        with pytest.raises(xsc.MsgTypeError, match="'to'"):
            shop.count("3")
        assert await shop.history() == []
        await shop.place.tell(Order("a", [1]), 2, fast=True, note="x")
        assert await shop.place({"symbol": "b", "amounts": [1]}) == 2
        assert await shop.history() == [
            (Order("a", [1]), (2,), True, {"note": "x"}),
            (Order("b", [1]), (), False, {}),
        ]


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_who_does_not_know_the_class_is_refused_before_the_method_runs(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        shop = await n.create_actor(Shop, uid="shop")
        found = await xsc.find_actor("shop")
        assert found is not None
        events = n.events()
        with pytest.raises(xsc.MsgTypeError, match=r"\$\.amounts\[1\]"):
            await found.place(Order("a", [1, "2"]))  # type: ignore[list-item]
        with pytest.raises(xsc.MsgTypeError, match=">= 0"):
            await found.each.batch(found.each.delay(1), found.each.delay(-1))
        with pytest.raises(xsc.MsgTypeError, match="'to'"):
            async for _ in found.count("3"):
                pass
        await found.place.tell(5)
        dropped = await next_event(events, xsc.events.MessageDropped)
        assert "'order'" in dropped.reason
        assert await found.place({"symbol": "b", "amounts": [1]}) == 1
        assert await shop.history() == [(Order("b", [1]), (), False, {})]


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_results_that_do_not_fit_are_an_error_of_their_call(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        shop = await n.create_actor(Shop)
        assert await shop.total(Order("a", [1, 2])) == 3
        with pytest.raises(xsc.MsgTypeError, match=r"what total\(\) returned .*Expected `int`, got `str`"):
            await shop.total(Order("wrong", []))
        with pytest.raises(xsc.MsgTypeError, match=r"what nothing\(\) returned"):
            await shop.nothing()
        await shop.nothing.tell()
        each = shop.each
        assert await each.batch(each.delay(1), each.delay(2)) == [1, 2]
        assert await each(5) == 5
        with pytest.raises(xsc.MsgTypeError, match=r"what each\(\) returned"):
            await each.batch(each.delay(1), each.delay(200))
        assert await shop.slow(1) == 1.0
        assert await shop.total.batch(*[shop.total.delay(Order("a", [n])) for n in range(5)]) == [
            0,
            1,
            2,
            3,
            4,
        ]


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_values_of_generators_are_checked_one_by_one(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        shop, other = await n.create_actor(Shop), await n.create_actor(Shop)
        assert [value async for value in shop.count(6)] == [0, 1, 2, -1, 4, 5]
        (text,) = await shop.history()
        assert "what count() yielded is declared as int" in text
        assert [value async for value in shop.letters("abc")] == ["a", "b", "c"]
        assert await shop.ask(other, Order("a", [])) == 1


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_objects_that_msgspec_does_not_know_have_to_be_of_their_class(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        shop = await n.create_actor(Shop)
        assert await shop.sizes([np.zeros(2), np.zeros(100_000)], {1: "x"}, None) == (2, 100_000)
        assert await shop.sizes([], {}, [np.zeros(1)]) == ()
        for wrong, text in (([1], r"Expected `numpy.ndarray`.*\$\[0\]"), ([{1}], "ndarray")):
            with pytest.raises(xsc.MsgTypeError, match=text):
                await shop.sizes(wrong, {}, None)
        with pytest.raises(xsc.MsgTypeError, match="there is a object in it, undeclared"):
            await shop.sizes([], {1: object()}, None)


async def test_annotations_that_cannot_be_checked_are_refused() -> None:
    with pytest.raises(TypeError, match=r"wrong\(\): one is annotated as .*cannot be checked"):

        class Wrong(xsc.Actor):
            @xsc.typed
            def wrong(self, one: Order | dict[str, int]) -> None: ...

    class Unknown(xsc.Actor):
        @xsc.typed
        def method(self, one: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    async with xsc.open_pool_nursery(pools=0) as n:
        with pytest.raises(TypeError, match=r"typed, and an annotation is not known: .*Nowhere"):
            await n.create_actor(Unknown)
    with pytest.raises(TypeError, match="no method"):
        xsc.typed(5)  # type: ignore[type-var]
    await anyio.lowlevel.checkpoint()


DECLARED = {
    "msgspec": "class Point(msgspec.Struct):",
    "dataclasses": "@dataclasses.dataclass\n        class Point:",
}


@pytest.mark.parametrize("kind", DECLARED)
@pytest.mark.parametrize("driver", ["trio", "asyncio"])
def test_types_of_a_program_of_ones_own_are_known_in_the_pool(tmp_path: Any, driver: str, kind: str) -> None:
    output = run_program(
        tmp_path,
        f"""
        from __future__ import annotations
        import anyio, dataclasses, msgspec
        import xoscar_sc as xsc

        {DECLARED[kind]}
            x: int

        class Plane(xsc.Actor):
            @xsc.typed
            async def shift(self, point: Point, by: int) -> Point:
                return Point(point.x + by) if by < 5 else by

        async def main():
            async with xsc.open_pool_nursery(pools=1) as n:
                plane = await n.create_actor(Plane, uid="plane")
                print((await plane.shift(Point(1), 2)).x)
                found = await xsc.find_actor("plane")
                for wrong in ((Point("1"), 2), (Point(1), 7)):
                    try:
                        await found.shift(*wrong)
                    except xsc.MsgTypeError as exc:
                        print(exc)

        anyio.run(main, backend={driver!r})
        """,
    )
    assert output.splitlines() == [
        "3",
        "argument 'point' of shift() is declared as Point: Expected `int`, got `str` - at `$.x`",
        "what shift() returned is declared as Point: Expected `object`, got `int`",
    ]
