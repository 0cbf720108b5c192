"""Runs verified, and what is found wrong with them; objects of a run altered on purpose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.proof import ERROR, Proof
from hybrid_batch.parquet import from_parquet, to_parquet
from hybrid_batch.verification import verify
from tests.support.jobs import Recorder
from tests.support.local_runs import LocalRun


def copy_of(run: LocalRun, folder: Path) -> RunLayout:
    """A copy of a run below ``folder``, to be broken."""
    root = folder / "runs" / run.layout.run_id
    shutil.copytree(run.layout.root, root)
    return RunLayout(str(root))


def prove(layout: RunLayout) -> Proof:
    return verify(layout.root, Recorder())


def levels(proof: Proof) -> dict[str, str]:
    return {check.name: check.level for check in proof.checks}


def wrong(proof: Proof) -> dict[str, tuple[str, ...]]:
    return {check.name: check.problems for check in proof.checks if check.level == ERROR}


def edit_parquet(url: str, change: Callable[[pa.Table], pa.Table]) -> None:
    path = Path(url)
    path.write_bytes(to_parquet(change(from_parquet(path.read_bytes()))))


def set_column(name: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        place = table.schema.get_field_index(name)
        return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))

    return change


def edit_json(url: str, **changes: object) -> None:
    path = Path(url)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
