"""Messages to bytes and back. What bytes come in makes no difference: a message, or a ProtocolError."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

from xoscar_sc.errors import ProtocolError
from xoscar_sc.protocol.messages import AnyMessage

encode: Callable[[AnyMessage], bytes] = msgspec.msgpack.Encoder().encode
"""The msgpack of a message. Its strings must be encodable in UTF-8, its integers within 64 bits."""

_decode = msgspec.msgpack.Decoder(AnyMessage).decode


def decode(data: bytes | bytearray | memoryview) -> AnyMessage:
    """The message that ``data`` is the msgpack of; keeps no reference to ``data``.

    Raises:
        ProtocolError: it is not exactly one message.
    """
    try:
        return cast(AnyMessage, _decode(data))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{len(data)} bytes that are no message: {error}") from error
