from __future__ import annotations

import typing

import pytest

from xoscar_sc.errors import ProtocolError
from xoscar_sc.protocol import TABLE, AnyMessage, Hello, Message, State, legal

MESSAGES: tuple[type[Message], ...] = typing.get_args(AnyMessage)
OTHERS = [message for message in MESSAGES if message is not Hello]


def test_every_message_has_a_row() -> None:
    assert set(TABLE) == set(MESSAGES)


def test_every_row_can_be_reached() -> None:
    reached = {State.NEW, State.CLOSING}  # a side closes of its own accord
    reached |= {after for row in TABLE.values() for after in row.values()}
    assert reached == set(State)


def test_hello_comes_first_and_once() -> None:
    assert legal(State.NEW, Hello) is State.OPEN
    for state in (State.OPEN, State.CLOSING):
        with pytest.raises(ProtocolError, match="Hello is not legal"):
            legal(state, Hello)


@pytest.mark.parametrize("message", OTHERS)
def test_nothing_is_legal_before_hello(message: type[Message]) -> None:
    with pytest.raises(
        ProtocolError, match=f"{message.__name__} is not legal on a connection that is before Hello"
    ):
        legal(State.NEW, message)


@pytest.mark.parametrize("message", OTHERS)
@pytest.mark.parametrize("state", [State.OPEN, State.CLOSING])
def test_everything_else_leaves_the_state_as_it_is(state: State, message: type[Message]) -> None:
    assert legal(state, message) is state
