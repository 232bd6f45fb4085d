from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from xoscar_sc.errors import ActorAlreadyExist
from xoscar_sc.events import Exit
from xoscar_sc.runtime.names import Ending, Found, Names
from xoscar_sc.runtime.traits import DEFAULT, Traits

HERE, THERE = "unix:///run/here.sock", "unix:///run/there.sock"


def test_an_actor_is_found_when_it_is_ready_and_not_before() -> None:
    names = Names()
    assert names.find("actor") is None
    names.reserve("actor", HERE, "pool-1")
    assert names.find("actor") is None
    names.bind("actor", "pool-1", Found(HERE, 3))
    assert names.find("actor") == Found(HERE, 3)


def test_what_is_found_says_how_much_waits_in_its_mailbox() -> None:
    names = Names()
    names.reserve("usual", HERE, "pool-1")
    names.bind("usual", "pool-1", Found(HERE, 1))
    names.reserve("small", HERE, "pool-2")
    names.bind("small", "pool-2", Found(HERE, 1, Traits(5, "raise")))
    assert names.find("usual") == Found(HERE, 1, DEFAULT)
    assert names.find("small") == Found(HERE, 1, Traits(5, "raise"))


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("where", [HERE, THERE])
def test_a_uid_is_taken_once_in_the_whole_tree(ready: bool, where: str) -> None:
    names = Names()
    names.reserve("actor", HERE, "pool-1")
    if ready:
        names.bind("actor", "pool-1", Found(HERE, 1))
    with pytest.raises(ActorAlreadyExist, match=f"there is an actor 'actor' already, at {HERE}"):
        names.reserve("actor", where, "pool-2")
    assert names.find("actor") == (Found(HERE, 1) if ready else None)


def test_a_uid_is_free_again_when_its_actor_has_ended() -> None:
    names = Names()
    names.reserve("actor", HERE, "pool-1")
    names.bind("actor", "pool-1", Found(HERE, 1))
    names.release("actor", "pool-1")
    assert names.find("actor") is None
    names.reserve("actor", THERE, "pool-2")
    names.bind("actor", "pool-2", Found(THERE, 1))
    assert names.find("actor") == Found(THERE, 1)


def test_a_reservation_that_came_to_nothing_is_free_again() -> None:
    names = Names()
    names.reserve("actor", HERE, "pool-1")
    names.release("actor", "pool-1")
    names.reserve("actor", THERE, "pool-2")


@pytest.mark.parametrize("ready", [False, True])
def test_a_release_that_comes_twice_does_not_free_what_another_has_reserved_meanwhile(ready: bool) -> None:
    names = Names()
    names.reserve("actor", HERE, "pool-1")
    names.release("actor", "pool-1")
    names.reserve("actor", HERE, "pool-2")
    if ready:
        names.bind("actor", "pool-2", Found(HERE, 1))
    names.release("actor", "pool-1")
    names.release("nobody", "pool-1")
    with pytest.raises(ActorAlreadyExist):
        names.reserve("actor", THERE, "pool-3")


def test_an_actor_that_is_ready_after_its_end_is_not_found() -> None:
    names = Names()
    names.reserve("actor", HERE, "pool-1")
    names.release("actor", "pool-1")
    names.bind("actor", "pool-1", Found(HERE, 1))
    assert names.find("actor") is None
    assert len(names) == 0


def test_an_actor_that_is_ready_does_not_take_what_another_has_reserved() -> None:
    names = Names()
    names.reserve("actor", HERE, "pool-2")
    names.bind("actor", "pool-1", Found(HERE, 1))
    assert names.find("actor") is None
    names.bind("actor", "pool-2", Found(HERE, 2))
    assert names.find("actor") == Found(HERE, 2)


def test_a_pools_end_frees_the_uids_of_its_actors_and_no_others() -> None:
    names = Names()
    for number in range(10):
        where = HERE if number % 2 else THERE
        names.reserve(f"actor {number}", where, f"pool-{number}")
        if number < 5:
            names.bind(f"actor {number}", f"pool-{number}", Found(where, 1))
    names.release_pool(HERE)
    found = [names.find(f"actor {number}") is not None for number in range(5)]
    assert found == [True, False, True, False, True]
    assert len(names) == 5
    names.release_pool(HERE)
    names.release_pool(THERE)
    assert len(names) == 0


def test_a_pools_end_frees_the_uids_of_what_the_pools_below_it_had_made() -> None:
    names = Names()
    root, below = "unix:///run/root.sock", "unix:///run/below.sock"
    names.reserve("its own", THERE, "1", (root, HERE))
    names.reserve("its child's", below, "2", (root, HERE, THERE))
    names.reserve("another's", THERE, "3", (root,))
    names.release_pool(HERE)
    assert len(names) == 1
    with pytest.raises(ActorAlreadyExist):
        names.reserve("another's", HERE, "4", (root,))


class Creations(RuleBasedStateMachine):
    """Creations that say what they have to say in any order, late, twice, or never."""

    tokens = st.sampled_from(["1", "2", "3", "4"])
    uids = st.sampled_from(["a", "b"])
    addresses = st.sampled_from([HERE, THERE])

    def __init__(self) -> None:
        super().__init__()
        self.names = Names()
        self.holder: dict[str, tuple[str, str]] = {}
        """Who has a uid: token and address."""
        self.ready: set[str] = set()

    @rule(uid=uids, address=addresses, token=tokens)
    def reserve(self, uid: str, address: str, token: str) -> None:
        if uid in self.holder:
            with pytest.raises(ActorAlreadyExist):
                self.names.reserve(uid, address, token)
        else:
            self.names.reserve(uid, address, token)
            self.holder[uid] = token, address

    @rule(uid=uids, address=addresses, token=tokens)
    def bind(self, uid: str, address: str, token: str) -> None:
        if self.holder.get(uid, (token, address)) == (token, address):
            self.names.bind(uid, token, Found(address, int(token)))
            if uid in self.holder:
                self.ready.add(uid)
        elif self.holder[uid][0] != token:
            self.names.bind(uid, token, Found(address, int(token)))

    @rule(uid=uids, token=tokens)
    def release(self, uid: str, token: str) -> None:
        self.names.release(uid, token)
        if uid in self.holder and self.holder[uid][0] == token:
            self._free(uid)

    @rule(address=addresses)
    def release_pool(self, address: str) -> None:
        self.names.release_pool(address)
        for uid, (_, where) in list(self.holder.items()):
            if where == address:
                self._free(uid)

    def _free(self, uid: str) -> None:
        del self.holder[uid]
        self.ready.discard(uid)

    @invariant()
    def each_uid_is_its_holders(self) -> None:
        assert len(self.names) == len(self.holder)
        for uid in ("a", "b"):
            found = self.names.find(uid)
            if uid in self.ready:
                token, address = self.holder[uid]
                assert found == Found(address, int(token))
            else:
                assert found is None


TestCreations = Creations.TestCase


# Children, which are started again

LAST = Ending(Exit("failed"), None)
KEPT = Traits(child=7)


def kept() -> Names:
    names = Names()
    names.reserve("child", HERE, "first")
    names.bind("child", "first", Found(HERE, 7, KEPT))
    return names


def test_the_uid_of_a_child_stays_taken_when_its_actor_ends() -> None:
    names = kept()
    names.release("child", "first")
    with pytest.raises(ActorAlreadyExist):
        names.reserve("child", THERE, "other")
    assert names.find("child") == Found(HERE, 7, KEPT), "it can be found, and waited for"
    assert names.find("child", ready=True) is None
    assert names.look("child", 7, seen=1) is None


def test_a_child_is_found_in_a_later_life_than_the_one_that_was_seen() -> None:
    names = kept()
    assert names.look("child", 7, seen=0) == (Found(HERE, 7, KEPT), None)
    assert names.look("child", 7, seen=1) is None
    names.renew("child", 7, THERE, "second", (), LAST)
    assert names.look("child", 7, seen=1) is None
    again = Found(THERE, 7, KEPT, life=2)
    names.bind("child", "second", again)
    assert names.look("child", 7, seen=1) == (again, LAST)


def test_the_death_of_its_pool_does_not_free_the_uid_of_a_child_and_that_of_its_supervisors_pool_does() -> (
    None
):
    names = Names()
    names.reserve("child", HERE, "first", (THERE,))
    names.bind("child", "first", Found(HERE, 7, KEPT))
    assert names.release_pool(HERE) == []
    assert names.find("child", ready=True) is None
    assert names.release_pool(THERE) == ["child"]
    assert names.look("child", 7, seen=1) == (None, None)


def test_a_late_end_of_the_first_does_not_touch_the_second() -> None:
    names = kept()
    names.renew("child", 7, THERE, "second", (), LAST)
    names.bind("child", "second", Found(THERE, 7, KEPT, life=2))
    names.release("child", "first")
    names.release_pool(HERE)
    assert names.find("child", ready=True) is not None


def test_what_was_dropped_is_free_and_how_it_ended_is_remembered_for_a_while() -> None:
    names = kept()
    names.drop("child", 8, LAST)
    assert names.find("child") is not None, "that was another child"
    names.drop("child", 7, LAST)
    assert names.look("child", 7, seen=1) == (None, LAST)
    names.reserve("child", HERE, "other")
    with pytest.raises(ActorAlreadyExist):
        names.renew("child", 7, THERE, "second", (), LAST)
    for number in range(2000):
        names.reserve(f"{number}", HERE, "token")
        names.bind(f"{number}", "token", Found(HERE, 9, Traits(child=9)))
        names.drop(f"{number}", 9, LAST)
    assert names.look("child", 7, seen=1) == (None, None)
    assert len(names) == 1
