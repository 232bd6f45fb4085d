"""Values to bytes and back, type for type.

Three ways, cheapest first: msgpack for plain scalars, pickle, and cloudpickle for what only this process could
import (``__main__``, lambdas, local classes). The first byte tells them apart: :data:`PICKLE` begins every pickle,
cloudpickle's too, and none of the scalars.
"""

from __future__ import annotations

import gc
import io
import pickle
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import msgspec

from xoscar_sc.errors import SerializationError
from xoscar_sc.serialize.for_numpy import dump_dates, has_dates

PICKLE: Final = 0x80
"""The first byte of a pickle, which has others behind it; alone it is msgpack's empty map."""
OUT_OF_BAND: Final = 64 << 10
"""Buffers of at least this many bytes become segments; smaller ones are cheaper to copy than to send apart."""

_NOTED: Final = "__msgspec_cache__"

SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
"""What msgpack gives back as it was. Exact types only: an ``IntEnum`` is not an ``int``."""

Segments: TypeAlias = "list[memoryview] | None"
Buffers: TypeAlias = "Sequence[bytearray | memoryview]"

pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_unpack: Callable[[Any], Any] = msgspec.msgpack.Decoder().decode


def dumps(value: object, segments: Segments = None) -> bytes:
    """Encode ``value``.

    Args:
        value: anything that pickle or cloudpickle takes; also a memoryview, of a format that Python itself can read.
        segments: large buffers are added here as flat views of the value's own memory, not copied: they must not
            change until they have been sent. Without it they are part of the result.

    Raises:
        SerializationError: some part of it cannot be encoded; ``segments`` is as before.
    """
    if type(value) in SCALARS and (segments is None or set_apart(value) is value):
        try:
            return pack(value)
        except (OverflowError, UnicodeEncodeError):
            pass  # an integer of more than 64 bits, a lone surrogate
    return dump_pickle(value if segments is None else set_apart(value), segments)


def loads(body: bytes | bytearray | memoryview, segments: Buffers = ()) -> object:
    """Decode what :func:`dumps` made; a value may go on using the memory of its segments.

    Raises:
        SerializationError: it cannot be decoded here, for example because a module is missing.
    """
    try:
        if body[0] == PICKLE and len(body) > 1:
            return pickle.loads(body, buffers=segments)
        return _unpack(body)
    except Exception as error:  # a pickle may run anything
        raise SerializationError(f"cannot decode a value: {describe(error)}") from error


def dump_pickle(value: object, segments: Segments = None) -> bytes:
    """Pickle ``value``, by value where its types or functions cannot be imported elsewhere."""
    at = 0 if segments is None else len(segments)
    callback = None if segments is None else _collector(segments)
    try:
        body = pickle.dumps(value, 5, buffer_callback=callback)
        if b"__main__" not in body:
            if segments is None or callback is None or len(body) < OUT_OF_BAND or not has_dates(body):
                return body
            del segments[at:]
            return dump_dates(value, callback)
    except Exception:  # noqa: S110 - whatever a type's own reduction raises, cloudpickle may do better
        pass
    if segments is not None:
        del segments[at:]
    try:
        stream = io.BytesIO()
        _by_value()(stream, 5, buffer_callback=callback).dump(value)
        return stream.getvalue()
    except Exception as error:  # as above
        if segments is not None:
            del segments[at:]
        raise SerializationError(f"cannot encode a value of {name_of(value)}: {describe(error)}") from error


def set_apart(value: object) -> object:
    """Wrap what pickle would copy or does not take, large bytes and views; return anything else as it is."""
    kind = type(value)
    if kind is memoryview:
        return _View(value)  # type: ignore[arg-type]
    if (kind is bytes or kind is bytearray) and len(value) >= OUT_OF_BAND:  # type: ignore[arg-type]
        return _Apart(value)  # type: ignore[arg-type]
    return value


def name_of(value: object) -> str:
    """The type of ``value``, for messages."""
    return f"type {type(value).__module__}.{type(value).__qualname__}"


def describe(error: BaseException) -> str:
    """An exception in a line; its own ``str()`` may fail."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


class _Apart:
    """Stands for bytes or a bytearray in a pickle, and is unpickled as that."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        make = bytes if type(self.value) is bytes else _as_bytearray
        return make, (pickle.PickleBuffer(self.value),)


class _View:
    """Stands for a memoryview, which pickle refuses, and is unpickled as one; cloudpickle would take longer."""

    __slots__ = ("value",)

    def __init__(self, value: memoryview) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce_view(self.value)


def _as_bytearray(buffer: bytes | bytearray | memoryview) -> bytearray:
    return buffer if type(buffer) is bytearray else bytearray(buffer)


def _as_view(buffer: bytes | bytearray | memoryview, code: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(buffer)
    if code == "B" and shape == view.shape:
        return view
    return view.cast(code, shape)  # type: ignore[call-overload, no-any-return]


def _reduce_view(view: memoryview) -> tuple[Any, ...]:
    shape = view.shape or ()
    try:
        flat: memoryview | bytes | bytearray
        if view.c_contiguous and view.nbytes:
            flat = view.cast("B")
        else:  # its items in order; where they were is nothing that a receiver could have
            flat = view.tobytes() if view.readonly else bytearray(view.tobytes())
        _as_view(flat, view.format, shape)
    except (BufferError, TypeError, ValueError) as error:
        raise SerializationError(f"this memoryview cannot be encoded: {error}; cast it to bytes") from None
    return _as_view, (pickle.PickleBuffer(flat), view.format, shape)


def _refuse_file(file: io.TextIOWrapper) -> tuple[Any, ...]:
    raise SerializationError(f"an open file cannot be encoded; send its path ({file.name!r})")


def _collector(segments: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    def in_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            # Not a view of a view: Python 3.11 crashes when it collects a memoryview of which there is another buffer.
            (owner,) = gc.get_referents(buffer) or (None,)
            view = owner.cast("B") if type(owner) is memoryview and owner.c_contiguous else buffer.raw()
        except (BufferError, TypeError):  # not contiguous, or empty
            return True
        if view.nbytes < OUT_OF_BAND:
            return True
        segments.append(view)
        return False

    return in_band


def _importable(cls: Any) -> bool:
    """Whether a class is found elsewhere by its name."""
    module = sys.modules.get(cls.__module__)
    if module is None or cls.__module__ == "__main__":
        return False
    found: object = module
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls


@cache
def _by_value() -> type[pickle.Pickler]:
    """Cloudpickle's pickler, with memoryviews; loaded when it is first needed."""
    import cloudpickle

    from xoscar_sc.serialize.structs import reduce_struct

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        # Cloudpickle's own rows for these two change the type: bytes, and a StringIO.
        dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(
            {memoryview: _reduce_view, io.TextIOWrapper: _refuse_file}
        )

        def reducer_override(self, value: Any) -> Any:
            # What msgspec has noted on a class of the user's cannot be encoded; it is noted again when it is missed.
            if isinstance(value, type) and _NOTED in vars(value):
                delattr(value, _NOTED)
            if isinstance(value, type) and issubclass(value, msgspec.Struct) and not _importable(value):
                return reduce_struct(value)
            return super().reducer_override(value)

    return Pickler
