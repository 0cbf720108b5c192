"""Jobs on the fake engine: real Spark, real router code, real storage, and answers that cost nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from hybrid_batch.config import JobConfig, load_config
from hybrid_batch.core.progress import Progress

REFUSED_ROWS = 2
"""Rows of :func:`questions` that no model can answer."""


@dataclass
class Recorder:
    """An observer that keeps what it hears."""

    notes: list[str] = field(default_factory=list)
    seen: list[Progress] = field(default_factory=list)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def progress(self, progress: Progress) -> None:
        self.seen.append(progress)


def questions(rows: int) -> list[dict[str, Any]]:
    """Rows with repeated and prefixed prompts; row 7 is null and row 9 blank."""
    made = [
        {
            "query_id": f"q{number:06d}",
            "prompt": f"Topic {number % 17}: what follows from {number % 50} and {number * 7919 % 101}?",
            "tenant": f"t{number % 3}",
        }
        for number in range(rows)
    ]
    made[7]["prompt"] = None
    made[9]["prompt"] = "  "
    return made


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]], row_group: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group)
    return path


def job_document(input_path: Path, output: str, router: Path) -> dict[str, Any]:
    """A configuration on two fake engines, as plain values."""
    tier = {"model": "fake-model", "server": "fake", "gpus": 0, "usd_per_engine_hour": "0.10", "max_num_seqs": 8}
    return {
        "run": {"name": "test", "output": output, "max_error_rate": 1.0},
        "input": {
            "path": str(input_path),
            "format": "parquet" if input_path.suffix == ".parquet" else "jsonl",
            "columns": {"id": "query_id", "prompt": "prompt"},
            "keep": ["tenant"],
        },
        "router": {"path": str(router)},
        "policy": {"small_share": 0.40},
        "tiers": {
            "small": {**tier, "engine_args": {"tokens_per_second": 4000}},
            "large": {**tier, "engine_args": {"tokens_per_second": 2000}},
        },
        "sampling": {"max_tokens": 8},
        "shards": {"rows": 20},
        "spark": {"master": "local[2]"},
    }


def load(document: Mapping[str, Any], folder: Path, overrides: Iterable[str] = ()) -> JobConfig:
    """``document`` through a file, as a user would give it."""
    return load_config(save(document, folder), list(overrides))


def save(document: Mapping[str, Any], folder: Path) -> Path:
    """``document`` as a file in ``folder``."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(dict(document)))
    return path


def results_of(root: str) -> pa.Table:
    """All results of a run on local storage."""
    return pq.read_table(f"{root}/results")
