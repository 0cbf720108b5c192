"""Parquet files with columns of any type."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

_CHAT: Final = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]
_TURNS: Final = pa.list_(
    pa.struct([("role", pa.string()), ("content", pa.string()), ("tool_calls", pa.list_(pa.string()))])
)
_PNG: Final = b"\x89PNG\r\n\x1a\nxx"
_TEXTS: Final = ("", " ", "é😀", "\x00", "\u2028", "x" * 2_000, '{"a": 1}', "question")
_WISHES: Final = ({"max_tokens": 3}, {"temperature": 0.5}, {"max_tokens": -1}, {"stop": ["x"]}, {})


def _text(row: int) -> str:
    return f"{_TEXTS[row % len(_TEXTS)]}{row}"


_VALUES: Final[dict[str, tuple[pa.DataType, Callable[[int], Any]]]] = {
    "text": (pa.string(), _text),
    "large text": (pa.large_string(), _text),
    "text view": (pa.string_view(), _text),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), lambda row: f"word {row % 5}"),
    "integer": (pa.int64(), lambda row: row - 3),
    "unsigned": (pa.uint64(), lambda row: 2**64 - 1 - row),
    "float": (pa.float64(), lambda row: float("nan") if row % 5 == 1 else row / 7),
    "half float": (pa.float16(), lambda row: float(row)),
    "decimal": (pa.decimal128(38, 9), lambda row: Decimal(row) / 8),
    "boolean": (pa.bool_(), lambda row: row % 2 == 0),
    "binary": (pa.binary(), lambda row: bytes([row % 256, 255])),
    "fixed binary": (pa.binary(4), lambda row: bytes([row % 256] * 4)),
    "null": (pa.null(), lambda row: None),
    "date": (pa.date32(), lambda row: dt.date(2026, 1, 1 + row % 28)),
    "date64": (pa.date64(), lambda row: dt.date(1, 1, 1 + row % 28)),
    "time": (pa.time64("us"), lambda row: dt.time(row % 24)),
    "timestamp": (pa.timestamp("ns"), lambda row: row * 10**17),
    "timestamp in a zone": (pa.timestamp("s", "Europe/Berlin"), lambda row: row * 10**10),
    "duration": (pa.duration("ms"), lambda row: row),
    "list": (pa.list_(pa.int64()), lambda row: [row] * (row % 3)),
    "struct": (
        pa.struct([("a", pa.int64()), ("when", pa.timestamp("s")), ("for", pa.duration("ns"))]),
        lambda row: {"a": row, "when": row * 10**13, "for": row},
    ),
    "list of structs": (pa.list_(pa.struct([("a", pa.string())])), lambda row: [{"a": _text(row)}]),
    "map": (pa.map_(pa.string(), pa.int64()), lambda row: [("a", row)]),
    "messages": (_TURNS, lambda row: [] if row % 7 == 3 else _CHAT),
    "messages as text": (pa.string(), lambda row: "[{" if row % 7 == 3 else json.dumps(_CHAT)),
    "request": (
        pa.struct([("max_tokens", pa.int64()), ("temperature", pa.float64()), ("stop", pa.list_(pa.string()))]),
        lambda row: _WISHES[row % len(_WISHES)],
    ),
    "request as text": (pa.string(), lambda row: "{" if row % 7 == 3 else json.dumps(_WISHES[row % len(_WISHES)])),
    "image": (pa.binary(), lambda row: b"none" if row % 7 == 3 else _PNG),
}


def parquet_content(made: dict[str, Any]) -> bytes:
    """The bytes of a file with the columns of ``made``."""
    names = [name for name in made["columns"] if name != made["absent"]]
    names += [made["doubled"]] if made["doubled"] in names else []
    columns = [_column(made["columns"][name], made["rows"], nulls=name != "id") for name in names]
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(columns, names=names),
        sink,
        row_group_size=made["group"],
        compression=made["compression"],
        use_dictionary=made["dictionary"],
        data_page_size=made["page"],
        data_page_version=made["pages"],
        write_page_checksum=made["checksums"],
        write_batch_size=8,
    )
    return sink.getvalue()


def _column(kind: str, rows: int, nulls: bool) -> pa.Array:
    stored, value = _VALUES[kind]
    values = [None if nulls and row % 11 == 5 else value(row) for row in range(rows)]
    if pa.types.is_dictionary(stored):
        return pa.array(values, stored.value_type).dictionary_encode()
    return pa.array(values, stored)
