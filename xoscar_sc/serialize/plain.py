"""Values to bytes and back where nothing may be pickled: msgpack, and what msgspec makes of other types.

What comes out at the other end are the types of msgpack: a tuple, a set or a struct arrives as a list or a dict, unless
the method that takes it says which type it wants.
"""

from __future__ import annotations

from typing import Any

import msgspec

from xoscar_sc.errors import SerializationError
from xoscar_sc.serialize.values import describe, pack


def dumps_plain(value: object) -> bytes:
    """Encode a value; :func:`~xoscar_sc.serialize.loads` decodes it.

    Raises:
        SerializationError: msgpack cannot express it.
    """
    try:
        return pack(value)
    except Exception as error:  # a type's own hooks may raise anything
        raise SerializationError(
            f"nothing is pickled on this connection, and msgpack cannot express this: {describe(error)}"
        ) from error


def dumps_plain_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Encode the arguments of a call; :func:`~xoscar_sc.serialize.loads_call` decodes them.

    Raises:
        SerializationError: as for :func:`dumps_plain`.
    """
    return dumps_plain({"args": args, "kwargs": kwargs} if kwargs else args)


def dumps_plain_batch(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> bytes:
    """Encode the arguments of many calls; :func:`~xoscar_sc.serialize.loads_batch` decodes them.

    Raises:
        SerializationError: as for :func:`dumps_plain`.
    """
    return dumps_plain(calls)


class _Arguments(msgspec.Struct):
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


load_arguments = msgspec.msgpack.Decoder(_Arguments).decode
load_batch = msgspec.msgpack.Decoder(list[tuple[tuple[Any, ...], dict[str, Any]]]).decode
