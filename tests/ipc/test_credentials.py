"""Secrets and certificates: where they come from, and that they go nowhere else."""

from __future__ import annotations

import copy
import os
import pickle
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ipc.certificates import Authority
from xoscar_sc.errors import AuthenticationError
from xoscar_sc.ipc import TLS, Secret, TreeDirectory, find_secret, keep_secret
from xoscar_sc.protocol import TcpAddress

VALUE = b"correct horse battery staple"
WHERE = TcpAddress("127.0.0.1", 7000)

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")


@pytest.fixture
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run"
    monkeypatch.setenv("XSC_RUNTIME_DIR", str(path))
    return path


def written(path: Path, data: bytes = VALUE, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


# A secret


def test_a_secret_is_bytes_or_text() -> None:
    assert Secret(VALUE) == Secret(VALUE.decode())
    assert Secret(VALUE).__key__() == VALUE
    assert Secret("ä" * 8).__key__() == "ä".encode() * 8
    for wrong in (None, 5, bytearray(VALUE), [VALUE]):
        with pytest.raises(TypeError, match=f"not {type(wrong).__name__}"):
            Secret(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [b"", b"x" * 15, "ä" * 7, b"x" * 15 + b" " * 20, b"x" * 4097])
def test_a_secret_that_is_too_short_or_too_long_is_refused_and_not_shown(value: Any) -> None:
    with pytest.raises(ValueError, match="from 16 to 4096 bytes") as caught:
        Secret(value)
    assert "x" * 10 not in str(caught.value)


def test_white_space_at_the_ends_of_a_secret_does_not_count() -> None:
    assert Secret(b" \n" + VALUE + b"\r\n") == Secret(VALUE)


def test_two_secrets_are_the_same_if_their_bytes_are() -> None:
    assert Secret(VALUE) != Secret(VALUE + b"!")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE), Secret(VALUE + b"!")}) == 2


def test_what_is_generated_is_new_each_time() -> None:
    made = {Secret.generate() for _ in range(100)}
    assert len(made) == 100
    assert min(len(each.__key__()) for each in made) >= 32


def test_a_secret_shows_nothing_of_itself() -> None:
    secret = Secret(VALUE)
    for text in (repr(secret), str(secret), f"{secret}", repr([secret]), repr({"auth": secret})):
        assert "horse" not in text
        assert "28 bytes" in text
    assert not hasattr(secret, "__dict__")


def test_a_secret_can_be_sent_to_a_pool_of_ones_own() -> None:
    assert pickle.loads(pickle.dumps(Secret(VALUE))) == Secret(VALUE)
    assert copy.deepcopy(Secret(VALUE)) == Secret(VALUE)


# In a file


def test_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    assert Secret.from_file(written(tmp_path / "key")) == Secret(VALUE)
    assert Secret.from_file(str(written(tmp_path / "lines", VALUE + b"\r\n"))) == Secret(VALUE)
    assert Secret.from_file(written(tmp_path / "read only", mode=0o400)) == Secret(VALUE)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o620, 0o601, 0o610, 0o666])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "key", mode=mode)
    with pytest.raises(AuthenticationError, match="chmod 600"):
        Secret.from_file(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(AuthenticationError, match="chmod 600"):
        Secret.from_file(link)


@as_root
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "key")
    os.chown(path, 12345, 12345)
    with pytest.raises(AuthenticationError, match="belongs to user 12345"):
        Secret.from_file(path)


def test_what_counts_is_the_file_behind_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(written(tmp_path / "key"))
    assert Secret.from_file(link) == Secret(VALUE)


def test_no_file_and_no_secret_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Secret.from_file(tmp_path / "none")
    with pytest.raises(OSError, match="directory"):
        Secret.from_file(tmp_path)
    with pytest.raises(ValueError, match="from 16 to 4096"):
        Secret.from_file(written(tmp_path / "empty", b"\n"))
    with pytest.raises(ValueError, match="longer than 4096"):
        Secret.from_file(written(tmp_path / "long", b"x" * 4097))


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    with pytest.raises(AuthenticationError, match="no regular file"):
        Secret.from_file(path)


def test_a_device_is_no_file() -> None:
    with pytest.raises(AuthenticationError, match="no regular file"):
        Secret.from_file("/dev/zero")


def test_a_secret_that_was_saved_is_read_again(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        for number, secret in enumerate([Secret.generate(), Secret(b"\n" + bytes(range(32)) + b" ")]):
            path = tmp_path / str(number)
            secret.save(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert Secret.from_file(path) == secret
    finally:
        os.umask(old)


def test_nothing_is_overwritten_by_a_secret(tmp_path: Path) -> None:
    path = written(tmp_path / "there", b"something")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for place in (path, link):
        with pytest.raises(FileExistsError):
            Secret.generate().save(place)
    assert path.read_bytes() == b"something"
    assert not (tmp_path / "elsewhere").exists()


# Through a descriptor


def test_a_secret_is_read_from_a_descriptor_which_is_closed() -> None:
    reading, writing = os.pipe()
    os.write(writing, VALUE + b"\n")
    os.close(writing)
    assert Secret.from_descriptor(reading) == Secret(VALUE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 4097])
def test_a_descriptor_without_a_secret_is_an_error_and_closed(data: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    with pytest.raises(ValueError, match="4096"):
        Secret.from_descriptor(reading)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


def test_a_descriptor_is_a_number(tmp_path: Path) -> None:
    path = written(tmp_path / "key", mode=0o666)
    with pytest.raises(TypeError, match="not str"):
        Secret.from_descriptor(str(path))  # type: ignore[arg-type]


# The secret of a tree on loopback


@contextmanager
def tree() -> Iterator[TreeDirectory]:
    """The directory of a program that lives."""
    directory = TreeDirectory()
    directory.create()
    try:
        yield directory
    finally:
        directory.remove()


def keep(directory: TreeDirectory, address: TcpAddress = WHERE) -> tuple[Secret, Path]:
    secret = Secret.generate()
    return secret, keep_secret(str(directory.path), address, secret)[0]


def test_a_trees_own_secret_is_found_by_its_address(runtime_dir: Path) -> None:
    six = TcpAddress("::1", 7000)
    with tree() as directory:
        secret, path = keep(directory)
        other, _ = keep(directory, six)
        assert path.parent.parent == runtime_dir
        for each in (runtime_dir, path.parent):
            assert stat.S_IMODE(each.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert find_secret(six) == other
        assert find_secret(WHERE) == secret
    assert [*runtime_dir.iterdir()] == []


def test_the_secret_of_a_tree_that_was_killed_is_not_taken_for_another(runtime_dir: Path) -> None:
    with tree() as killed, tree() as alive:
        keep(killed)
        os.close(killed._lock)  # type: ignore[arg-type]
        killed._lock = None
        with pytest.raises(AuthenticationError, match="give auth="):
            find_secret(WHERE)
        secret, _ = keep(alive)
        assert find_secret(WHERE) == secret
    with tree():
        assert not killed.path.exists()


def test_where_there_is_no_secret_the_error_says_what_to_give(runtime_dir: Path) -> None:
    with pytest.raises(AuthenticationError, match="give auth="):
        find_secret(WHERE)
    with tree() as directory:
        _, path = keep(directory)
        path.write_bytes(b"")  # it is being written
        with pytest.raises(AuthenticationError, match="give auth="):
            find_secret(WHERE)
        path.write_bytes(VALUE)
        path.chmod(0o644)
        with pytest.raises(AuthenticationError, match="chmod 600"):
            find_secret(WHERE)


# Certificates


@pytest.mark.parametrize("missing", ["certificate", "key", "ca"])
def test_files_of_certificates_that_are_not_there_are_an_error_at_once(tmp_path: Path, missing: str) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.files()
    files = {"certificate": certificate, "key": key, "ca": authority.file, missing: tmp_path / "none"}
    with pytest.raises(FileNotFoundError):
        TLS(**files)


@pytest.mark.parametrize("garbage", ["certificate", "key", "ca"])
@pytest.mark.parametrize("data", [b"", b"garbage\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_files_of_certificates_that_are_garbage_are_an_error_at_once(
    tmp_path: Path, garbage: str, data: bytes
) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.files()
    files = {"certificate": certificate, "key": key, "ca": authority.file}
    files[garbage].write_bytes(data)
    with pytest.raises(ssl.SSLError):
        TLS(**files)


def test_a_key_of_another_certificate_is_an_error_at_once(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, _ = authority.files()
    _, key = authority.files()
    with pytest.raises(ssl.SSLError):
        TLS(certificate, key, authority.file)


def test_certificates_can_be_given_to_a_pool_which_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "ca")
    monkeypatch.chdir(tmp_path / "ca")
    certificate, key = authority.files()
    tls = TLS(certificate.name, key.name, "ca.pem", server_name="door")
    monkeypatch.chdir("/")
    sent = pickle.loads(pickle.dumps(tls))
    assert sent.__context__(server=False).verify_mode is ssl.CERT_REQUIRED
    assert sent.__named__("host") == "door"
    assert {sent} == {tls}
    assert sent != TLS(tmp_path / "ca" / certificate.name, key, authority.file)
    assert repr(sent) == f"TLS({str(certificate)!r})"


def test_nothing_older_than_tls_1_3_is_spoken_and_both_sides_show_a_certificate(tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").tls()
    for server in (True, False):
        context = tls.__context__(server=server)
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname is not server
