"""Restart storms: children that do nothing but end, and supervisors that give up."""

from __future__ import annotations

import logging
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, program
from tests.contract.supervised import Child, Mine, diary, next_of, phases, restarts, until
from xoscar_sc.events import GaveUp, PoolStarted, Restarting


@pytest.mark.parametrize("how", ["exits", "raises"])
@both_drivers
async def test_a_constructor_that_fails_is_tried_a_bounded_number_of_times(how: str, tmp_path: Path) -> None:
    fails = tmp_path / "fails"
    started: list[Any] = []
    with pytest.raises(xsc.RestartIntensityExceeded) as caught:
        async with xsc.open_supervisor(intensity=3, period=60) as sup:
            events = sup.events()
            child = await sup.create_actor(Child, str(tmp_path), str(fails), uid="child")
            fails.write_text(how)
            await child.is_killed.tell()
            await anyio.sleep_forever()
    async for event in events:
        started.append(event)
    assert diary(tmp_path)[1:] == [f"fails {how} child"] * 3, "as often as the intensity admits"
    assert sum(isinstance(event, PoolStarted) for event in started) <= 5
    waits = [event.after for event in started if isinstance(event, Restarting)]
    assert waits[0] == 0
    assert 0.05 <= waits[1] <= 0.055
    assert 0.1 <= waits[2] <= 0.11
    assert len(waits) == 3
    ends = caught.value.exceptions
    assert len(ends) == 4
    assert isinstance(ends[0], xsc.PoolDied)
    assert ends[0].signal == signal.SIGKILL
    if how == "raises":
        assert all(isinstance(end, Mine) for end in ends[1:])
        assert all("in __init__" in "".join(end.__notes__) for end in ends[1:])
    else:
        assert all(isinstance(end, xsc.PoolDied) and end.exit_code == 7 for end in ends[1:])


@both_drivers
async def test_a_back_off_spreads_a_storm_for_as_long_as_it_lasts(tmp_path: Path) -> None:
    fails = tmp_path / "fails"
    backoff = xsc.Backoff(min=0.01, max=0.04, factor=2, jitter=0.0)
    async with xsc.open_supervisor(intensity=10**6) as sup:
        events = sup.events()
        child = await sup.create_actor(Child, "", str(fails), uid="child", backoff=backoff)
        fails.write_text("raises")
        await child.kill()
        waits = [(await next_of(events, Restarting)).after for _ in range(6)]
        assert waits == [0.01, 0.02, 0.04, 0.04, 0.04, 0.04]
        fails.unlink()
        assert await child.add() == 1


@both_drivers
async def test_a_child_that_hangs_in_its_constructor_holds_up_nobody(tmp_path: Path) -> None:
    fails = tmp_path / "fails"
    async with xsc.open_supervisor(shutdown=0.2) as sup:
        child = await sup.create_actor(
            Child, str(tmp_path), str(fails), uid="child", pool=await sup.start_pool("p")
        )
        other = await sup.create_actor(Child, uid="other", pool=await sup.start_pool("q"))
        fails.write_text("blocks")
        await child.is_killed.tell()
        await until(lambda: diary(tmp_path)[1:])
        assert phases(sup) == {"child": "starting", "other": "up"}
        await other.kill()
        assert await other.add() == 1
        await sup.terminate_child("child")
        assert phases(sup)["child"] == "down"
    assert len(diary(tmp_path)) == 2, "it was tried once"


@both_drivers
async def test_an_intensity_of_0_gives_up_at_the_first_end() -> None:
    with pytest.raises(xsc.RestartIntensityExceeded) as caught:
        async with xsc.open_supervisor(0, intensity=0) as sup:
            child = await sup.create_actor(Child, uid="child")
            await child.raises.tell("the reason")
            await anyio.sleep_forever()
    (end,) = caught.value.exceptions
    assert str(end) == "the reason"


@both_drivers
async def test_restarts_that_are_far_apart_do_not_count_together() -> None:
    async with xsc.open_supervisor(0, intensity=1, period=0.05) as sup:
        child = await sup.create_actor(Child, uid="child")
        for number in range(1, 4):
            await child.kill()
            await until(lambda number=number: restarts(sup) == {"child": number})
            await anyio.sleep(0.1)


@both_drivers
async def test_giving_up_ends_the_other_children_right_to_left(tmp_path: Path) -> None:
    with pytest.raises(xsc.RestartIntensityExceeded):
        async with xsc.open_supervisor(intensity=0) as sup:
            for uid in "abc":
                await sup.create_actor(Child, str(tmp_path), uid=uid)
            await sup.actors["b"].kill()
            await anyio.sleep_forever()
    assert diary(tmp_path)[3:] == ["stops c", "stops a"]


@both_drivers
async def test_the_report_says_how_each_process_ended_and_what_it_said_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "xoscar_sc"), pytest.raises(xsc.RestartIntensityExceeded) as caught:
        async with xsc.open_supervisor(intensity=1, name="top") as sup:
            events = sup.events()
            child = await sup.create_actor(Speaks, uid="child")
            await child.speaks.tell("first words")
            await until(lambda: restarts(sup) == {"child": 1})
            await child.speaks.tell("last words")
            await anyio.sleep_forever()
    assert [end.last_lines for end in caught.value.exceptions] == [("first words",), ("last words",)]  # type: ignore[union-attr]
    assert {end.exit_code for end in caught.value.exceptions} == {9}  # type: ignore[union-attr]
    gave_up = await next_of(events, GaveUp)
    assert gave_up.supervisor == "top"
    assert gave_up.reason == "'child' ended once more, after 1 restarts within 5 s"
    records = [record for record in caplog.records if getattr(record, "actor", None) == "child"]
    assert {record.pool for record in records} == {"pool-1", "pool-2"}  # type: ignore[attr-defined]
    assert "actor 'child' ended: PoolDied: pool 'pool-1'" in records[0].getMessage()


class Speaks(Child):
    def speaks(self, words: str) -> None:
        os.write(2, f"{words}\n".encode())
        os._exit(9)


def test_a_part_of_it_is_of_its_kind_and_it_can_be_sent() -> None:
    whole = xsc.RestartIntensityExceeded("given up", [Mine("a"), ValueError("b")])
    part, rest = whole.split(Mine)
    assert isinstance(part, xsc.RestartIntensityExceeded)
    assert isinstance(rest, xsc.RestartIntensityExceeded)
    assert isinstance(whole, xsc.XoscarError)
    copied = pickle.loads(pickle.dumps(whole))
    assert str(copied) == str(whole)
    with pytest.raises(xsc.RestartIntensityExceeded):
        try:
            raise whole
        except* ValueError:
            pass


STORM = """
    import os, sys, time
    import {backend} as backend
    import anyio
    import xoscar_sc as xsc

    class Child(xsc.Actor):
        def __init__(self, directory):
            if os.path.exists(directory + "/go"):
                how = {how!r}
                if how == "exits":
                    os._exit(7)
                if how == "blocks":
                    time.sleep(3600)
                raise ValueError("no")
        def go(self, directory):
            open(directory + "/go", "w").close()
            os._exit(1)

    async def main():
        async with xsc.open_supervisor(intensity=10**9, shutdown=1.0) as sup:
            child = await sup.create_actor(Child, sys.argv[1], uid="child")
            other = await sup.create_actor(Child, sys.argv[1], uid="other", backoff=xsc.Backoff(min=3600, max=3600))
            await child.go.tell(sys.argv[1])
            await anyio.sleep(0.3)
            print("ready", flush=True)
            await child.go(sys.argv[1])

    if __name__ == "__main__":
        anyio.run(main, backend={backend!r})
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", ["exits", "raises", "blocks"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_signal_ends_a_program_whose_children_are_in_a_storm(
    backend: str, how: str, number: int, tmp_path: Path
) -> None:
    source = STORM.format(backend=backend, how=how)
    with program(tmp_path, source, str(tmp_path)) as running:
        running.expect("ready")
        running.signal(number)
        assert running.wait() in (-signal.SIGINT, 1, 130, 143)
        assert running.descendants() == []
        assert "Traceback" not in running.stderr or "KeyboardInterrupt" in running.stderr
