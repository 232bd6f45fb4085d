from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from xoscar_sc.errors import RuntimeDirError
from xoscar_sc.ipc import TreeDirectory
from xoscar_sc.ipc.rundir import base_directory

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give things away")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "base"
    monkeypatch.setenv("XSC_RUNTIME_DIR", str(directory))
    return directory


def dead_tree(base: Path, name: str = "dead") -> Path:
    """What a killed program leaves: its lock is free."""
    directory = base / name
    directory.mkdir(parents=True, mode=0o700)
    base.chmod(0o700)
    (directory / "lock").touch()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(directory / "root.sock"))
    return directory


# Where it is

RUN_USER = f"/run/user/{os.getuid()}"


@pytest.mark.parametrize(
    ("own", "xdg", "run_user", "expected"),
    [
        ("/own", "/xdg", True, "/own"),
        (None, "/xdg", True, "/xdg/xoscar-sc"),
        ("", "/xdg", True, "/xdg/xoscar-sc"),
        (None, None, True, f"{RUN_USER}/xoscar-sc"),
        (None, "", True, f"{RUN_USER}/xoscar-sc"),
        (None, None, False, f"/var/tmp/xoscar-sc-{os.getuid()}"),
    ],
)
def test_where_the_directory_is(
    own: str | None, xdg: str | None, run_user: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in [("XSC_RUNTIME_DIR", own), ("XDG_RUNTIME_DIR", xdg)]:
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.access", lambda path, mode: run_user and (path, mode) == (RUN_USER, os.W_OK))
    monkeypatch.setattr("tempfile.tempdir", "/var/tmp")
    found = base_directory()
    # The leak checks read this variable when the test has ended.
    monkeypatch.undo()
    assert str(found) == expected


# A tree's directory


def test_naming_a_tree_makes_nothing(base: Path) -> None:
    tree = TreeDirectory()
    assert tree.path == base / tree.tree
    tree.remove()
    assert not base.exists()


def test_a_trees_directory_is_its_users_alone_and_locked(base: Path) -> None:
    tree = TreeDirectory()
    tree.create()
    for directory in (base, tree.path):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [path.name for path in tree.path.iterdir()] == ["lock"]
    assert [path.name for path in base.iterdir()] == [tree.tree]
    with (tree.path / "lock").open("r+") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    tree.remove()
    assert list(base.iterdir()) == []


def test_removing_takes_the_sockets_along_and_may_be_done_again(base: Path) -> None:
    tree = TreeDirectory()
    tree.create()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tree.path / "root.sock"))
    tree.remove()
    tree.remove()
    assert list(base.iterdir()) == []


def test_removing_what_somebody_else_has_removed_is_no_error(base: Path) -> None:
    tree = TreeDirectory()
    tree.create()
    (tree.path / "lock").unlink()
    tree.path.rmdir()
    tree.remove()


def test_two_trees_live_side_by_side(base: Path) -> None:
    one, other = TreeDirectory(), TreeDirectory()
    one.create()
    other.create()
    assert {path.name for path in base.iterdir()} == {one.tree, other.tree}
    assert one.tree != other.tree
    one.remove()
    assert other.path.exists()
    other.remove()


def test_the_lock_is_not_inherited(base: Path) -> None:
    tree = TreeDirectory()
    tree.create()
    assert tree._lock is not None
    assert not os.get_inheritable(tree._lock)
    tree.remove()


# What killed programs have left


def test_the_directory_of_a_dead_tree_is_swept_and_that_of_a_live_one_is_not(base: Path) -> None:
    live = TreeDirectory()
    live.create()
    dead = [dead_tree(base, f"dead-{n}") for n in range(3)]
    fresh = TreeDirectory()
    fresh.create()
    assert not any(directory.exists() for directory in dead)
    assert (live.path / "lock").exists()
    live.remove()
    fresh.remove()


def test_what_a_killed_program_has_left_is_swept(base: Path) -> None:
    program = (
        "import signal; from xoscar_sc.ipc import TreeDirectory\n"
        "tree = TreeDirectory(); tree.create(); print(tree.tree, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = base / process.stdout.readline().strip()
        tree = TreeDirectory()
        tree.create()
        assert left.exists()
        process.send_signal(signal.SIGKILL)
    tree.remove()
    tree = TreeDirectory()
    tree.create()
    assert not left.exists()
    tree.remove()


def test_a_directory_that_is_only_being_made_is_left_alone(base: Path) -> None:
    coming = dead_tree(base, ".coming")
    tree = TreeDirectory()
    tree.create()
    assert coming.exists()
    tree.remove()


def test_what_is_no_tree_is_left_alone(base: Path) -> None:
    base.mkdir(mode=0o700)
    (base / "file").touch()
    (base / "directory").mkdir()
    tree = TreeDirectory()
    tree.create()
    tree.remove()
    assert {path.name for path in base.iterdir()} == {"file", "directory"}


def test_a_dead_trees_directory_that_cannot_be_removed_stops_nobody(base: Path) -> None:
    dead = dead_tree(base)
    (dead / "a directory of somebody's").mkdir()
    tree = TreeDirectory()
    tree.create()
    assert dead.exists()
    assert tree.path.exists()
    tree.remove()


# What cannot be used


def refused() -> str:
    tree = TreeDirectory()
    with pytest.raises(RuntimeDirError) as found:
        tree.create()
    tree.remove()
    return str(found.value)


@as_root
def test_a_directory_of_another_user_is_refused(base: Path) -> None:
    base.mkdir(mode=0o700)
    os.chown(base, 65534, 65534)
    text = refused()
    assert "belongs to user 65534, and this is user 0; set XSC_RUNTIME_DIR" in text


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(base: Path, mode: int) -> None:
    base.mkdir()
    base.chmod(mode)
    assert f"others may write to the runtime directory {base}; chmod 700 it" in refused()


def test_a_link_is_refused_wherever_it_leads(base: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    base.symlink_to(tmp_path / "elsewhere")
    assert f"{base} is no directory" in refused()


def test_a_file_is_refused(base: Path) -> None:
    base.touch()
    assert "cannot be made" in refused()


def test_a_directory_in_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").touch()
    monkeypatch.setenv("XSC_RUNTIME_DIR", str(tmp_path / "f" / "b"))
    assert "cannot be made" in refused()


def test_a_path_that_leaves_no_room_for_a_sockets_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    monkeypatch.setenv("XSC_RUNTIME_DIR", str(long))
    text = refused()
    assert "too long a path" in text
    assert "107 are allowed; set XSC_RUNTIME_DIR" in text
    assert not long.exists()


def test_a_refused_directory_leaves_nothing_behind(base: Path) -> None:
    tree = TreeDirectory()
    (base / tree.tree / "in the way").mkdir(parents=True)
    base.chmod(0o700)
    with pytest.raises(RuntimeDirError, match="cannot be used"):
        tree.create()
    assert [path.name for path in base.iterdir()] == [tree.tree]
    tree.remove()
