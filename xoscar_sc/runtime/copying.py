"""Bulk copies: from buffers and files of this process into those of other pools.

A copy is a dialogue with the other pool. Blocks go there, a few ahead of what has been written, so that neither side
waits for the other and memory is bounded; each is answered when it is in its place. Large blocks lie in memory that
both pools have, as all large buffers do.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from xoscar_sc.runtime.current import require_runtime
from xoscar_sc.runtime.dialogue import Context
from xoscar_sc.runtime.gathering import gather
from xoscar_sc.runtime.methods import context
from xoscar_sc.runtime.open_context import OpenContext
from xoscar_sc.runtime.ref import Target
from xoscar_sc.runtime.targets import AnyRef, BufferRef, FileObjectRef, check_file, flat, in_thread

BLOCK = 2 << 20
"""Bytes that go at a time, unless somebody says otherwise."""
AHEAD = 4
"""Blocks that are under way to one pool, at most."""

Progress: TypeAlias = "Callable[[int, int | None], object]"


class _Buffer:
    """A buffer that is copied from."""

    def __init__(self, view: memoryview) -> None:
        self._rest = view.toreadonly()
        self.size: int | None = view.nbytes

    async def block(self, size: int) -> memoryview:
        """The next bytes; none at the end."""
        block, self._rest = self._rest[:size], self._rest[size:]
        return block


class _File:
    """A file that is copied from, up to its end."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.size = _left(file)

    async def block(self, size: int) -> memoryview:
        """As of a buffer."""
        return memoryview(await in_thread(self._file.read, size) or b"")


async def copy_to(
    local_buffers: Sequence[Any],
    remote_refs: Sequence[AnyRef],
    block_size: int | None = None,
    *,
    progress: Progress | None = None,
) -> None:
    """Copy buffers and open files of this process into buffers and files of other pools.

    Each is copied from its beginning, a file from where it stands to its end. A target may be larger than what is
    copied into it: the rest of it stays as it is. What has come to a file has been flushed when this returns.

    Args:
        local_buffers: arrays, bytes, memoryviews, or files that are open for reading bytes.
        remote_refs: as many references, of :func:`buffer_ref` and :func:`file_object_ref`. Those of one pool are
            written one after the other, different pools at the same time.
        block_size: bytes that go at a time.
        progress: called with the bytes that are in their place, of all targets, and the bytes in all; None for that,
            if the size of a file cannot be known.

    Raises:
        ValueError: the lists differ in length; a buffer is too small for what is copied; a file is closed.
        TypeError: something is neither a buffer nor a file, or is no reference.
        ReferenceError: a target is gone.
        PoolDied: its pool is.
        OSError: a file cannot be read, or written.

    Cancellation: what has been written stays; nothing more is, when this is left.

    Source: xoscar, but for ``progress``.
    """
    if block_size is None:
        block_size = BLOCK
    if type(block_size) is not int or block_size < 1:
        raise ValueError(f"block_size= is {block_size!r}; it is a number of bytes, 1 or more")
    if len(local_buffers) != len(remote_refs):
        raise ValueError(f"{len(local_buffers)} buffers are to be copied into {len(remote_refs)}")
    sources = [_source(each) for each in local_buffers]
    by_address: dict[str, list[tuple[_Buffer | _File, AnyRef]]] = {}
    for number, (source, ref) in enumerate(zip(sources, remote_refs, strict=True)):
        if not isinstance(ref, (BufferRef, FileObjectRef)):
            raise TypeError(f"target {number} is {ref!r}; it is what buffer_ref() or file_object_ref() gives")
        if isinstance(ref, BufferRef) and source.size is not None and source.size > ref.size:
            raise ValueError(
                f"{source.size} bytes are to be copied into buffer {number}, which has {ref.size}"
            )
        by_address.setdefault(ref.address, []).append((source, ref))
    sizes = [each.size for each in sources]
    total = None if None in sizes else sum(filter(None, sizes))
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    copies = [partial(_copy, address, pairs, block_size, report) for address, pairs in by_address.items()]
    if len(copies) == 1:
        await copies[0]()
    else:
        await gather(copies)


async def _copy(
    address: str,
    pairs: list[tuple[_Buffer | _File, AnyRef]],
    block_size: int,
    report: Callable[[int], None],
) -> None:
    """Copy to the targets of one pool."""
    refs = [ref for _, ref in pairs]
    target = Target(address, "", 0)
    opened = OpenContext(target, "converse", (receive_blocks, (refs,), {}), {}, f"{address} copy_to()")
    async with opened as (ctx, _), ctx.open_stream(window=2 * AHEAD) as stream:
        under_way = 0
        for source, _ in pairs:
            while block := await source.block(block_size):
                if under_way == AHEAD:
                    report(await stream.receive())
                    under_way -= 1
                await stream.send(block)
                under_way += 1
            await stream.send(None)  # the next one
        await stream.send_eof()
        async for written in stream:
            report(written)
        await ctx.result()


@context
async def receive_blocks(ctx: Context, refs: list[AnyRef]) -> None:
    """The other side of a copy."""
    targets = require_runtime().targets
    sinks = [_sink(ref, targets.find(ref)) for ref in refs]
    await ctx.started()
    async with ctx.open_stream(window=AHEAD) as stream:
        number = 0
        async for block in stream:
            if block is None:
                number += 1
            else:
                await stream.send(await sinks[number].write(block))
        for sink in sinks:
            await sink.flush()


class _BufferSink:
    """A buffer that is copied into."""

    def __init__(self, buffer: Any) -> None:
        self._view = flat(buffer)
        self._at = 0

    async def write(self, block: memoryview) -> int:
        end = self._at + len(block)
        if end > len(self._view):
            raise ValueError(
                f"more than {len(self._view)} bytes were to be copied into a buffer of that size"
            )
        self._view[self._at : end] = block
        self._at = end
        return len(block)

    async def flush(self) -> None:
        pass


class _FileSink:
    """A file that is copied into."""

    def __init__(self, file: Any) -> None:
        check_file(file, "write")
        self._file = file

    async def write(self, block: memoryview) -> int:
        rest = block
        while rest:  # a file without a buffer may take a part
            written = await in_thread(self._file.write, rest)
            rest = rest[len(rest) if written is None else written :]
        return len(block)

    async def flush(self) -> None:
        flush = getattr(self._file, "flush", None)
        if flush is not None:
            await in_thread(flush)


def _sink(ref: AnyRef, found: Any) -> _BufferSink | _FileSink:
    return _BufferSink(found) if isinstance(ref, BufferRef) else _FileSink(found)


def _source(value: Any) -> _Buffer | _File:
    try:
        return _Buffer(flat(value))
    except TypeError:
        if not callable(getattr(value, "read", None)):
            raise
    check_file(value, "read")
    return _File(value)


def _left(file: Any) -> int | None:
    """Bytes up to the end of a file; None if that cannot be told."""
    inner = getattr(file, "wrapped", file)
    try:
        at: int = inner.tell()
        if isinstance(inner, io.BytesIO):
            return max(inner.getbuffer().nbytes - at, 0)
        return max(os.fstat(inner.fileno()).st_size - at, 0)
    except (AttributeError, OSError, TypeError, ValueError):
        return None
