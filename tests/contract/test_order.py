"""From one task to one actor, messages arrive in the order sent, and each is executed at most once.

Senders and actors write down what they do while actors and pools are being ended and made again; afterwards the two
sides are compared. What happens is drawn from a seed, which ``XSC_SEED`` sets; ``XSC_ORDER_ROUNDS`` says how often.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.actors import Board, Busy
from tests.contract.driving import BOUND, both_drivers, count
from tests.contract.history import History, Recorder, SendingActor, log, send_all
from tests.contract.homes import Home, seeded

ROUNDS = count("XSC_ORDER_ROUNDS", 1)
MESSAGES = count("XSC_ORDER_MESSAGES", 400)
WAYS = {
    "send": 6, "tell": 8, "batch": 4, "failing": 1, "cancelled send": 3, "cancelled tell": 2, "cancelled batch": 1,
}  # fmt: skip
ODDS = {"destroy": 5, "kill": 5, "kill_pool": 2, "sigkill": 2}


@pytest.mark.parametrize("grace", [1.0, 0.0])
@pytest.mark.parametrize("_round", range(ROUNDS))
@both_drivers
async def test_whatever_ends_meanwhile_messages_arrive_in_order_and_run_at_most_once(
    tmp_path: Path, _round: int, grace: float
) -> None:
    with seeded() as seed:
        homes = []
        for number in range(2):
            actors = {f"recorder-{number}-{each}": (Recorder, {}) for each in range(2)}
            homes.append(Home(str(number), seed, tmp_path, actors, ODDS, WAYS))
        await send_from_everywhere(tmp_path, seed, homes, xsc.Timeouts(cancel=grace))
        history = History(tmp_path)
        print(dict(history.ends()), dict(sum((home.done for home in homes), Counter())))
        wrong = history.check(may_be_cut_off=lambda sender: sender.startswith("function"))
        assert not wrong, f"XSC_SEED={seed}: {len(wrong)} of these:\n" + "\n".join(wrong[:20])
        assert history.ends()["value"], f"XSC_SEED={seed}"


async def send_from_everywhere(directory: Path, seed: int, homes: list[Home], timeouts: xsc.Timeouts) -> None:
    uids = [uid for home in homes for uid in home.actors]
    async with xsc.open_pool_nursery(pools=1, timeouts=timeouts) as n, anyio.create_task_group() as group:
        sending = await n.create_actor(SendingActor)
        for home in homes:
            home.uids = uids
            group.start_soon(home.live)
        async with anyio.create_task_group() as senders:
            for number in range(3):
                for name, send in ((f"task-{number}", send_all), (f"actor-{number}", sending.send_all)):
                    senders.start_soon(send, str(directory), name, seed, uids, WAYS, MESSAGES, math.inf)
        for home in homes:
            home.calm_down()
            home.close()
    assert [exc for home in homes for exc in home.unexpected] == [], f"XSC_SEED={seed}"


@pytest.mark.parametrize("where", ["by the root", "by an actor"])
@both_drivers
async def test_of_calls_that_wait_those_that_are_cancelled_never_run_and_the_others_keep_their_order(
    where: str,
) -> None:
    async with xsc.open_pool_nursery(pools=2, timeouts=xsc.Timeouts(cancel=BOUND / 2)) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, uid="busy", pool="pool-2")
        crowd = await n.create_actor(Crowd, board, pool="pool-1")
        async with anyio.create_task_group() as group:
            group.start_soon(busy.work)
            await board.wait("work runs")
            group.start_soon(
                call_and_cancel if where == "by the root" else crowd.call_and_cancel, board, busy
            )
            await board.wait("every second is cancelled")
            await board.post("work may end")
        assert await busy.has_run() == ["work", *(str(number) for number in range(0, 20, 2))]


class Crowd(xsc.Actor):
    """Many callers in one actor."""

    def __init__(self, board: xsc.ActorRef[Board]) -> None:
        self.board = board

    async def call_and_cancel(self, board: Any, busy: Any) -> None:
        await call_and_cancel(board, busy)


async def call_and_cancel(board: Any, busy: Any) -> None:
    """Have twenty calls wait, cancel every second of them, and say so when these have ended."""
    scopes = [anyio.CancelScope() for _ in range(20)]
    ended = [anyio.Event() for _ in range(20)]

    async def call(number: int) -> None:
        with scopes[number]:
            await busy.note(str(number))
        ended[number].set()

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(call, number)
            # What is sent behind it is answered when it has been queued.
            assert await busy.is_alive()
        for scope in scopes[1::2]:
            scope.cancel()
        for event in ended[1::2]:
            await event.wait()
        await board.post("every second is cancelled")
    assert [scope.cancelled_caught for scope in scopes] == [False, True] * 10


# The check itself


def write_history(directory: Path, sent: list[list[Any]], recorded: dict[str, list[int]]) -> list[str]:
    with log(directory / "s.sent") as file:
        for line in sent:
            file.write(*line)
    for token, numbers in recorded.items():
        with log(directory / f"r.{token}.recorded") as file:
            for number in numbers:
                file.write("s", number)
    return History(directory).check(may_be_cut_off=lambda sender: False)


def sent(
    number: int, kind: str, end: str, maybe: bool | None = None, value: Any = None, items: int = 1
) -> Any:
    return [["starts", "s", number, kind, items, "r"], ["ends", "s", number, end, maybe, value]]


def test_a_history_in_which_all_is_well_is_accepted(tmp_path: Path) -> None:
    lines = [
        *sent(0, "send", "value", value="a"),
        *sent(1, "tell", "value"),
        *sent(2, "batch", "value", value=["a", "a"], items=2),
        *sent(4, "send", "cancelled"),
        *sent(5, "send", "PoolDied", maybe=True),
        *sent(6, "send", "ActorNotExist", maybe=False),
        *sent(7, "tell", "value"),
        *sent(8, "send", "value", value="b"),
    ]
    assert write_history(tmp_path, lines, {"a": [0, 1, 2, 3, 5], "b": [8]}) == []


@pytest.mark.parametrize(
    ("lines", "recorded", "word"),
    [
        (sent(0, "tell", "value") + sent(1, "tell", "value"), {"a": [1, 0]}, "after"),
        (sent(0, "tell", "value"), {"a": [0, 0]}, "2 times"),
        (sent(0, "tell", "value"), {"a": [0], "b": [0]}, "2 times"),
        (sent(0, "send", "value", value="a"), {"a": []}, "has a value"),
        (sent(0, "send", "value", value="a"), {"a": [], "b": [0]}, "has a value"),
        (sent(0, "send", "ActorDied", maybe=False), {"a": [0]}, "certainly"),
        (sent(0, "send", "Own"), {"a": []}, "has raised"),
        (sent(0, "batch", "PoolDied", maybe=True, items=3), {"a": [0, 2]}, "in part"),
        (sent(0, "tell", "cancelled"), {"a": [0]}, "was not sent"),
        (sent(0, "send", "KeyError: 1"), {}, "in no way"),
        (sent(0, "send", "cancelled")[:1], {}, "has not ended"),
        (sent(0, "send", "cancelled") + sent(0, "send", "cancelled")[1:], {}, "ended twice"),
        (
            sent(0, "send", "value", value="a")
            + sent(1, "tell", "value")
            + sent(2, "send", "value", value="a"),
            {"a": [0, 2]},
            "was lost",
        ),
    ],
)
def test_a_history_in_which_something_is_wrong_is_not(
    tmp_path: Path, lines: list[Any], recorded: dict[str, list[int]], word: str
) -> None:
    wrong = write_history(tmp_path, lines, recorded)
    assert any(word in each for each in wrong), wrong
