"""Messages of a declared type: what does not fit is refused where it is sent.

They cross as msgpack and not as pickles, so that nothing but what is declared can come out of them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from xoscar_sc.errors import MsgTypeError, SerializationError
from xoscar_sc.serialize.plain import dumps_plain
from xoscar_sc.serialize.values import Buffers, Segments, describe, dumps, loads

Extension: TypeAlias = "tuple[type, Callable[[Any], Any], Callable[[Any], Any]]"
"""A class that msgspec does not know, what makes something of it that msgspec does know, and what makes it of that."""


Extensions: TypeAlias = "Mapping[type[Any], tuple[Callable[[Any], Any], Callable[[Any], Any]]]"
"""The same as a user writes it: ``{cls: (encode, decode)}``."""


def extensions_of(given: Extensions | None) -> tuple[Extension, ...]:
    """What a user has declared.

    Raises:
        TypeError: it is something else.
    """
    found = []
    for kind, ways in cast("Any", given or {}).items():
        if not isinstance(kind, type) or len(ways) != 2 or not all(map(callable, ways)):
            raise TypeError(
                f"types= has {kind!r}: {ways!r}; it is a class and two functions, to encode and to decode"
            )
        found.append((kind, *ways))
    return tuple(found)


class Types(NamedTuple):
    """What one side of a dialogue sends and receives; None for anything."""

    sends: Any = None
    receives: Any = None
    extensions: tuple[Extension, ...] = ()

    def other_side(self) -> Types:
        """The same dialogue, as the other side sees it."""
        return Types(self.receives, self.sends, self.extensions)


class _Extensions:
    """What msgspec asks about classes that it does not know."""

    def __init__(self, extensions: tuple[Extension, ...]) -> None:
        self._extensions = extensions

    def encode(self, value: Any) -> Any:
        for kind, encode, _ in self._extensions:
            if type(value) is kind:
                return encode(value)
        for kind, encode, _ in self._extensions:
            if isinstance(value, kind):
                return encode(value)
        raise NotImplementedError(f"{type(value).__qualname__} is no type that is declared")

    def decode(self, kind: type, value: Any) -> Any:
        for known, _, decode in self._extensions:
            if known is kind:
                return decode(value)
        raise NotImplementedError(f"{kind.__qualname__} is no type that is declared")

    def schema(self, kind: type) -> dict[str, Any]:
        for extension in self._extensions:
            if extension[0] is kind:
                return {"extension": describe_extension(extension)}
        raise NotImplementedError


class Codec:
    """The messages of one side of a dialogue, to bytes and back."""

    def __init__(self, types: Types, *, plain: bool = False) -> None:
        self.types = types
        self._plain = plain
        """Nothing is pickled, whatever the types."""
        known = _Extensions(types.extensions)
        self._encoder = msgspec.msgpack.Encoder(enc_hook=known.encode)
        self._sends, self._receives = (
            None if kind is None else msgspec.msgpack.Decoder(kind, dec_hook=known.decode)
            for kind in (types.sends, types.receives)
        )

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
            body = self._encoder.encode(value)
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
    if types == Types():
        return b""
    extensions = [(describe_extension(each), dumps(each)) for each in types.extensions]
    return dumps((dumps((types.sends, types.receives)), _schemas(types), extensions))


def load_types(data: bytes) -> Types:
    """The types that the other side has, as it sees them.

    Raises:
        MsgTypeError: they are defined otherwise here; the text has the difference. Or an extension is not here.
        SerializationError: they are not there.
    """
    if not data:
        return Types()
    kinds, schemas, described = cast("tuple[Any, list[str], list[tuple[str, bytes]]]", loads(data))
    sends, receives = cast("tuple[Any, Any]", loads(kinds))
    types = Types(sends, receives, tuple(_load_extension(*each) for each in described))
    for there, here in zip(schemas, _schemas(types), strict=True):
        if there != here:
            lines = difflib.unified_diff(
                there.split("\n"), here.split("\n"), "there", "here", n=1, lineterm=""
            )
            raise MsgTypeError("the two sides define their messages differently:\n" + "\n".join(lines))
    return types


def _load_extension(there: str, data: bytes) -> Extension:
    try:
        extension: Extension = loads(data)  # type: ignore[assignment]
    except SerializationError as exc:
        raise MsgTypeError(f"the other side has the type {there}, which is not here: {exc}") from exc
    here = describe_extension(extension)
    if there != here:
        raise MsgTypeError(f"the other side has the type {there}, and here it is {here}")
    return extension


def describe_extension(extension: Extension) -> str:
    """An extension, as text: the same text for the same definition, as far as names tell."""
    kind, *ways = extension
    encode, decode = (getattr(way, "__qualname__", repr(way)) for way in ways)
    return f"{kind.__module__}.{kind.__qualname__} (by {encode} and {decode})"


def _schemas(types: Types) -> list[str]:
    hook = _Extensions(types.extensions).schema
    return [_schema(types.sends, hook), _schema(types.receives, hook)]


def _schema(kind: Any, hook: Callable[[type], dict[str, Any]]) -> str:
    """A type, as text: the same text for the same definition."""
    if kind is None:
        return ""
    try:
        return json.dumps(msgspec.json.schema(kind, schema_hook=hook), indent=1, sort_keys=True)
    except Exception:  # a type that has no schema; its name will have to do
        return repr(kind)


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or repr(kind)
