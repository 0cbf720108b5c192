"""Types of the columns that are carried through: what Parquet can hold, as Spark and the results can hold it."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

ALLOWED: Final = (
    "text, boolean, integer (not uint64), float, decimal (38 digits), date, timestamp, binary, "
    "and lists and structs of these"
)

_WIDER: Final = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
}


def kept_type(kind: pa.DataType) -> pa.DataType | None:
    """The type in which a kept column of type ``kind`` is carried; None for one that Spark cannot carry.

    Unsigned integers become the next wider signed type, dictionaries their values, timestamps microseconds
    (in UTC where they have a zone).
    """
    if types.is_dictionary(kind):
        return kept_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        inner = kept_type(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if types.is_struct(kind):
        return _struct(kind)
    return _scalar(_WIDER.get(kind, kind))


def carried(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """``column`` as ``kind``; digits of a timestamp below a microsecond are dropped.  Raises ``pa.ArrowInvalid``."""
    if column.type == kind:
        return column
    return pc.cast(column, options=pc.CastOptions(kind, allow_time_truncate=True))


def _struct(kind: pa.StructType) -> pa.DataType | None:
    inner = [(field.name, kept_type(field.type)) for field in kind]
    return None if any(found is None for _, found in inner) else pa.struct(inner)


def _scalar(kind: pa.DataType) -> pa.DataType | None:
    if types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return pa.binary()
    plain = types.is_boolean(kind) or types.is_signed_integer(kind) or types.is_floating(kind)
    return kind if plain or types.is_date32(kind) or types.is_decimal128(kind) else None
