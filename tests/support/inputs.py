"""Query files of a few rows, and all that reading them gives."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hybrid_batch.core.inputs import InputSpec, Split
from hybrid_batch.core.packing import located
from hybrid_batch.spark.readers import read_ids, read_split
from hybrid_batch.spark.source import InputPlan, plan_input


def spec_of(path: Path, file_format: str | None = None, **more: Any) -> InputSpec:
    """A spec with columns ``id`` and ``prompt``; the format is the file's suffix unless given."""
    fields = {"id_column": "id", "prompt_column": "prompt", **more}
    if fields.get("messages_column"):
        fields["prompt_column"] = None
    return InputSpec(path=str(path), format=file_format or path.suffix.lstrip("."), **fields)


def write(path: Path, content: bytes | str | pa.Table, **options: Any) -> Path:
    """Write bytes, text (as UTF-8) or a table (as Parquet) -> ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pa.Table):
        content = parquet_bytes(content, **options)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    """``table`` as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def read(spec: InputSpec, plan: InputPlan | None = None) -> list[dict[str, Any]]:
    """All rows of all splits, after the ids were checked and the rows counted as the job does."""
    plan = plan or plan_input(spec)
    pieces = [piece for split in plan.splits for piece in split.pieces]
    ids = [[value for batch in read_ids(piece, spec) for value in batch.to_pylist()] for piece in pieces]
    rows = read_splits(located(plan.splits, list(map(len, ids))), spec, plan)
    if spec.id_column is not None:
        assert [row["query_id"] for row in rows] == [value for own in ids for value in own]
    return rows


def read_splits(splits: Iterable[Split], spec: InputSpec, plan: InputPlan) -> list[dict[str, Any]]:
    """All rows of splits whose places are known."""
    batches = [batch for split in splits for batch in read_split(split, spec, plan.kept)]
    for batch in batches:
        batch.validate(full=True)
    return [row for batch in batches for row in batch.to_pylist()]


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    """One column of ``rows``."""
    return [row[name] for row in rows]
