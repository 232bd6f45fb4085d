"""Memory that several processes read at the same place: what users have put there with :func:`share`.

A piece of it is a memfd, mapped by each process that has got a part of it: by its owner first, and read-only by the
others. What lies in one is known by its address, so any view of it, of whichever library, is found again when it is
sent. The kernel counts who has a piece: it is gone when the last array in the last process is, however that came.
"""

from __future__ import annotations

import array
import errno
import fcntl
import mmap
import os
import sys
import weakref
from contextvars import ContextVar
from typing import Any, TypeVar, overload

from xoscar_sc.ipc.lending import UNTRACKED

A = TypeVar("A")

SMALLEST_PART = 64 << 10
"""Parts of fewer bytes are copied when they are sent: they cost less in the message."""
_FUTURE_WRITE = 0x10
"""``F_SEAL_FUTURE_WRITE``, which Python has no name for before 3.13: nobody may map it writable any more."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Shared:
    """One piece of memory, as this process has it mapped: for as long as anything here looks into it."""

    __slots__ = ("address", "descriptor", "key", "made", "memory", "size")

    def __init__(
        self, table: Table, memory: mmap.mmap, descriptor: int, key: tuple[int, int], *, made: bool
    ) -> None:
        self.made = made
        """By this process: it has got it from no other."""
        self.size = len(memory)
        self.address = address_of(memory)
        self.descriptor = descriptor
        """Its own, which is closed with it."""
        self.key = key
        self.memory = weakref.ref(memory, lambda _: table.ended(self))


class Table:
    """All pieces that this process has mapped."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[int, int], Shared] = {}
        """By device and inode, which name a memfd in all processes."""

    def __len__(self) -> int:
        return len(self._pieces)

    def find(self, view: memoryview) -> tuple[Shared, int] | None:
        """The piece that a flat buffer lies in, and where; None if it is not shared."""
        if len(view) < SMALLEST_PART or not self._pieces:
            return None
        address = address_of(view)
        for piece in list(self._pieces.values()):
            offset = address - piece.address
            # What has just been unmapped may be something else's address already: only a live mapping counts.
            if 0 <= offset <= piece.size - len(view) and piece.memory() is not None:
                return piece, offset
        return None

    def make(self, size: int) -> mmap.mmap:
        """A new piece that is writable here, and nowhere else.

        Raises:
            OSError: no memory, or no descriptor.
        """
        descriptor = os.memfd_create("xoscar-sc", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.posix_fallocate(descriptor, 0, size)
            memory = mmap.mmap(descriptor, size, **UNTRACKED)
            try:
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS | _FUTURE_WRITE)
            except OSError:  # a kernel before 5.1
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._add(memory, descriptor, made=True)
        except BaseException:
            os.close(descriptor)
            raise
        return memory

    def adopt(self, descriptor: int, size: int) -> mmap.mmap:
        """The piece that a peer has sent, which is mapped if it is not yet; the descriptor is this table's from now on.

        Raises:
            OSError: there is no room for it; the descriptor stays the caller's.
        """
        status = os.fstat(descriptor)
        known = self._pieces.get((status.st_dev, status.st_ino))
        memory = None if known is None else known.memory()
        if memory is not None and len(memory) >= size:
            os.close(descriptor)
            return memory
        memory = mmap.mmap(descriptor, size, prot=mmap.PROT_READ, **UNTRACKED)
        self._add(memory, descriptor, made=False)
        return memory

    def map_again(self, descriptor: int, size: int) -> mmap.mmap:
        """A piece that a peer has sent, and that nobody here has looked into for a while.

        Raises:
            OSError: there is no room for it.
        """
        another = os.dup(descriptor)
        try:
            return self.adopt(another, size)
        except BaseException:
            os.close(another)
            raise

    def _add(self, memory: mmap.mmap, descriptor: int, *, made: bool) -> None:
        status = os.fstat(descriptor)
        key = status.st_dev, status.st_ino
        self._pieces[key] = Shared(self, memory, descriptor, key, made=made)

    def ended(self, piece: Shared) -> None:
        """Nothing looks into a piece any more: called wherever the last to do so has ended, in any thread."""
        if self._pieces.get(piece.key) is piece:
            del self._pieces[piece.key]
        os.close(piece.descriptor)


_table: ContextVar[Table] = ContextVar("xoscar_sc.shared", default=Table())  # noqa: B039 - addresses are the process's


def table() -> Table:
    """The pieces of this process. It has one table, as it has one space of addresses, whichever runtimes are in it."""
    return _table.get()


def address_of(buffer: memoryview | mmap.mmap) -> int:
    """Where a contiguous buffer begins."""
    import ctypes

    described = (ctypes.c_void_p * 16)()  # a Py_buffer, which begins with the address and has ten fields
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(described), 0)
    try:
        return described[0] or 0
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(described))


@overload
def share(
    value: bytes | bytearray | memoryview | mmap.mmap | array.array[Any], *, writable: bool = False
) -> memoryview: ...
@overload
def share(value: A, *, writable: bool = False) -> A: ...
def share(value: Any, *, writable: bool = False) -> Any:
    """Copy data once to a place that other processes can read too: sent from there, it is not copied again.

    The result is used like the original. When it is sent to another pool of this host, or any contiguous part of it
    of at least 64 KiB, in whatever it is part of, the message only says where it lies. Every receiver looks at the same
    memory, read-only, and may send it on in the same way. In the same pool it is handed over as it is.

    The memory is freed when nothing in any process looks into it any more. A receiver's arrays stay valid when the
    sender has let go of its own, or has died.

    The copy is made at once, and holds up the event loop: a large one is better made in a thread, with
    ``anyio.to_thread.run_sync(xsc.share, array)``. Each shared value takes two descriptors in each process that has
    it: share a few large ones, and send their parts.

    Args:
        value: a NumPy array without Python objects in it, or anything with a contiguous buffer.
        writable: whoever has called this may go on writing into the result. Receivers see that, or have a copy from
            when it was sent: so write only to what nobody reads any more, after an answer, say.

    Returns:
        a NumPy array of the same type, shape and order, or a memoryview of the same format and shape; read-only
        unless ``writable``.

    Raises:
        TypeError: there is no such buffer, or it holds Python objects.
        OSError: there is no memory, or no descriptor; nothing is kept.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _share_array(numpy, value, writable)
    try:
        view = memoryview(value)
    except TypeError:
        raise TypeError(
            f"share() takes arrays and what has a buffer, not {type(value).__name__}; share the arrays in it"
        ) from None
    if not view.nbytes:
        return view if writable else view.toreadonly()
    try:
        raw = memoryview(view if view.c_contiguous else view.tobytes()).cast("B")
    except TypeError:  # a format that is not Python's own
        raw = memoryview(view.tobytes())
    if not writable and view.readonly and view.c_contiguous and table().find(raw) is not None:
        return view
    target = memoryview(_make(len(raw)))
    target[:] = raw
    if not writable:
        target = target.toreadonly()
    try:
        return target if _is_flat(view) else target.cast(view.format, view.shape)  # type: ignore[call-overload]
    except ValueError:
        text = f"share() cannot keep the format {view.format!r} of a memoryview; cast it to bytes"
        raise TypeError(text) from None


def _is_flat(view: memoryview) -> bool:
    return view.format == "B" and view.ndim == 1


def _share_array(numpy: Any, value: Any, writable: bool) -> Any:
    if value.dtype.hasobject:
        raise TypeError("share() takes no array of Python objects")
    if hasattr(value, "mask") and hasattr(value, "fill_value"):
        raise TypeError("share() takes no masked array; share its data and its mask")
    flags = value.flags
    if not writable and not flags.writeable and flags.forc and type(value) is numpy.ndarray:
        flat = value.reshape(-1, order="A").view(numpy.uint8)
        if table().find(memoryview(flat)) is not None:
            return value
    order = "F" if flags.fnc else "C"
    memory = memoryview(_make(value.nbytes))
    made = numpy.ndarray(value.shape, value.dtype, buffer=memory, order=order)
    made[...] = value
    if writable:
        return made
    if not value.nbytes:
        made.flags.writeable = False
        return made
    # Not from the view itself: NumPy would look through it, and let its flag be changed.
    flat = numpy.frombuffer(memory.toreadonly(), numpy.uint8)
    return numpy.ndarray(value.shape, value.dtype, buffer=flat, order=order)


def _make(size: int) -> mmap.mmap | bytearray:
    if not size:
        return bytearray()
    available = _available()
    try:
        if available is not None and size > available:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return table().make(size)
    except OSError as exc:
        what = "descriptor" if exc.errno in (errno.EMFILE, errno.ENFILE) else "memory"
        text = f"no {what} to share {size} bytes: {exc.strerror}"
        raise OSError(exc.errno, text) from exc


def _available() -> int | None:
    """Bytes of memory that can be had; to take more would not fail, but have some process killed."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except OSError:  # then it is for the kernel to say
        pass
    return None
