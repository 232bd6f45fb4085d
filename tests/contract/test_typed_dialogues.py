"""Dialogues whose messages have types: what does not fit is refused where it is sent."""

from __future__ import annotations

import fractions
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest

import xoscar_sc as xsc
from tests.contract.driving import ROOT, both_drivers, run_program


class Tick(msgspec.Struct):
    symbol: str
    price: float


class Order(msgspec.Struct):
    symbol: str
    amounts: list[int]


@xsc.context(sends=Tick, receives=Order)
async def trades(ctx: xsc.Context) -> list[str]:
    found = []
    await ctx.started("open")
    async with ctx.open_stream() as stream:
        async for order in stream:
            assert type(order) is Order
            try:
                await stream.send(order)
            except xsc.MsgTypeError as exc:
                found.append(str(exc))
            await stream.send(Tick(order.symbol, sum(order.amounts)))
    return found


class Exchange(xsc.Actor):
    @xsc.context(sends=Tick, receives=Order)
    async def trades(self, ctx: xsc.Context) -> Any:
        return await trades(ctx)


@pytest.mark.parametrize("where", ["function", "actor", "same process"])
@both_drivers
async def test_what_does_not_fit_never_reaches_the_other_side_and_the_dialogue_goes_on(where: str) -> None:
    async with xsc.open_pool_nursery(pools=0 if where == "same process" else 1) as n:
        ref = await n.create_actor(Exchange)
        opener = n.pools["pool-1"].open_context(trades) if where == "function" else ref.trades.open_context()
        async with opener as (ctx, first):
            assert first == "open"
            async with ctx.open_stream() as stream:
                for wrong, path in [
                    (Order("a", [1, "2"]), r"\$\.amounts\[1\]"),  # type: ignore[list-item]
                    (Tick("a", 1.0), "amounts"),
                    (Order("a", [2**70]), "Order"),
                    (object(), "Order"),
                    (3, "Order"),
                ]:
                    with pytest.raises(xsc.MsgTypeError, match=path):
                        await stream.send(wrong)
                    with pytest.raises(xsc.MsgTypeError, match=path):
                        stream.send_nowait(wrong)
                for number in range(100):
                    await stream.send(Order("a", [number, 1]))
                    tick = await stream.receive()
                    assert type(tick) is Tick
                    assert tick == Tick("a", number + 1)
                await stream.send(Order("x" * (5 << 20), []))
                assert len((await stream.receive()).symbol) == 5 << 20
            found = await ctx.result()
        assert len(found) == 101
        assert "price" in found[0]


@both_drivers
async def test_subscribers_get_typed_messages() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        async with n.pools["pool-1"].open_context(trades) as (ctx, _), ctx.open_stream() as stream:
            async with stream.subscribe() as one, stream.subscribe() as other:
                await stream.send(Order("a", [1]))
                assert await one.receive() == await other.receive() == Tick("a", 1.0)


def test_types_that_msgspec_cannot_take_are_refused_where_they_are_declared() -> None:
    with pytest.raises(TypeError):
        xsc.context(sends=Tick | Order)
    with pytest.raises(TypeError):
        xsc.context(receives=3)


class Move(msgspec.Struct):
    by: fractions.Fraction
    grid: Any = None


TYPES = {fractions.Fraction: (str, fractions.Fraction)}


@xsc.context(sends=fractions.Fraction, receives=Move, types=TYPES)
async def track(ctx: xsc.Context) -> None:
    await ctx.started()
    at = fractions.Fraction(0)
    async with ctx.open_stream() as stream:
        async for move in stream:
            assert type(move.by) is fractions.Fraction
            at += move.by
            await stream.send(at)


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_messages_have_classes_that_msgspec_does_not_know(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        tracker = await n.create_actor(Tracker)
        async with tracker.track.open_context() as (ctx, _), ctx.open_stream() as stream:
            for number in range(1, 5):
                await stream.send(Move(fractions.Fraction(1, number)))
                at = await stream.receive()
                assert type(at) is fractions.Fraction
            assert at == fractions.Fraction(25, 12)
            with pytest.raises(xsc.MsgTypeError, match="object is no type that is declared"):
                await stream.send(Move(fractions.Fraction(1), object()))
            with pytest.raises(xsc.MsgTypeError, match="Fraction"):
                await stream.send(Move("half"))  # type: ignore[arg-type]


class Tracker(xsc.Actor):
    @xsc.context(sends=fractions.Fraction, receives=Move, types=TYPES)
    async def track(self, ctx: xsc.Context) -> Any:
        return await track(ctx)


MODULE = """
    import os
    import msgspec
    import xoscar_sc as xsc

    class Tick(msgspec.Struct):
        symbol: str
        {field}

    @xsc.context(sends=Tick, receives=Tick)
    async def trades(ctx):
        await ctx.started()
"""


@pytest.mark.parametrize("driver", ["trio", "asyncio"])
def test_definitions_that_differ_are_spelled_out(tmp_path: Path, driver: str) -> None:

    text = textwrap.dedent(MODULE)
    module = tmp_path / "exchange.py"
    module.write_text(text.replace("{field}", "price: float"))
    output = run_program(
        tmp_path,
        f"""
        import anyio
        import pathlib, sys
        import xoscar_sc as xsc

        sys.dont_write_bytecode = True
        sys.path.insert(0, {str(tmp_path)!r})

        def change():
            import exchange, msgspec
            class Tick(msgspec.Struct):
                symbol: str
                cost: int
            Tick.__module__, Tick.__qualname__ = "exchange", "Tick"
            exchange.Tick = Tick
            exchange.trades.__xsc_context__ = type(exchange.trades.__xsc_context__)(Tick, Tick)

        async def main():
            import exchange
            async with xsc.open_pool_nursery(pools=1) as n:
                pool = n.pools["pool-1"]
                async with pool.open_context(exchange.trades):
                    print("the same")
                await pool.run(change)
                try:
                    async with pool.open_context(exchange.trades):
                        print("never")
                except xsc.MsgTypeError as exc:
                    print(exc)

        if __name__ == "__main__":
            anyio.run(main, backend={driver!r})
        """,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )
    lines = output.splitlines()
    assert lines[:2] == ["the same", "the two sides define their messages differently:"]
    assert any(line.startswith("-") and '"cost"' in line for line in lines)
    assert any(line.startswith("+") and '"price"' in line for line in lines)
