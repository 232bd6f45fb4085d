"""Buffers and open files of this pool that others may copy into, and the references that name them.

Source: xoscar's manner.
"""

from __future__ import annotations

import inspect
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import msgspec

from xoscar_sc.errors import XoscarError
from xoscar_sc.runtime.current import require_runtime, running_runtime


class BufferRef(msgspec.Struct, frozen=True):
    """A buffer of some pool's, which :func:`copy_to` writes into. A value: send it to whoever is to do that."""

    address: str
    """Of the pool."""
    uid: int
    size: int
    """In bytes."""

    def release(self) -> None:
        """Let go of the buffer, in its pool: nobody can write into it any more. Elsewhere nothing happens."""
        _release(self)


class FileObjectRef(msgspec.Struct, frozen=True):
    """An open file of some pool's, which :func:`copy_to` writes to; see :class:`BufferRef`."""

    address: str
    uid: int

    def release(self) -> None:
        """Let go of the file, in its pool; it stays open. Elsewhere nothing happens."""
        _release(self)


AnyRef = BufferRef | FileObjectRef


def buffer_ref(address: str, buffer: Any) -> BufferRef:
    """A reference to a buffer of this pool, into which others may copy.

    It is good for as long as the object lives, which it does not keep alive: keep an array that you have made for it,
    and not only the buffer below. A ``bytearray``, of which Python cannot tell when it goes, is kept up to
    :meth:`BufferRef.release`.

    Args:
        address: of this pool: ``self.address`` in an actor, ``xsc.current_pool().address`` elsewhere.
        buffer: an array, a memoryview or anything else with a contiguous buffer that can be written to.

    Raises:
        TypeError: it has no buffer, or one with gaps.
        ValueError: it is read-only; or the address is another pool's.
    """
    view = flat(buffer)
    if view.readonly:
        raise ValueError(f"this {type(buffer).__name__} is read-only: nothing can be copied into it")
    return BufferRef(address, _add(address, buffer), view.nbytes)


def file_object_ref(address: str, file: Any) -> FileObjectRef:
    """A reference to an open file of this pool, to which others may copy: from where it stands, one after the other.

    It is good for as long as the object lives, and is open.

    Args:
        address: of this pool; see :func:`buffer_ref`.
        file: what ``open(..., "wb")`` gives, or anything with such a ``write``, which may be async.

    Raises:
        TypeError: it cannot be written to, or takes text.
        ValueError: it is closed, or open for reading only; or the address is another pool's.
    """
    check_file(file, "write")
    return FileObjectRef(address, _add(address, file))


def _add(address: str, value: Any) -> int:
    try:
        runtime = require_runtime()
    except RuntimeError as exc:  # not even an event loop
        raise XoscarError(f"no pool nursery is open here: {exc}") from None
    if address != runtime.address:
        raise ValueError(
            f"a reference is made in the pool of what it names: {runtime.address}, and not {address}"
        )
    return runtime.targets.add(runtime.serial(), value)


def _release(ref: AnyRef) -> None:
    runtime = running_runtime()
    if runtime is not None and runtime.address == ref.address:
        runtime.targets.release(ref.uid)


class Targets:
    """The buffers and files of one pool that have references."""

    def __init__(self) -> None:
        self._found: dict[int, Callable[[], Any]] = {}

    def add(self, uid: int, value: Any) -> int:
        """Remember an object for as long as it lives."""
        try:
            # It may end in any thread; to take a key out of a dict is one step.
            self._found[uid] = weakref.ref(value, lambda _: self.release(uid))
        except TypeError:
            self._found[uid] = lambda: value
        return uid

    def release(self, uid: int) -> None:
        """Forget an object."""
        self._found.pop(uid, None)

    def find(self, ref: AnyRef) -> Any:
        """The object of a reference.

        Raises:
            ReferenceError: it is gone.
        """
        get = self._found.get(ref.uid)
        value = None if get is None else get()
        if value is None:
            kind = "buffer" if isinstance(ref, BufferRef) else "file"
            raise ReferenceError(f"the {kind} that this reference names is gone, or was released")
        return value

    def __len__(self) -> int:
        return len(self._found)


def flat(buffer: Any) -> memoryview:
    """All bytes of a contiguous buffer.

    Raises:
        TypeError: there is none.
    """
    if getattr(getattr(buffer, "dtype", None), "kind", "") in ("m", "M"):  # NumPy's dates export none
        buffer = buffer.view("i8")
    try:
        if type(buffer) is memoryview and buffer.c_contiguous and buffer.nbytes:
            return buffer.cast("B")  # not a view of a view: see xoscar_sc.serialize
        return pickle.PickleBuffer(buffer).raw()
    except (TypeError, BufferError, ValueError) as exc:
        raise TypeError(f"{type(buffer).__name__} is no contiguous buffer: {exc}") from None


def check_file(file: Any, verb: str) -> None:
    """Make sure that a file is open, for bytes, and for reading or writing.

    Args:
        file: an open file of any kind.
        verb: ``"read"`` or ``"write"``.

    Raises:
        TypeError, ValueError: it is not.
    """
    inner = getattr(file, "wrapped", file)  # of an async one
    if not callable(getattr(file, verb, None)):
        raise TypeError(f"{type(file).__name__} is neither a buffer nor an open file: it has no {verb}()")
    if isinstance(inner, io.TextIOBase):
        raise TypeError("this file is open as text; open it as bytes")
    if getattr(inner, "closed", False) is True:
        raise ValueError("this file is closed")
    able = getattr(inner, "readable" if verb == "read" else "writable", None)
    if callable(able) and not inspect.iscoroutinefunction(able) and not able():
        raise ValueError(f"this file is not open for {'reading' if verb == 'read' else 'writing'}")


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call a file's method, which may block, or be async.

    Cancellation: a call that blocks is waited for.
    """
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    return await anyio.to_thread.run_sync(function, *args)
