from __future__ import annotations

import pytest

from xoscar_sc.errors import ActorAlreadyExist
from xoscar_sc.runtime.mailbox import DEFAULT, Capacity
from xoscar_sc.runtime.names import Found, Names

HERE, THERE = "unix:///run/here.sock", "unix:///run/there.sock"


def test_an_actor_is_found_when_it_is_ready_and_not_before() -> None:
    names = Names()
    assert names.find("actor") is None
    names.reserve("actor", HERE)
    assert names.find("actor") is None
    names.bind("actor", Found(HERE, 3))
    assert names.find("actor") == Found(HERE, 3)


def test_what_is_found_says_how_much_waits_in_its_mailbox() -> None:
    names = Names()
    names.reserve("usual", HERE)
    names.bind("usual", Found(HERE, 1))
    names.reserve("small", HERE)
    names.bind("small", Found(HERE, 1, Capacity(5, "raise")))
    assert names.find("usual") == (HERE, 1, DEFAULT)
    assert names.find("small") == (HERE, 1, (5, "raise"))


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("where", [HERE, THERE])
def test_a_uid_is_taken_once_in_the_whole_tree(ready: bool, where: str) -> None:
    names = Names()
    names.reserve("actor", HERE)
    if ready:
        names.bind("actor", Found(HERE, 1))
    with pytest.raises(ActorAlreadyExist, match=f"there is an actor 'actor' already, at {HERE}"):
        names.reserve("actor", where)
    assert names.find("actor") == (Found(HERE, 1) if ready else None)


def test_a_uid_is_free_again_when_its_actor_has_ended() -> None:
    names = Names()
    names.reserve("actor", HERE)
    names.bind("actor", Found(HERE, 1))
    names.release("actor", HERE)
    assert names.find("actor") is None
    names.reserve("actor", THERE)
    names.bind("actor", Found(THERE, 1))
    assert names.find("actor") == Found(THERE, 1)


def test_a_reservation_that_came_to_nothing_is_free_again() -> None:
    names = Names()
    names.reserve("actor", HERE)
    names.release("actor", HERE)
    names.reserve("actor", THERE)


def test_the_end_of_an_actor_does_not_free_another_ones_uid() -> None:
    names = Names()
    names.reserve("actor", HERE)
    names.release("actor", THERE)
    names.release("nobody", HERE)
    with pytest.raises(ActorAlreadyExist):
        names.reserve("actor", THERE)


def test_an_actor_that_is_ready_after_its_end_is_not_found() -> None:
    names = Names()
    names.reserve("actor", HERE)
    names.release("actor", HERE)
    names.bind("actor", Found(HERE, 1))
    assert names.find("actor") is None
    assert len(names) == 0


def test_an_actor_that_is_ready_does_not_take_what_another_has_reserved() -> None:
    names = Names()
    names.reserve("actor", THERE)
    names.bind("actor", Found(HERE, 1))
    assert names.find("actor") is None
    names.bind("actor", Found(THERE, 2))
    assert names.find("actor") == Found(THERE, 2)


def test_a_pools_end_frees_the_uids_of_its_actors_and_no_others() -> None:
    names = Names()
    for number in range(10):
        where = HERE if number % 2 else THERE
        names.reserve(f"actor {number}", where)
        if number < 5:
            names.bind(f"actor {number}", Found(where, 1))
    names.release_pool(HERE)
    assert [names.find(f"actor {number}") is not None for number in range(5)] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert len(names) == 5
    names.release_pool(HERE)
    names.release_pool(THERE)
    assert len(names) == 0
