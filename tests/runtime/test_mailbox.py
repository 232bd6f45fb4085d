from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xoscar_sc.errors import DeadlockError
from xoscar_sc.runtime.mailbox import Mailbox
from xoscar_sc.runtime.traits import BOUND

tokens = itertools.count(1)


class Letter:
    """A message, as a mailbox knows it."""

    def __init__(self, name: str = "", chain: tuple[tuple[str, str, int], ...] = ()) -> None:
        self.method = name
        self.token = next(tokens)
        self.chain = chain
        self.answered = False
        self.waits = False

    def __repr__(self) -> str:
        return self.method


def open_mailbox(*, serial: bool = True, **options: Any) -> Mailbox[Letter]:
    mailbox: Mailbox[Letter] = Mailbox("actor", serial=serial, **options)
    assert mailbox.start() == []
    return mailbox


def letters(names: str) -> list[Letter]:
    return [Letter(name) for name in names]


# One at a time


def test_messages_run_one_at_a_time_in_the_order_of_arrival() -> None:
    mailbox, (a, b, c) = open_mailbox(), letters("abc")
    assert mailbox.put(a, beside=False) == (True, None)
    assert mailbox.put(b, beside=False) == (False, None)
    assert mailbox.put(c, beside=False) == (False, None)
    assert mailbox.finished(a) is b
    assert mailbox.finished(b) is c
    assert mailbox.finished(c) is None
    assert mailbox.empty


def test_an_idle_mailbox_starts_the_next_message_at_once() -> None:
    mailbox, (a, b) = open_mailbox(), letters("ab")
    assert mailbox.put(a, beside=False) == (True, None)
    assert mailbox.finished(a) is None
    assert mailbox.put(b, beside=False) == (True, None)
    assert mailbox.holder is b


def test_messages_wait_until_the_mailbox_is_opened() -> None:
    mailbox: Mailbox[Letter] = Mailbox("actor", serial=True)
    a, b = letters("ab")
    assert mailbox.put(a, beside=False) == (False, None)
    assert mailbox.put(b, beside=False) == (False, None)
    assert not mailbox.empty
    assert mailbox.start() == [a]
    assert mailbox.finished(a) is b


def test_a_message_that_is_put_in_front_is_the_next_one_whatever_the_bound() -> None:
    mailbox, (a, b, c, d) = open_mailbox(bound=1), letters("abcd")
    assert mailbox.put_front(a)
    mailbox.put(b, beside=False)
    assert mailbox.full
    assert not mailbox.put_front(c)
    assert not mailbox.put_front(d)
    assert [mailbox.finished(each) for each in (a, d, c, b)] == [d, c, b, None]
    assert mailbox.empty


def test_what_is_put_in_front_before_messages_may_start_is_before_those_that_came_earlier() -> None:
    mailbox: Mailbox[Letter] = Mailbox("actor", serial=True)
    a, b, c = letters("abc")
    mailbox.put(c, beside=False)
    assert not mailbox.put_front(b)
    assert not mailbox.put_front(a)
    assert mailbox.start() == [a]
    assert [mailbox.finished(each) for each in (a, b, c)] == [b, c, None]


def test_a_place_that_is_reserved_is_taken() -> None:
    mailbox = open_mailbox(bound=2)
    for each in letters("ab"):
        mailbox.put(each, beside=False)
    assert not mailbox.full
    mailbox.reserved += 1
    assert mailbox.full
    mailbox.reserved -= 1
    assert not mailbox.full


def test_a_mailbox_that_is_not_serial_starts_everything_at_once() -> None:
    mailbox: Mailbox[Letter] = Mailbox("actor", serial=False)
    a, b, c = letters("abc")
    mailbox.put(a, beside=False)
    mailbox.put(b, beside=True)
    assert mailbox.start() == [a, b]
    assert mailbox.put(c, beside=False) == (True, None)
    assert mailbox.running == {a, b, c}
    assert [mailbox.finished(each) for each in (b, a, c)] == [None] * 3
    assert mailbox.empty


def test_a_message_that_was_cancelled_while_it_waited_never_starts() -> None:
    mailbox, (a, b, c) = open_mailbox(), letters("abc")
    for each in (a, b, c):
        mailbox.put(each, beside=False)
    b.answered = True
    mailbox.answered(b)
    assert mailbox.finished(a) is c
    c.answered = True
    mailbox.answered(c)
    assert mailbox.finished(c) is None


@pytest.mark.parametrize("serial", [False, True])
def test_a_message_that_was_cancelled_before_the_opening_never_starts(serial: bool) -> None:
    mailbox: Mailbox[Letter] = Mailbox("actor", serial=serial)
    a, b = letters("ab")
    for each in (a, b):
        mailbox.put(each, beside=False)
    a.answered = True
    mailbox.answered(a)
    assert mailbox.start() == [b]
    assert mailbox.finished(b) is None
    assert mailbox.empty


def test_clearing_gives_those_that_wait_and_not_those_that_run() -> None:
    mailbox, (a, b, c, d) = open_mailbox(), letters("abcd")
    for each in (a, b, c):
        mailbox.put(each, beside=False)
    mailbox.put(d, beside=True)
    b.answered = True
    mailbox.answered(b)
    assert mailbox.clear() == [c]
    assert mailbox.running == {a, d}
    assert mailbox.clear() == []
    assert mailbox.finished(a) is None


# Beside


def test_a_message_that_needs_no_lock_runs_beside_the_one_that_has_it() -> None:
    mailbox, (a, b, c) = open_mailbox(), letters("abc")
    mailbox.put(a, beside=False)
    mailbox.put(b, beside=False)
    assert mailbox.put(c, beside=True) == (True, None)
    assert mailbox.running == {a, c}
    assert mailbox.finished(c) is None
    assert mailbox.finished(a) is b


def test_a_message_beside_does_not_hold_up_the_next() -> None:
    mailbox, (a, b) = open_mailbox(), letters("ab")
    mailbox.put(a, beside=True)
    assert mailbox.put(b, beside=False) == (True, None)


def test_messages_that_need_no_lock_all_start_at_the_opening() -> None:
    mailbox: Mailbox[Letter] = Mailbox("actor", serial=True)
    a, b, c, d = letters("abcd")
    mailbox.put(a, beside=False)
    mailbox.put(b, beside=True)
    mailbox.put(c, beside=False)
    mailbox.put(d, beside=True)
    assert mailbox.start() == [b, d, a]
    assert mailbox.holder is a
    assert mailbox.finished(b) is None
    assert mailbox.finished(a) is c


# Lending the lock


def test_who_lends_the_lock_lets_the_next_one_start_and_gets_it_back_before_the_others() -> None:
    mailbox, (a, b, c) = open_mailbox(), letters("abc")
    for each in (a, b, c):
        mailbox.put(each, beside=False)
    assert mailbox.lend(a) is b
    assert not mailbox.want_back(a)
    assert mailbox.finished(b) is a
    assert mailbox.holder is a
    assert mailbox.finished(a) is c


def test_a_lock_that_nobody_took_meanwhile_is_had_back_at_once() -> None:
    mailbox, (a,) = open_mailbox(), letters("a")
    mailbox.put(a, beside=False)
    assert mailbox.lend(a) is None
    assert mailbox.want_back(a)
    assert mailbox.holder is a


def test_while_the_lock_is_lent_and_free_a_message_starts_at_once() -> None:
    mailbox, (a, b) = open_mailbox(), letters("ab")
    mailbox.put(a, beside=False)
    mailbox.lend(a)
    assert mailbox.put(b, beside=False) == (True, None)
    assert not mailbox.want_back(a)
    assert mailbox.finished(b) is a


def test_several_get_the_lock_back_in_the_order_asked() -> None:
    mailbox, (a, b, c, d) = open_mailbox(), letters("abcd")
    for each in (a, b, c, d):
        mailbox.put(each, beside=False)
    assert mailbox.lend(a) is b
    assert mailbox.lend(b) is c
    assert not mailbox.want_back(b)
    assert not mailbox.want_back(a)
    assert mailbox.finished(c) is b
    assert mailbox.finished(b) is a
    assert mailbox.finished(a) is d


def test_a_message_waits_behind_those_that_want_the_lock_back() -> None:
    mailbox, (a, b, c) = open_mailbox(), letters("abc")
    mailbox.put(a, beside=False)
    mailbox.lend(a)
    mailbox.put(b, beside=False)
    mailbox.want_back(a)
    assert mailbox.put(c, beside=False) == (False, None)
    assert mailbox.finished(b) is a
    assert mailbox.finished(a) is c


def test_who_has_no_lock_lends_none() -> None:
    mailbox, (a, b, c) = open_mailbox(), letters("abc")
    mailbox.put(a, beside=False)
    mailbox.put(b, beside=False)
    mailbox.put(c, beside=True)
    assert mailbox.lend(c) is None
    assert mailbox.holder is a


def test_who_ends_without_the_lock_that_he_lent_takes_it_from_nobody() -> None:
    mailbox, (a, b, c) = open_mailbox(), letters("abc")
    for each in (a, b, c):
        mailbox.put(each, beside=False)
    mailbox.lend(a)
    assert mailbox.finished(a) is None
    assert mailbox.holder is b
    assert mailbox.finished(b) is c


def test_who_ends_while_he_wants_the_lock_back_does_not_get_it() -> None:
    mailbox, (a, b, c) = open_mailbox(), letters("abc")
    for each in (a, b, c):
        mailbox.put(each, beside=False)
    mailbox.lend(a)
    mailbox.want_back(a)
    assert mailbox.finished(a) is None
    assert mailbox.finished(b) is c


# Deadlock


def holding(method: str = "run") -> tuple[Mailbox[Letter], Letter]:
    mailbox, holder = open_mailbox(), Letter(method)
    mailbox.put(holder, beside=False)
    return mailbox, holder


def test_a_call_that_comes_back_to_the_message_that_waits_for_it_is_refused() -> None:
    mailbox, holder = holding()
    chain = (("actor", "run", holder.token), ("other", "ask", 77))
    with pytest.raises(DeadlockError) as found:
        mailbox.put(Letter("back", chain), beside=False)
    assert str(found.value) == (
        "actor.run() -> other.ask() -> actor.back() would wait for itself: 'actor' handles one message at a time"
    )
    assert found.value.cycle == [("actor", "run"), ("other", "ask"), ("actor", "back")]
    assert not mailbox.waiting
    assert mailbox.finished(holder) is None


def test_a_call_to_itself_is_refused() -> None:
    mailbox, holder = holding()
    with pytest.raises(DeadlockError) as found:
        mailbox.put(Letter("again", (("actor", "run", holder.token),)), beside=False)
    assert found.value.cycle == [("actor", "run"), ("actor", "again")]


def test_the_cycle_begins_where_the_actor_does() -> None:
    mailbox, holder = holding()
    chain = (("first", "go", 5), ("actor", "run", holder.token), ("other", "ask", 6))
    with pytest.raises(DeadlockError) as found:
        mailbox.put(Letter("back", chain), beside=False)
    assert found.value.cycle == [("actor", "run"), ("other", "ask"), ("actor", "back")]


@pytest.mark.parametrize(
    "change",
    [
        lambda holder: ("actor", "run", holder.token + 1),  # an earlier message of the same method
        lambda holder: ("namesake", "run", holder.token),  # another pool's, of the same number
        lambda _: ("actor", "run", 0),  # one that was never started
    ],
)
def test_what_only_looks_like_a_cycle_waits(change: Any) -> None:
    mailbox, holder = holding()
    letter = Letter("back", (change(holder), ("other", "ask", 77)))
    assert mailbox.put(letter, beside=False) == (False, None)
    assert mailbox.finished(holder) is letter


def test_a_call_back_to_a_message_that_has_lent_its_lock_runs() -> None:
    mailbox, holder = holding()
    mailbox.lend(holder)
    back = Letter("back", (("actor", "run", holder.token),))
    assert mailbox.put(back, beside=False) == (True, None)


def test_a_call_back_to_a_message_that_has_lent_its_lock_waits_for_the_one_that_has_it() -> None:
    mailbox, holder = holding()
    other = Letter("other")
    mailbox.put(other, beside=False)
    mailbox.lend(holder)
    back = Letter("back", (("actor", "run", holder.token),))
    assert mailbox.put(back, beside=False) == (False, None)
    assert mailbox.finished(other) is back


def test_a_call_back_that_needs_no_lock_runs() -> None:
    mailbox, holder = holding()
    back = Letter("back", (("actor", "run", holder.token),))
    assert mailbox.put(back, beside=True) == (True, None)


def test_a_call_back_to_an_actor_that_is_not_serial_runs() -> None:
    mailbox = open_mailbox(serial=False)
    holder = Letter("run")
    mailbox.put(holder, beside=False)
    back = Letter("back", (("actor", "run", holder.token),))
    assert mailbox.put(back, beside=False) == (True, None)


# The bound


def full(overflow: Any, bound: int = 2) -> tuple[Mailbox[Letter], list[Letter]]:
    mailbox = open_mailbox(bound=bound, overflow=overflow)
    held = letters("rab"[: bound + 1])
    for each in held:
        mailbox.put(each, beside=False)
    return mailbox, held


@pytest.mark.parametrize("overflow", ["raise", "drop_newest"])
def test_a_full_mailbox_gives_one_more_back(overflow: str) -> None:
    mailbox, (running, a, b) = full(overflow)
    more = Letter("more")
    assert mailbox.put(more, beside=False) == (False, more)
    assert list(mailbox.waiting) == [a, b]
    assert mailbox.finished(running) is a
    assert mailbox.put(more, beside=False) == (False, None)


def test_a_full_mailbox_drops_its_oldest() -> None:
    mailbox, (running, a, b) = full("drop_oldest")
    more = Letter("more")
    assert mailbox.put(more, beside=False) == (False, a)
    assert mailbox.finished(running) is b
    assert mailbox.finished(b) is more


def test_a_mailbox_whose_senders_wait_takes_what_comes() -> None:
    mailbox, _ = full("wait")
    assert mailbox.put(Letter("more"), beside=False) == (False, None)
    assert len(mailbox.waiting) == 3


@pytest.mark.parametrize("overflow", ["raise", "drop_newest", "drop_oldest"])
def test_what_needs_no_lock_needs_no_room(overflow: str) -> None:
    mailbox, _ = full(overflow)
    assert mailbox.put(Letter("beside"), beside=True) == (True, None)


def test_the_usual_bound_is_a_thousand_messages_that_wait() -> None:
    mailbox = open_mailbox(overflow="raise")
    assert BOUND == 1000
    assert [mailbox.put(Letter(), beside=False)[1] for _ in range(1001)] == [None] * 1001
    assert mailbox.put(more := Letter(), beside=False) == (False, more)


@pytest.mark.parametrize("overflow", ["wait", "raise", "drop_newest", "drop_oldest"])
def test_only_where_senders_wait_is_a_full_mailbox_crowded(overflow: str) -> None:
    mailbox, (running, *_) = full(overflow)
    assert mailbox.crowded == (overflow == "wait")
    mailbox.finished(running)
    assert not mailbox.crowded


# Whatever happens


class AnyUse(RuleBasedStateMachine):
    """A mailbox against what must be true of one, whoever does what and when."""

    @initialize(
        serial=st.booleans(),
        bound=st.integers(1, 4),
        overflow=st.sampled_from(["wait", "raise", "drop_oldest", "drop_newest"]),
    )
    def make(self, serial: bool, bound: int, overflow: Any) -> None:
        self.mailbox: Mailbox[Letter] = Mailbox("actor", serial=serial, bound=bound, overflow=overflow)
        self.opened = False
        self.beside: set[Letter] = set()
        self.queue: list[Letter] = []  # taken, and neither started nor dropped
        self.running: list[Letter] = []
        self.lent: list[Letter] = []  # running without the lock, and not asking for it
        self.asking: list[Letter] = []

    def starts(self, letter: Letter | None) -> None:
        """A message starts, or goes on."""
        if letter is None:
            return
        if letter in self.asking:
            assert letter is self.asking.pop(0)
            return
        assert not self.asking, "those who want the lock back come first"
        while (first := self.queue.pop(0)) is not letter:
            assert first.answered, f"{letter} has overtaken {first}"
        self.running.append(letter)

    @rule(beside=st.booleans())
    def put(self, beside: bool) -> None:
        letter = Letter(f"m{next(tokens)}")
        if beside:
            self.beside.add(letter)
        starts, dropped = self.mailbox.put(letter, beside=beside)
        if starts:
            assert self.opened
            self.running.append(letter)
            if self.mailbox.serial and not beside:
                assert not self.asking
                assert all(each.answered for each in self.queue)
        elif dropped is letter:
            assert len(self.queue) >= self.mailbox.bound
        else:
            self.queue.append(letter)
            if dropped is not None:
                assert not dropped.answered
                assert dropped is self.queue.pop(0)

    @precondition(lambda self: not self.opened)
    @rule()
    def start(self) -> None:
        self.opened = True
        for letter in self.mailbox.start():
            if not self.mailbox.serial or letter in self.beside:
                assert not letter.answered
                self.queue.remove(letter)
                self.running.append(letter)
            else:
                self.starts(letter)
        self.queue = [each for each in self.queue if each in self.mailbox.waiting]

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        letter = data.draw(st.sampled_from(self.running))
        self.running.remove(letter)
        for group in (self.lent, self.asking):
            if letter in group:
                group.remove(letter)
        self.starts(self.mailbox.finished(letter))

    @precondition(lambda self: self.mailbox.holder is not None)
    @rule()
    def lend(self) -> None:
        letter = self.mailbox.holder
        assert letter is not None
        self.lent.append(letter)
        self.starts(self.mailbox.lend(letter))

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def want_back(self, data: st.DataObject) -> None:
        letter = data.draw(st.sampled_from(self.lent))
        self.lent.remove(letter)
        if not self.mailbox.want_back(letter):
            self.asking.append(letter)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        letter = data.draw(st.sampled_from(self.queue))
        letter.answered = True
        self.mailbox.answered(letter)
        self.queue.remove(letter)
        assert len(self.mailbox.waiting) <= 2 * len(self.queue), "what was answered is forgotten in time"

    @precondition(lambda self: self.queue)
    @rule()
    def clear(self) -> None:
        assert self.mailbox.clear() == [each for each in self.queue if not each.answered]
        self.queue.clear()

    @invariant()
    def what_must_be_true(self) -> None:
        mailbox, queue = self.mailbox, self.queue
        assert mailbox.running == set(self.running)
        assert [each for each in mailbox.waiting if not each.answered] == [
            each for each in queue if not each.answered
        ]
        assert mailbox.empty == (not self.running and not mailbox.waiting)
        if mailbox.overflow != "wait":
            assert len(self.queue) <= mailbox.bound
        if not mailbox.serial:
            assert mailbox.holder is None
            return
        with_lock = [
            each
            for each in self.running
            if each not in self.beside and each not in self.lent and each not in self.asking
        ]
        assert with_lock == ([] if mailbox.holder is None else [mailbox.holder])
        if self.opened and mailbox.holder is None:
            assert not self.asking, "the lock is free, and somebody waits to get it back"
            assert all(each.answered for each in queue), "the lock is free, and a message waits"


AnyUse.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyUse = AnyUse.TestCase
