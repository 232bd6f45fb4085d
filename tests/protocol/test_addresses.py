from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xoscar_sc.protocol import (
    MAX_UNIX_PATH,
    ActorId,
    Address,
    LocalAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "address", "canonical"),
    [
        (
            "unix:///run/user/0/xoscar-sc/ab12/p1.sock",
            UnixAddress("/run/user/0/xoscar-sc/ab12/p1.sock"),
            "unix:///run/user/0/xoscar-sc/ab12/p1.sock",
        ),
        ("tcp://127.0.0.1:7000", TcpAddress("127.0.0.1", 7000), "tcp://127.0.0.1:7000"),
        ("127.0.0.1:7000", TcpAddress("127.0.0.1", 7000), "tcp://127.0.0.1:7000"),
        ("[::1]:7000", TcpAddress("::1", 7000), "tcp://[::1]:7000"),
        ("tcp://[fe80::1%eth0]:0", TcpAddress("fe80::1%eth0", 0), "tcp://[fe80::1%eth0]:0"),
        (
            "node-3.example.org:65535",
            TcpAddress("node-3.example.org", 65535),
            "tcp://node-3.example.org:65535",
        ),
        ("local://ab12", LocalAddress("ab12"), "local://ab12"),
    ],
)
def test_an_address_has_one_canonical_spelling(text: str, address: Address, canonical: str) -> None:
    assert parse_address(text) == address
    assert str(address) == canonical
    assert parse_address(canonical) == address
    assert {address: 1}[parse_address(text)] == 1


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "expected host:port"),
        ("localhost", "expected host:port"),
        ("::1:7000", "IPv6 host in brackets"),
        ("[::1]", "IPv6"),
        ("[::1:7000", "no IPv6 address"),
        ("[localhost]:1", "no IPv6 address"),
        (":7000", "no host's name"),
        ("a b:7000", "no host's name"),
        ("user@host:7000", "no host's name"),
        ("tcp://host/x:7000", "no host's name"),
        ("host:", "'' is no port"),
        ("host:70000", "'70000' is no port"),
        ("host:-1", "'-1' is no port"),
        ("host:٣", "is no port"),
        ("host:" + "9" * 5000, "is no port"),
        ("unix://p1.sock", "must be absolute"),
        ("unix:///a\0b", "must not contain NUL"),
        ("local://", "a pool's id"),
        ("local://a/b", "a pool's id"),
        ("http://host:80", "the scheme 'http' is unknown"),
    ],
)
def test_a_bad_address_is_an_error_that_says_what_is_wrong(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_address(text)


def test_the_path_of_a_unix_socket_is_counted_in_bytes() -> None:
    longest = "/" + "é" * ((MAX_UNIX_PATH - 1) // 2)
    assert parse_address(f"unix://{longest}") == UnixAddress(longest)
    with pytest.raises(ValueError, match="at most 107 bytes, this 109"):
        parse_address(f"unix://{longest}é")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(["", "unix://", "unix:///", "tcp://", "tcp://[", "local://"]), st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(scheme: str, text: str) -> None:
    try:
        address = parse_address(scheme + text)
    except ValueError:
        return
    assert parse_address(str(address)) == address


def test_an_actor_id_names_one_incarnation() -> None:
    assert str(ActorId("db", 3)) == "db#3"
    assert str(ActorId("db", 0)) == "db"
    assert len({ActorId("db", 1), ActorId("db", 1), ActorId("db", 2)}) == 2
