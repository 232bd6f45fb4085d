"""Who is let in by a handshake, as values: whatever is changed on the way, nobody is who does not know the secret."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xoscar_sc.errors import AuthenticationError, ProtocolError
from xoscar_sc.protocol import (
    HANDSHAKE_HEAD,
    MAX_HANDSHAKE,
    NONCE,
    VERSION,
    Challenge,
    ClientHandshake,
    Knock,
    Proof,
    Refusal,
    ServerHandshake,
    Welcome,
    heard,
    said,
    said_length,
)

KEY = b"sixteen bytes or more"
OURS, THEIRS = bytes(range(32)), bytes(range(32, 64))


def knock_of(**changes: Any) -> Knock:
    return msgspec.structs.replace(Knock(VERSION, OURS, "client", "tree/1", "session"), **changes)


def challenge_of(**changes: Any) -> Challenge:
    return msgspec.structs.replace(Challenge(VERSION, THEIRS, "secret", "root", "tree/0"), **changes)


def welcome_of(**changes: Any) -> Welcome:
    fresh = Welcome(b"", "tree", "/run/tree", "tcp://127.0.0.1:7000", False, 30.0)
    return msgspec.structs.replace(fresh, **changes)


def body(frame: bytes) -> bytes:
    """What a driver hands on of a frame."""
    assert said_length(frame[:HANDSHAKE_HEAD]) == len(frame) - 2
    return frame[2:]


@dataclass
class Outcome:
    frames: list[bytes]
    let_in: bool
    """The server has said welcome."""
    believed: bool
    """The client has taken it."""


def converse(
    client: ClientHandshake, server: ServerHandshake, change: dict[int, Any] | None = None
) -> Outcome:
    """Carry a handshake out, and change frames on the way, by their numbers."""
    frames: list[bytes] = []

    def carried(frame: bytes) -> bytes:
        frames.append(frame)
        data = body(frame)
        return (change or {}).get(len(frames) - 1, lambda same: same)(data)

    let_in = False
    try:
        proof = client.challenged(carried(server.knocked(carried(client.knock()))))
        welcome = server.proved(carried(proof))
        let_in = True
        client.welcomed(carried(welcome))
    except (AuthenticationError, ProtocolError):
        return Outcome(frames, let_in, believed=False)
    return Outcome(frames, let_in, believed=True)


def both(client_key: bytes | None = KEY, server_key: bytes | None = KEY) -> Any:
    method = "secret" if server_key else "none"
    client = ClientHandshake(client_key, knock_of())
    return client, ServerHandshake(server_key, challenge_of(method=method), welcome_of())


# What is written

GOLDEN = [
    "440096a9" + b"xsc-knock".hex() + "01c420" + OURS.hex()
    + "a6" + b"client".hex() + "a6" + b"tree/1".hex() + "a7" + b"session".hex(),
    "450096ad" + b"xsc-challenge".hex() + "01c420" + THEIRS.hex()
    + "a6" + b"secret".hex() + "a4" + b"root".hex() + "a6" + b"tree/0".hex(),
]  # fmt: skip


def test_what_is_said_first_is_written_like_this() -> None:
    outcome = converse(*both())
    assert [frame.hex() for frame in outcome.frames[:2]] == GOLDEN


def test_the_codes_are_these() -> None:
    """Worked out here by hand, from what the file says of them."""

    def code(role: str, *parts: bytes) -> bytes:
        total = b""
        for part in (f"xoscar_sc {VERSION} {role}".encode(), *parts):
            total += len(part).to_bytes(4, "little") + part
        return hmac.digest(KEY, total, "sha256")

    knock, challenge, proof, welcome = map(body, converse(*both()).frames)
    assert heard(proof) == Proof(code("client", knock, challenge))
    assert heard(welcome) == welcome_of(code=code("server", knock, challenge, body(said(welcome_of()))))


def test_both_sides_know_the_same_in_the_end() -> None:
    client, server = both()
    outcome = converse(client, server)
    assert outcome.believed
    assert server.client == knock_of()
    assert len(outcome.frames) == 4
    assert max(map(len, outcome.frames)) < 200


def test_the_secret_is_in_no_frame() -> None:
    assert not any(KEY in frame for frame in converse(*both()).frames)


# Who is not let in


@pytest.mark.parametrize("other", [KEY + b"!", KEY[:-1], b"quite another secret", KEY.upper()])
def test_a_client_with_another_secret_is_not_let_in(other: bytes) -> None:
    client, server = both(client_key=other)
    proof = client.challenged(body(server.knocked(body(client.knock()))))
    with pytest.raises(AuthenticationError, match="the client does not know the secret"):
        server.proved(body(proof))


def test_a_server_that_does_not_know_the_secret_is_not_believed() -> None:
    client, server = both()
    client.challenged(body(server.knocked(body(client.knock()))))
    for code in (b"", bytes(32), heard(body(client.knock())).nonce):  # type: ignore[union-attr]
        with pytest.raises(AuthenticationError, match="the server does not know the secret"):
            client.welcomed(body(said(welcome_of(code=code))))


def test_a_proof_cannot_be_sent_back_to_where_it_came_from() -> None:
    client, server = both()
    proof = client.challenged(body(server.knocked(body(client.knock()))))
    made = heard(body(proof))
    assert isinstance(made, Proof)
    with pytest.raises(AuthenticationError):
        client.welcomed(body(said(welcome_of(code=made.code))))


def test_a_challenge_cannot_be_sent_back_to_where_it_came_from() -> None:
    client, _ = both()
    with pytest.raises(AuthenticationError, match="our own challenge"):
        client.challenged(body(said(challenge_of(nonce=OURS))))


def test_a_client_cannot_let_the_server_answer_its_own_challenge() -> None:
    """Who does not know the secret opens two conversations, and puts what it hears in one into the other."""
    _, first = both()
    _, second = both()
    challenge = heard(body(first.knocked(body(said(knock_of())))))
    assert isinstance(challenge, Challenge)
    second.knocked(body(said(knock_of(nonce=challenge.nonce))))
    for code in (b"", bytes(32), challenge.nonce):
        with pytest.raises(AuthenticationError):
            first.proved(body(said(Proof(code))))


def test_a_conversation_that_was_overheard_cannot_be_used_again() -> None:
    outcome = converse(*both())
    again = ServerHandshake(KEY, challenge_of(nonce=bytes(32)), welcome_of())
    again.knocked(body(outcome.frames[0]))
    with pytest.raises(AuthenticationError):
        again.proved(body(outcome.frames[2]))
    fresh = ClientHandshake(KEY, knock_of(nonce=bytes(32)))
    fresh.challenged(body(outcome.frames[1]))
    with pytest.raises(AuthenticationError):
        fresh.welcomed(body(outcome.frames[3]))


@pytest.mark.parametrize(
    "changes", [{"pool": "other"}, {"incarnation": "tree/2"}, {"session": "other"}, {"nonce": bytes(32)}]
)
def test_a_proof_is_good_for_one_client_only(changes: dict[str, Any]) -> None:
    outcome = converse(*both())
    server = both()[1]
    server.knocked(body(said(knock_of(**changes))))
    with pytest.raises(AuthenticationError):
        server.proved(body(outcome.frames[2]))


@pytest.mark.parametrize(
    "changes",
    [
        {"tree": "other"},
        {"directory": "/tmp"},
        {"address": "tcp://8.8.8.8:7000"},
        {"plain": True},
        {"lease": 1e9},
    ],
)
def test_what_a_client_has_to_know_is_the_servers_own_word(changes: dict[str, Any]) -> None:
    def changed(data: bytes) -> bytes:
        return body(said(msgspec.structs.replace(heard(data), **changes)))

    outcome = converse(*both(), {3: changed})
    assert outcome.let_in
    assert not outcome.believed


# Versions and methods


def test_another_version_is_told_on_both_sides() -> None:
    client, server = both()
    with pytest.raises(ProtocolError, match=f"client speaks version {VERSION + 1} .* and we {VERSION}"):
        server.knocked(body(said(knock_of(version=VERSION + 1))))
    with pytest.raises(ProtocolError, match=f"server speaks version {VERSION + 1} .* and we {VERSION}"):
        client.challenged(body(said(challenge_of(version=VERSION + 1))))


def test_a_server_cannot_talk_a_client_out_of_a_proof() -> None:
    client, server = both(server_key=None)
    with pytest.raises(AuthenticationError, match="does not ask for the secret"):
        client.challenged(body(server.knocked(body(client.knock()))))


def test_a_client_without_a_secret_is_told_that_it_needs_one() -> None:
    client, server = both(client_key=None)
    with pytest.raises(AuthenticationError, match="asks for a secret"):
        client.challenged(body(server.knocked(body(client.knock()))))


def test_a_client_cannot_talk_a_server_out_of_a_proof() -> None:
    server = both()[1]
    server.knocked(body(said(knock_of())))
    for code in (b"", bytes(32), b"none"):
        with pytest.raises(AuthenticationError):
            server.proved(body(said(Proof(code))))


def test_where_something_else_has_proved_both_no_code_is_made() -> None:
    outcome = converse(*both(client_key=None, server_key=None))
    assert outcome.believed
    assert heard(body(outcome.frames[2])) == Proof(b"")
    assert heard(body(outcome.frames[3])) == welcome_of()


# What makes no sense


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_frame_that_was_cut_short_is_no_greeting(at: int) -> None:
    length = len(body(converse(*both()).frames[at]))
    for cut in range(length):
        outcome = converse(*both(), {at: lambda data, cut=cut: data[:cut]})
        assert not outcome.believed
        assert outcome.let_in is (at == 3)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_what_follows_a_frame_is_no_part_of_it(at: int) -> None:
    outcome = converse(*both(), {at: lambda data: data + b"\0"})
    assert not outcome.believed


ALL = [knock_of(), challenge_of(), Proof(bytes(32)), welcome_of(), Refusal("no")]


@pytest.mark.parametrize("step", ["knocked", "challenged", "proved", "welcomed"])
@pytest.mark.parametrize("message", ALL, ids=lambda each: type(each).__name__)
def test_what_is_said_out_of_its_order_is_refused(step: str, message: Any) -> None:
    client, server = both()
    if step in ("proved", "welcomed"):
        client.challenged(body(server.knocked(body(client.knock()))))
    expected = {"knocked": Knock, "challenged": Challenge, "proved": Proof, "welcomed": Welcome}[step]
    side = server if step in ("knocked", "proved") else client
    if isinstance(message, expected):
        return
    error: Any = AuthenticationError if isinstance(message, Refusal) else ProtocolError
    with pytest.raises(error, match="refused: no" if isinstance(message, Refusal) else "was expected"):
        getattr(side, step)(body(said(message)))


@pytest.mark.parametrize(
    ("kind", "error"),
    [("protocol", ProtocolError), ("busy", ProtocolError), ("authentication", AuthenticationError)],
)
def test_a_refusal_says_why(kind: Any, error: type[Exception]) -> None:
    client, _ = both()
    with pytest.raises(error, match="refused: you are nobody"):
        client.challenged(body(said(Refusal("you are nobody", kind))))


@pytest.mark.parametrize(
    "head",
    [
        b"GET",
        b"\0\0\x96",
        b"\xff\xff\x96",
        (MAX_HANDSHAKE + 1).to_bytes(2, "little") + b"\x96",
        b"\x16\x03\x01",
        b"\x15\x03\x03",
        b"\x46\x00\xc1",
        b"\x46\x00\x80",
    ],
)
def test_what_begins_otherwise_is_known_by_three_bytes(head: bytes) -> None:
    assert len(head) == HANDSHAKE_HEAD
    with pytest.raises(ProtocolError, match="which no greeting does") as caught:
        said_length(head)
    assert ("TLS" in str(caught.value)) is (head[:2] in (b"\x16\x03", b"\x15\x03"))


def test_a_frame_of_the_greatest_length_is_one_and_a_longer_one_is_not_sent() -> None:
    assert said_length(MAX_HANDSHAKE.to_bytes(2, "little") + b"\x96") == MAX_HANDSHAKE
    with pytest.raises(ProtocolError, match="4096 are admitted"):
        said(knock_of(pool="x" * 4096))


@pytest.mark.parametrize(
    "message",
    [
        knock_of(nonce=bytes(NONCE - 1)),
        knock_of(nonce=bytes(NONCE + 1)),
        knock_of(pool="x" * 1025),
        challenge_of(nonce=b""),
        challenge_of(method="something"),
        Proof(bytes(33)),
        Refusal("x" * 513),
        Refusal("x", kind="other"),  # type: ignore[arg-type]
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_no_greeting(message: Any) -> None:
    with pytest.raises(ProtocolError, match="no greeting"):
        heard(body(said(message)))


@settings(max_examples=400, deadline=None)
@given(at=st.integers(0, 3), where=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_a_conversation_in_which_one_byte_is_changed_fails(at: int, where: int, bits: int) -> None:
    def changed(data: bytes) -> bytes:
        altered = bytearray(data)
        altered[where % len(data)] ^= bits
        return bytes(altered)

    outcome = converse(*both(), {at: changed})
    assert not outcome.believed
    if at < 3:
        assert not outcome.let_in


@settings(max_examples=300, deadline=None)
@given(
    at=st.integers(0, 3),
    where=st.integers(0, 10_000),
    what=st.sampled_from(["cut", "insert", "repeat", "replace"]),
    data=st.binary(min_size=1, max_size=40),
)
def test_a_conversation_that_is_changed_anyhow_fails_or_says_the_same(
    at: int, where: int, what: str, data: bytes
) -> None:
    meant: list[bool] = []

    def changed(original: bytes) -> bytes:
        begin = where % len(original)
        altered = {
            "cut": original[:begin] + original[begin + len(data) :],
            "insert": original[:begin] + data + original[begin:],
            "repeat": original[:begin] + original[begin : begin + len(data)] + original[begin:],
            "replace": original[:begin] + data + original[begin + len(data) :],
        }[what]
        try:  # some things can be written in several ways
            meant.append(heard(altered) == heard(original))
        except ProtocolError:
            meant.append(False)
        return altered

    outcome = converse(*both(), {at: changed})
    assert outcome.believed is meant[0]
    assert outcome.let_in is (meant[0] or at == 3)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), step=st.sampled_from(["knocked", "challenged", "proved", "welcomed"]))
def test_random_bytes_are_refused_in_every_state(data: bytes, step: str) -> None:
    client, server = both()
    if step in ("proved", "welcomed"):
        client.challenged(body(server.knocked(body(client.knock()))))
    side = server if step in ("knocked", "proved") else client
    with pytest.raises((ProtocolError, AuthenticationError)):
        getattr(side, step)(data)
