"""Users' values and exceptions, to bytes and back, type for type. Knows nothing of how the bytes travel."""

from xoscar_sc.serialize.calls import dumps_batch, dumps_call, loads_batch, loads_call
from xoscar_sc.serialize.checked import Checked
from xoscar_sc.serialize.exceptions import rebuild, record
from xoscar_sc.serialize.plain import dumps_plain, dumps_plain_batch, dumps_plain_call
from xoscar_sc.serialize.typed import (
    PLAIN,
    UNTYPED,
    Codec,
    Extensions,
    Types,
    dump_types,
    extensions_of,
    load_types,
)
from xoscar_sc.serialize.values import OUT_OF_BAND, describe, dumps, loads

__all__ = [
    "OUT_OF_BAND",
    "PLAIN",
    "UNTYPED",
    "Checked",
    "Codec",
    "Extensions",
    "Types",
    "describe",
    "dump_types",
    "dumps",
    "dumps_batch",
    "dumps_call",
    "dumps_plain",
    "dumps_plain_batch",
    "dumps_plain_call",
    "extensions_of",
    "load_types",
    "loads",
    "loads_batch",
    "loads_call",
    "rebuild",
    "record",
]
