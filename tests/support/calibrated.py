"""Calibrations as ``calibrate --by`` would leave them, with thresholds that a test has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hybrid_batch.calibrations import ALL_TO_LARGE, Record, Threshold, store
from hybrid_batch.routers import router_fingerprint

GOAL = {"max_drop_pct": 1.0, "confidence": 0.95}


def calibrate_by(column: str, router: str | Path, thresholds: Mapping[str, int], *, with_tasks: bool = False) -> Record:
    """Store a promise of at most 1 % drop for each group; a group at :data:`ALL_TO_LARGE` could not be promised."""
    groups = {
        name: Threshold(micros, rows=100, share=0.3, drop_pct=0.2, kept=micros < ALL_TO_LARGE)
        for name, micros in thresholds.items()
    }
    record = Record(
        goal=GOAL,
        router=router_fingerprint(str(router)),
        labels="chosen",
        labels_source="labels.parquet",
        rows=100 * len(groups),
        method="chosen by a test",
        created="2026-01-01",
        overall=Threshold(ALL_TO_LARGE, rows=0, share=0.0, drop_pct=0.0),
        with_tasks=with_tasks,
        by=column,
        groups=groups,
    )
    store(str(router), record)
    return record
