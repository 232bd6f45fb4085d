"""The directory that holds a tree's sockets.

``$XSC_RUNTIME_DIR``, or ``xoscar-sc`` in the user's runtime directory, or a directory of the user's own in the
temporary one, holds a directory for each tree. A tree's directory has a lock file, locked for as long as its root
process lives, so that those of killed programs are known, and removed by the next program.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from xoscar_sc.errors import RuntimeDirError
from xoscar_sc.protocol import MAX_UNIX_PATH

_LOCK = "lock"
_UNBORN = 60.0
"""Seconds after which a directory without its final name is one whose program was killed before it had one."""
_NAME = len("/root-000000.sock")
"""Bytes of the longest name of a socket."""


def base_directory() -> Path:
    """Where the trees of this user have their directories."""
    if own := os.environ.get("XSC_RUNTIME_DIR"):
        return Path(own)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "xoscar-sc"
    if os.access(standard := f"/run/user/{os.getuid()}", os.W_OK):
        return Path(standard) / "xoscar-sc"
    return Path(tempfile.gettempdir()) / f"xoscar-sc-{os.getuid()}"


def _ensure(directory: Path) -> None:
    """Make a directory that only this user can change, or see that it is one."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True, parents=True)
        status = directory.lstat()
    except OSError as exc:
        raise RuntimeDirError(f"the runtime directory {directory} cannot be made: {exc}") from exc
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimeDirError(f"the runtime directory {directory} is no directory")
    if status.st_uid != os.getuid():
        raise RuntimeDirError(
            f"the runtime directory {directory} belongs to user {status.st_uid}, and this is user {os.getuid()}; "
            "set XSC_RUNTIME_DIR to a directory of your own"
        )
    if status.st_mode & 0o022:
        raise RuntimeDirError(f"others may write to the runtime directory {directory}; chmod 700 it")


class TreeDirectory:
    """One tree's directory. It is named at once, and made when the first socket needs it."""

    def __init__(self) -> None:
        self.tree = secrets.token_hex(4)
        self._base = base_directory()
        self.path = self._base / self.tree
        self._lock: int | None = None

    def create(self) -> None:
        """Make the directory, if it is not there yet, and hold it until :meth:`remove`.

        Raises:
            RuntimeDirError: it cannot be made, or is not safely this user's.
        """
        if self._lock is not None:
            return
        longest = len(os.fsencode(self.path)) + _NAME
        if longest > MAX_UNIX_PATH:
            raise RuntimeDirError(
                f"the runtime directory {self._base} has too long a path: that of a socket in it would have "
                f"{longest} bytes, and {MAX_UNIX_PATH} are allowed; set XSC_RUNTIME_DIR to a shorter one"
            )
        _ensure(self._base)
        fresh = self._base / f".{self.tree}"
        try:
            _sweep(self._base)
            # It gets its name only when it is locked, lest another program takes it for a dead one's.
            fresh.mkdir(mode=0o700)
            self._lock = os.open(fresh / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            fresh.rename(self.path)
        except OSError as exc:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
            with contextlib.suppress(OSError):
                remove(fresh)
            raise RuntimeDirError(f"the runtime directory {self._base} cannot be used: {exc}") from exc

    def remove(self) -> None:
        """Remove the directory and what is in it, if it was made."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            remove(self.path)


def find_in_trees(name: str) -> Iterator[Path]:
    """The files of this name in the directories of live trees of this user's."""
    base = base_directory()
    for path in base.glob(f"*/{name}"):
        try:
            descriptor = os.open(path.parent / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # its program holds it
            yield path
        finally:
            os.close(descriptor)


def remove(directory: Path) -> None:
    """Remove a tree's directory, which has sockets, secrets and a lock in it and nothing else."""
    try:
        for path in directory.iterdir():
            path.unlink(missing_ok=True)
        directory.rmdir()
    except FileNotFoundError:
        pass


def _sweep(base: Path) -> None:
    """Remove the directories of trees whose root process has died."""
    for lock in base.glob(f"*/{_LOCK}"):
        try:
            if lock.parent.name.startswith(".") and lock.stat().st_mtime > time.time() - _UNBORN:
                continue
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # it has just been removed, or got its name
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            with contextlib.suppress(OSError):  # what others have put there must not stop this program
                remove(lock.parent)
        finally:
            os.close(descriptor)
