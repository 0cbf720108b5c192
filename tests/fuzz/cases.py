"""Cases as plain values, so that one can be sent to another process, printed, and run again.

A case says how a file is made, what is done to its bytes afterwards, and as what the job is told to read it.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

Case = dict[str, Any]

COLUMNS: Final = ("id", "prompt", "messages", "request", "image", "tenant")
TEXT_LINES: Final = 40
"""Kinds of lines in :mod:`tests.fuzz.text_files`; a case picks them by number, whatever the number is."""

KINDS: Final = (
    "text", "large text", "text view", "dictionary", "integer", "unsigned", "float", "half float", "decimal", "boolean",
    "binary", "fixed binary", "null", "date", "date64", "time", "timestamp", "timestamp in a zone", "duration", "list",
    "struct", "list of structs", "map", "messages", "messages as text", "request", "request as text", "image",
)  # fmt: skip

_fractions = st.integers(0, 9_999)
_sizes = st.sampled_from([1, 2, 3, 4, 8, 40, 500])
_values = st.integers(0, 255)
damages = st.one_of(
    st.tuples(st.just("cut"), _fractions, st.just(0)),
    st.tuples(st.just("flip"), _fractions, _values),
    st.tuples(st.just("flip near the end"), st.integers(0, 900), _values),
    st.tuples(st.just("insert"), _fractions, _values),
    st.tuples(st.just("remove"), _fractions, _sizes),
    st.tuples(st.just("zero"), _fractions, _sizes),
    st.tuples(st.just("ones"), _fractions, _sizes),
    st.tuples(st.just("repeat"), _fractions, _sizes),
    st.tuples(st.just("number"), _fractions, _values),
    st.tuples(st.just("number near the end"), st.integers(0, 900), _values),
    st.tuples(st.just("before"), st.just(0), _values),
    st.tuples(st.just("behind"), st.just(0), _values),
)

_kinds = st.sampled_from(KINDS)
parquet_files = st.fixed_dictionaries(
    {
        "format": st.just("parquet"),
        "rows": st.integers(0, 50),
        "group": st.sampled_from([1, 7, 50]),
        "compression": st.sampled_from(["none", "snappy", "zstd", "gzip", "lz4", "brotli"]),
        "dictionary": st.booleans(),
        "page": st.sampled_from([64, 1 << 20]),
        "pages": st.sampled_from(["1.0", "2.0"]),
        "checksums": st.booleans(),
        "columns": st.fixed_dictionaries(
            {
                "id": st.sampled_from(["text", "text", "integer", "dictionary", "unsigned"]) | _kinds,
                "prompt": st.sampled_from(["text", "text", "large text", "dictionary", "text view"]) | _kinds,
                "messages": st.sampled_from(["messages", "messages as text"]) | _kinds,
                "request": st.sampled_from(["request", "request as text"]) | _kinds,
                "image": st.sampled_from(["image", "text"]) | _kinds,
                "tenant": _kinds,
            }
        ),
        "absent": st.sampled_from([None, None, None, None, *COLUMNS]),
        "doubled": st.sampled_from([None, None, None, None, *COLUMNS]),
    }
)

text_files = st.fixed_dictionaries(
    {
        "format": st.sampled_from(["jsonl", "csv", "openai-batch"]),
        "lines": st.lists(st.integers(0, TEXT_LINES - 1) | st.just(0), min_size=0, max_size=30),
        "ends": st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"]),
        "mark": st.booleans(),
        "last": st.booleans(),
        "packed": st.sampled_from([None, None, "gzip", "zstd"]),
        "damaged inside": st.booleans(),
        "header": st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
    }
)

cases = st.fixed_dictionaries(
    {
        "file": parquet_files | text_files,
        "damages": st.lists(damages, max_size=3),
        "beside": st.booleans(),
        "read as": st.sampled_from([None] * 12 + ["parquet", "jsonl", "csv", "openai-batch"]),
        "id": st.booleans(),
        "chat": st.booleans(),
        "keep": st.booleans(),
        "request": st.booleans(),
        "image": st.booleans(),
        "limit": st.sampled_from([None, None, None, 1, 10, 1_000]),
        "rows_per_split": st.sampled_from([5, 50_000]),
        "bytes_per_split": st.sampled_from([100, 1_000, 128 << 20]),
    }
)
"""A file, up to three damages, and how it is read; a second file that is whole may lie beside it."""
