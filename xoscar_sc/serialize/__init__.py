"""Users' values and exceptions, to bytes and back, type for type. Knows nothing of how the bytes travel."""

from xoscar_sc.serialize.calls import dumps_batch, dumps_call, loads_batch, loads_call
from xoscar_sc.serialize.exceptions import rebuild, record
from xoscar_sc.serialize.values import OUT_OF_BAND, dumps, loads

__all__ = [
    "OUT_OF_BAND",
    "dumps",
    "dumps_batch",
    "dumps_call",
    "loads",
    "loads_batch",
    "loads_call",
    "rebuild",
    "record",
]
