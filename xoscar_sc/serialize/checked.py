"""Values of a declared type, checked by msgspec where they are, without being encoded.

A value is rebuilt by its type, as it would be from msgpack: what can be built is what fits. Objects that msgspec does
not know, arrays, references, are left as they are, and only have to be of their class.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

import msgspec

from xoscar_sc.errors import MsgTypeError

_AS_THEY_ARE = (
    bytes, bytearray, memoryview, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal,
)  # fmt: skip
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


class Checked:
    """One declared type.

    Raises:
        TypeError: msgspec cannot take it.
    """

    __slots__ = ("_kind",)

    def __init__(self, kind: Any) -> None:
        msgspec.msgpack.Decoder(kind)
        self._kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return Checked, (self._kind,)

    def __call__(self, value: Any, what: str) -> Any:
        """The value, rebuilt by its type.

        Args:
            value: what is to be of the type.
            what: it is, for the error's text.

        Raises:
            MsgTypeError: it does not fit; the text has the path of what is wrong.
        """
        if type(value) is self._kind and self._kind in _PLAIN:
            return value
        unknown: list[Any] = []
        used: set[int] = set()

        def keep(each: Any) -> Any:
            unknown.append(each)
            return _Kept(len(unknown) - 1)

        def give(kind: type, found: Any) -> Any:
            index = found.get("xsc_kept") if type(found) is dict else None
            if index is None:
                return found
            used.add(index)
            return unknown[index]

        try:
            plain = msgspec.to_builtins(value, builtin_types=_AS_THEY_ARE, enc_hook=keep)
            found = msgspec.convert(plain, self._kind, builtin_types=_AS_THEY_ARE, dec_hook=give)
        except Exception as exc:  # of msgspec's, or of a type of the user's that checks itself
            text = str(exc) if isinstance(exc, msgspec.ValidationError) else f"{type(exc).__name__}: {exc}"
            raise MsgTypeError(f"{what} is declared as {name_of_kind(self._kind)}: {text}") from exc
        if len(used) < len(unknown):
            other = next(type(each) for index, each in enumerate(unknown) if index not in used)
            raise MsgTypeError(
                f"{what} is declared as {name_of_kind(self._kind)}: there is a {other.__qualname__} in it, undeclared"
            )
        return found


class _Kept(msgspec.Struct):
    """Stands for an object that msgspec does not know."""

    xsc_kept: int


def name_of_kind(kind: Any) -> str:
    """A type, for messages."""
    return getattr(kind, "__name__", None) or repr(kind) if isinstance(kind, type) else repr(kind)
