"""The children of a supervisor, whatever happens to them: as values, and beside a model."""

from __future__ import annotations

import math
from collections.abc import Collection

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xoscar_sc.supervise.siblings import Phase, Siblings
from xoscar_sc.supervise.strategy import STRATEGIES, Start, Stop


def three(strategy: str) -> Siblings:
    siblings = Siblings(strategy)  # type: ignore[arg-type]
    for child in ("db", "cache", "web"):
        siblings.add(child)
    return siblings


def test_a_failure_under_rest_for_one_goes_step_by_step() -> None:
    siblings = three("rest_for_one")
    siblings.failed({"cache": 5.0})
    assert siblings.steps(0.0) == ([Stop("web")], math.inf)
    assert siblings.steps(9.0) == ([], math.inf), "web has not stopped yet"
    siblings.stopped("web")
    assert siblings.steps(4.0) == ([], 5.0)
    assert siblings.steps(5.0) == ([Start("cache")], math.inf)
    siblings.started("cache")
    assert siblings.steps(5.0) == ([Start("web")], math.inf)
    siblings.started("web")
    assert siblings.settled


def test_under_one_for_one_a_child_that_waits_holds_up_no_other() -> None:
    siblings = three("one_for_one")
    siblings.failed({"db": 100.0})
    siblings.failed({"web": 1.0})
    assert siblings.steps(1.0) == ([Start("web")], 100.0)


def test_an_older_child_that_fails_meanwhile_takes_the_younger_along() -> None:
    siblings = three("rest_for_one")
    siblings.failed({"web": 0.0})
    assert siblings.steps(0.0)[0] == [Start("web")]
    siblings.failed({"db": 0.0})
    assert siblings.steps(0.0)[0] == [Stop("web")], "its start is revoked"
    siblings.stopped("web")
    assert siblings.steps(0.0)[0] == [Stop("cache")]
    siblings.stopped("cache")
    assert siblings.steps(0.0)[0] == [Start("db")]


def test_a_start_that_fails_under_one_for_all_stops_those_that_have_been_started() -> None:
    siblings = three("one_for_all")
    siblings.failed({"db": 0.0, "cache": 0.0, "web": 0.0})
    assert siblings.steps(0.0)[0] == [Start("db")]
    siblings.started("db")
    assert siblings.steps(0.0)[0] == [Start("cache")]
    siblings.failed({"cache": 1.0})
    assert siblings.steps(0.0)[0] == [Stop("db")]
    siblings.stopped("db")
    assert siblings.steps(0.0)[0] == [Start("db")]


def test_a_temporary_child_that_is_stopped_with_another_is_forgotten() -> None:
    siblings = three("one_for_all")
    siblings.add("once", lasts=False)
    siblings.failed({"db": 0.0})
    assert siblings.steps(0.0)[0] == [Stop("once")]
    siblings.stopped("once")
    assert siblings.order == ("db", "cache", "web")


def test_a_child_that_was_terminated_stays_down_when_others_are_restarted() -> None:
    siblings = three("one_for_all")
    siblings.terminate("web")
    assert siblings.steps(0.0)[0] == [Stop("web")]
    siblings.stopped("web")
    siblings.failed({"db": 0.0})
    assert siblings.steps(0.0)[0] == [Stop("cache")]
    siblings.stopped("cache")
    for child in ("db", "cache"):
        assert siblings.steps(0.0)[0] == [Start(child)]
        siblings.started(child)
    assert siblings.settled
    assert siblings.phase("web") is Phase.DOWN
    siblings.restart("web")
    assert siblings.steps(0.0)[0] == [Start("web")]


def test_a_child_that_waits_can_be_terminated_and_can_be_started_at_once() -> None:
    siblings = three("one_for_one")
    siblings.failed({"db": 100.0, "web": 100.0})
    siblings.terminate("db")
    siblings.restart("web")
    assert siblings.steps(0.0) == ([Start("web")], math.inf)
    assert siblings.phase("db") is Phase.DOWN


class Machine(RuleBasedStateMachine):
    """A supervisor's children, each of which may end at any time, and the world in which the steps are carried out."""

    @initialize(strategy=st.sampled_from(sorted(STRATEGIES)), count=st.integers(1, 5))
    def begin(self, strategy: str, count: int) -> None:
        self.strategy = strategy
        self.siblings = Siblings(strategy)  # type: ignore[arg-type]
        self.now = 0.0
        self.wake = math.inf
        self.clock = 0
        self.order = [f"child-{number}" for number in range(count)]
        self.alive = set(self.order)
        self.wanted = set(self.order)
        """Not terminated by anybody."""
        self.touched: set[str] = set()
        """Terminated or restarted by somebody."""
        self.begun = dict.fromkeys(self.order, 0)
        """When each was started last."""
        self.must_begin_after = dict.fromkeys(self.order, -1)
        """What the strategies ask for: a start later than that."""
        self.doing: dict[str, Stop | Start] = {}
        for child in self.order:
            self.siblings.add(child)

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    def _group(self, failed: set[str]) -> Collection[str]:
        first = min(self.order.index(child) for child in failed)
        groups = {"one_for_one": failed, "one_for_all": self.order, "rest_for_one": self.order[first:]}
        return groups[self.strategy]

    def _do(self) -> None:
        steps, self.wake = self.siblings.steps(self.now)
        for step in steps:
            before = self.doing.get(step.child)
            if isinstance(step, Start):
                assert before is None, "nothing is under way with it"
                assert step.child not in self.alive
                if self.strategy != "one_for_one":
                    assert not self.doing
                    assert {each for each in self.order if each in self.wanted}.isdisjoint(
                        set(self.order[: self.order.index(step.child)]) - self.alive
                    ), "all that were started before it run"
            else:
                assert step.child in self.alive or isinstance(before, Start)
            self.doing[step.child] = step

    @rule(data=st.data(), due=st.floats(0, 3))
    def fail(self, data: st.DataObject, due: float) -> None:
        up = [child for child in self.order if self.siblings.phase(child) is Phase.UP]
        if not up:
            return
        failed = data.draw(st.sets(st.sampled_from(up), min_size=1, max_size=2))
        self.alive -= failed
        at = self._tick()
        for child in self._group(failed):
            self.must_begin_after[child] = at
        self.siblings.failed(dict.fromkeys(failed, self.now + due))
        self._do()

    @precondition(lambda self: self.doing)
    @rule(data=st.data(), succeeds=st.booleans())
    def carry_out(self, data: st.DataObject, succeeds: bool) -> None:
        child = data.draw(st.sampled_from(sorted(self.doing)))
        step = self.doing.pop(child)
        if isinstance(step, Stop):
            self.alive.discard(child)
            self.siblings.stopped(child)
        elif succeeds:
            self.alive.add(child)
            self.begun[child] = self._tick()
            self.siblings.started(child)
        else:
            at = self._tick()
            if self.siblings.phase(child) is Phase.STARTING:  # else its start has been revoked
                for each in self._group({child}):
                    self.must_begin_after[each] = at
            self.siblings.failed({child: self.now + 1})
        self._do()

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._do()

    @rule(data=st.data())
    def terminate(self, data: st.DataObject) -> None:
        child = data.draw(st.sampled_from(self.order))
        self.wanted.discard(child)
        self.touched.add(child)
        self.siblings.terminate(child)
        self._do()

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        child = data.draw(st.sampled_from(self.order))
        if self.siblings.phase(child) in (Phase.DOWN, Phase.WAITING):
            self.wanted.add(child)
            self.touched.add(child)
            self.siblings.restart(child)
            self._do()

    @rule()
    def settle(self) -> None:
        """If nothing fails any more, everything runs that is wanted, started anew as the strategies asked."""
        for _ in range(100):
            while self.doing:
                child, step = next(iter(self.doing.items()))
                del self.doing[child]
                if isinstance(step, Stop):
                    self.alive.discard(child)
                    self.siblings.stopped(child)
                else:
                    self.alive.add(child)
                    self.begun[child] = self._tick()
                    self.siblings.started(child)
                self._do()
            if self.wake == math.inf:
                break
            self.now = self.wake
            self._do()
        assert self.siblings.settled
        assert self.alive == self.wanted
        for child in self.alive:
            assert self.begun[child] > self.must_begin_after[child]
            assert self.begun[child] == 0 or self.must_begin_after[child] >= 0 or child in self.touched

    @invariant()
    def what_is_said_to_be_up_is(self) -> None:
        if hasattr(self, "siblings"):
            for child in self.order:
                if self.siblings.phase(child) is Phase.UP:
                    assert child in self.alive


TestSiblings = Machine.TestCase
TestSiblings.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
