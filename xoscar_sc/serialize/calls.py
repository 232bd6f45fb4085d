"""The arguments of a call, and of many calls, to bytes and back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import msgspec

from xoscar_sc.errors import SerializationError
from xoscar_sc.serialize.plain import load_arguments, load_batch
from xoscar_sc.serialize.values import (
    OUT_OF_BAND,
    PICKLE,
    SCALARS,
    Buffers,
    Segments,
    describe,
    dump_pickle,
    loads,
    pack,
    set_apart,
)

_MAP = 0x80
"""The first byte of a small map in msgpack, without the number of its pairs."""
_PICKLED = bytes([PICKLE])
_unpack_args: Callable[[Any], tuple[Any, ...]] = msgspec.msgpack.Decoder(tuple[Any, ...]).decode


def dumps_call(args: tuple[Any, ...], kwargs: dict[str, Any], segments: Segments = None) -> bytes:
    """Encode the arguments of a call; see :func:`~xoscar_sc.serialize.dumps`.

    Raises:
        SerializationError: an argument cannot be encoded; the text says which. ``segments`` is as before.
    """
    if not kwargs:
        for value in args:
            kind = type(value)
            if kind not in SCALARS or (kind is bytes and segments is not None and len(value) >= OUT_OF_BAND):
                break
        else:
            try:
                return pack(args)
            except (OverflowError, UnicodeEncodeError):
                pass  # an integer of more than 64 bits, a lone surrogate
    if segments is not None:
        args = tuple(map(set_apart, args))
        kwargs = {name: set_apart(value) for name, value in kwargs.items()} if kwargs else kwargs
    try:
        return dump_pickle((args, kwargs), segments)
    except SerializationError as error:
        raise _blame(args, kwargs) or error from error.__cause__


def loads_call(
    body: bytes | bytearray | memoryview, segments: Buffers = ()
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode what :func:`dumps_call` made.

    Raises:
        SerializationError: it cannot be decoded here.
    """
    try:
        if body[0] != PICKLE:
            if body[0] & 0xF0 == _MAP:
                named = load_arguments(body)
                return named.args, named.kwargs
            return _unpack_args(body), {}
        args, kwargs = pickle.loads(body, buffers=segments)
        return args, kwargs
    except Exception as error:  # a pickle may run anything
        raise SerializationError(f"cannot decode the arguments of a call: {describe(error)}") from error


def dumps_batch(calls: list[tuple[tuple[Any, ...], dict[str, Any]]], segments: Segments = None) -> bytes:
    """Encode the arguments of many calls.

    Raises:
        SerializationError: an argument cannot be encoded; the text says which, of which call.
    """
    try:
        return dump_pickle(calls, segments)
    except SerializationError as error:
        for index, (args, kwargs) in enumerate(calls):
            blamed = _blame(args, kwargs, f" of call {index}")
            if blamed is not None:
                raise blamed from error.__cause__
        raise


def loads_batch(
    body: bytes | bytearray | memoryview, segments: Buffers = ()
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Decode what :func:`dumps_batch` made.

    Raises:
        SerializationError: it cannot be decoded here.
    """
    if body[:1] != _PICKLED:
        try:
            return load_batch(body)
        except ValueError as error:
            raise SerializationError(f"cannot decode the arguments of a batch: {describe(error)}") from error
    return loads(body, segments)  # type: ignore[return-value]


def _blame(args: tuple[Any, ...], kwargs: dict[str, Any], of: str = "") -> SerializationError | None:
    """The error of the first argument that cannot be encoded by itself."""
    for name, value in (*enumerate(args, 1), *kwargs.items()):
        try:
            dump_pickle(value)
        except SerializationError as error:
            return SerializationError(f"argument {name}{of}: {error}")
    return None
