"""Messages of a declared type: what does not fit is refused where it is sent.

They cross as msgpack and not as pickles, so that nothing but what is declared can come out of them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from xoscar_sc.errors import MsgTypeError
from xoscar_sc.serialize.plain import dumps_plain
from xoscar_sc.serialize.values import Buffers, Segments, describe, dumps, loads

_encoder = msgspec.msgpack.Encoder()


class Types(NamedTuple):
    """What one side of a dialogue sends and receives; None for anything."""

    sends: Any = None
    receives: Any = None

    def other_side(self) -> Types:
        """The same dialogue, as the other side sees it."""
        return Types(self.receives, self.sends)


class Codec:
    """The messages of one side of a dialogue, to bytes and back."""

    def __init__(self, types: Types, *, plain: bool = False) -> None:
        self.types = types
        self._plain = plain
        """Nothing is pickled, whatever the types."""
        self._sends = None if types.sends is None else msgspec.msgpack.Decoder(types.sends)
        self._receives = None if types.receives is None else msgspec.msgpack.Decoder(types.receives)

    def pack(self, value: object, segments: Segments = None) -> bytes:
        """Encode a message that is sent.

        Raises:
            MsgTypeError: it is not of the declared type; the text has the path of what is wrong.
            SerializationError: it cannot be encoded.
        """
        if self._sends is None:
            return dumps_plain(value) if self._plain else dumps(value, segments)
        return self._checked(self._sends, value)[0]

    def _checked(self, decoder: msgspec.msgpack.Decoder[Any], value: object) -> tuple[bytes, Any]:
        """A message as it crosses, and as it arrives."""
        try:
            body = _encoder.encode(value)
            return body, decoder.decode(body)
        except Exception as exc:  # of msgspec's, or of a type of the user's that checks itself
            text = f"{_name(self.types.sends)} is to be sent, and this is none: {describe(exc)}"
            raise MsgTypeError(text) from exc

    def unpack(self, body: bytes, segments: Buffers = ()) -> Any:
        """Decode a message that has come.

        Raises:
            MsgTypeError: it is not of the declared type.
            SerializationError: it cannot be decoded here.
        """
        if self._receives is None:
            return loads(body, segments)
        try:
            return self._receives.decode(body)
        except Exception as exc:  # as above
            text = f"{_name(self.types.receives)} was expected, and this is none: {describe(exc)}"
            raise MsgTypeError(text) from exc

    def check(self, value: object) -> Any:
        """A message that is handed over in one process: as it is, or as it would arrive elsewhere, if it is declared.

        Raises:
            MsgTypeError: it does not.
        """
        return value if self._sends is None else self._checked(self._sends, value)[1]


UNTYPED = Codec(Types())
PLAIN = Codec(Types(), plain=True)


def dump_types(types: Types) -> bytes:
    """What tells the other side of the types here; empty if there are none."""
    return b"" if types == Types() else dumps((types, _schemas(types)))


def load_types(data: bytes) -> Types:
    """The types that the other side has, as it sees them.

    Raises:
        MsgTypeError: they are defined otherwise here; the text has the difference.
        SerializationError: they are not there.
    """
    if not data:
        return Types()
    types: Types
    schemas: Sequence[str]
    types, schemas = loads(data)  # type: ignore[misc]
    for there, here in zip(schemas, _schemas(types), strict=True):
        if there != here:
            lines = difflib.unified_diff(
                there.split("\n"), here.split("\n"), "there", "here", n=1, lineterm=""
            )
            raise MsgTypeError("the two sides define their messages differently:\n" + "\n".join(lines))
    return types


def _schemas(types: Types) -> list[str]:
    return [_schema(each) for each in types]


def _schema(kind: Any) -> str:
    """A type, as text: the same text for the same definition."""
    if kind is None:
        return ""
    try:
        return json.dumps(msgspec.json.schema(kind), indent=1, sort_keys=True)
    except Exception:  # a type that has no schema; its name will have to do
        return repr(kind)


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or repr(kind)
