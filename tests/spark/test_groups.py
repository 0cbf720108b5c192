"""A promise for each tenant, and the task of each query, on real Spark."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hybrid_batch import pipeline
from hybrid_batch.calibrations import ALL_TO_LARGE, CALIBRATIONS
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.routing import GRID, ScoreHistogram, to_micros
from hybrid_batch.engines.head import MixtureHead, save_head
from hybrid_batch.engines.router import load_router
from hybrid_batch.engines.router_card import CARD, HEAD, file_record
from hybrid_batch.ledger import Ledger
from hybrid_batch.stages.route import ShardRanges
from tests.support.calibrated import GOAL, calibrate_by
from tests.support.jobs import REFUSED_ROWS, Recorder, load, questions, results_of, write_parquet
from tests.support.tiny_router import DIM

ROWS = 120


@pytest.fixture
def router(tiny_router: Path, tmp_path: Path) -> Path:
    """A router of this test's own: calibrations will lie beside it."""
    shutil.copytree(tiny_router, tmp_path / "router", ignore=shutil.ignore_patterns(CALIBRATIONS))
    return tmp_path / "router"


@pytest.fixture
def by_tenant(document: dict[str, Any], router: Path) -> dict[str, Any]:
    """A job with a promise for each tenant."""
    document["router"]["path"] = str(router)
    document["policy"] = {**GOAL, "by": "tenant"}
    return document


def scores_by_tenant(router: Path) -> dict[str, list[int]]:
    """The scores of all answerable questions on the grid, ascending."""
    rows = [row for row in questions(ROWS) if (row["prompt"] or "").strip()]
    micros = to_micros(load_router(router, threads=1).score([row["prompt"] for row in rows]))
    return {
        tenant: sorted(int(score) for row, score in zip(rows, micros, strict=True) if row["tenant"] == tenant)
        for tenant in ("t0", "t1", "t2")
    }


def expected_tier(row: dict[str, Any], thresholds: dict[str, int]) -> str:
    if row["score"] is None:
        return "rejected"
    return "small" if round(row["score"] * GRID) >= thresholds.get(row["tenant"], ALL_TO_LARGE) else "large"


def test_each_tenant_is_split_by_its_own_threshold_and_a_stranger_goes_to_large(by_tenant, router, run_job):
    scores = scores_by_tenant(router)
    # A score that is there, so that ties are decided too; t2 was not calibrated.
    thresholds = {"t0": scores["t0"][10], "t1": scores["t1"][30], "gone": 1}
    calibrate_by("tenant", router, thresholds)
    outcome, recorder = run_job(by_tenant)
    results = results_of(outcome.layout.root).to_pylist()

    assert len(results) == ROWS
    assert all(row["tier"] == expected_tier(row, thresholds) for row in results)
    tiers = Counter(row["tier"] for row in results)
    assert set(tiers) == {"small", "large", "rejected"}
    assert {row["tier"] for row in results if row["tenant"] == "t2"} == {"large"}
    strangers = len(scores["t2"])
    told = f"{tiers['small']} queries to small, {tiers['large']} to large, {REFUSED_ROWS} refused"
    assert f"3 thresholds by tenant: {told}; {strangers} queries of no calibrated tenant went to the large model" in (
        recorder.notes
    )
    assert outcome.cost_advantage == tiers["small"] / (ROWS - REFUSED_ROWS)
    assert (outcome.by, outcome.ungrouped_rows, outcome.manifest["by"]) == ("tenant", strangers, "tenant")
    assert outcome.manifest["groups"] == {name: micros / GRID for name, micros in thresholds.items()}
    assert "3 thresholds by tenant" in Path(outcome.layout.html_report).read_text()
    assert pipeline.status(outcome.layout.root).state == "finished"
    again, _ = run_job(by_tenant)
    assert (again.already_finished, again.groups) == (True, outcome.groups)


def test_a_resumed_run_keeps_the_thresholds_that_are_committed(by_tenant, router, run_job, tmp_path):
    """Another driver of the run has committed its routing first: whatever this one would decide, that one holds."""
    scores = scores_by_tenant(router)
    calibrate_by("tenant", router, {"t0": scores["t0"][10]})
    job = load(by_tenant, tmp_path)
    begun = pipeline.run_part(job, Recorder(), shards=0)
    layout: RunLayout = begun.layout
    first = Ledger(layout).routing()
    committed = {"t0": ALL_TO_LARGE, "t1": scores["t1"][20], "t2": scores["t2"][0]}
    everything = [(name, score) for name, own in scores.items() for score in own]
    small = sum(score >= committed[name] for name, score in everything)
    decision = replace(first.decision, groups=committed, small=small, large=len(everything) - small, ungrouped=0)
    shutil.rmtree(layout.routed_folder)
    ranges = ShardRanges({"small": [""], "large": [""], "rejected": [""]})
    histogram = ScoreHistogram(np.array([0]), np.array([len(everything)]), np.array([small]))
    Ledger(layout).commit_routing(replace(first, decision=decision, ranges=ranges, histogram=histogram))
    outcome, recorder = run_job(by_tenant)

    results = results_of(layout.root).to_pylist()
    assert outcome.layout == layout
    assert len(results) == ROWS
    assert all(row["tier"] == expected_tier(row, committed) for row in results)
    assert Counter(row["tier"] for row in results)["small"] == small
    assert any(note.startswith(f"3 thresholds by tenant: {small} queries to small") for note in recorder.notes)
    assert outcome.manifest["groups"]["t0"] > 1


def test_another_calibration_is_another_run_and_leaves_the_first_alone(by_tenant, router, run_job):
    scores = scores_by_tenant(router)
    first, _ = run(by_tenant, router, run_job, {"t0": scores["t0"][10]})
    second, _ = run(by_tenant, router, run_job, {"t0": scores["t0"][20]})
    assert first.layout != second.layout
    assert second.cost_advantage < first.cost_advantage
    again, _ = run(by_tenant, router, run_job, {"t0": scores["t0"][10]})
    assert (again.layout, again.already_finished) == (first.layout, True)


def run(document: dict[str, Any], router: Path, run_job: Any, thresholds: dict[str, int]) -> Any:
    calibrate_by("tenant", router, thresholds)
    return run_job(document)


def test_a_router_that_learned_tasks_is_told_them(document, router, run_job, tmp_path):
    nothing = np.zeros((2, DIM))
    save_head(router / HEAD, MixtureHead(nothing, np.zeros(2), nothing, np.array([-2.0, 2.0])))
    card = json.loads((router / CARD).read_text())
    card["tasks"], card["members"][0]["parts"] = ["1", "2"], "tasks"
    card["files"][HEAD] = asdict(file_record(router / HEAD))
    (router / CARD).write_text(json.dumps(card))
    rows = [{**row, "kind": number % 4 or None} for number, row in enumerate(questions(ROWS))]
    document["input"] |= {"path": str(write_parquet(tmp_path / "kinds.parquet", rows)), "format": "parquet"}
    document["input"]["columns"]["task"] = "kind"
    document["router"]["path"] = str(router)
    document["policy"] = {**GOAL, "by": "kind"}
    calibrate_by("kind", router, {"1": 0, "2": GRID // 2, "3": 500_001}, with_tasks=True)
    outcome, _ = run_job(document)

    results = results_of(outcome.layout.root)
    kind_of = {row["query_id"]: row["kind"] for row in rows}
    scored = [row for row in results.to_pylist() if row["tier"] != "rejected"]
    assert results.schema.names[-2:] == ["tenant", "kind"]
    assert pq.read_schema(next(Path(outcome.layout.scored_folder).iterdir())).names[-1] == "kind"
    assert all(row["kind"] == kind_of[row["query_id"]] for row in scored)
    low, high = (float(score) for score in load_router(router, threads=1).score(["a", "b"], ["1", "2"]))
    assert low < 0.5 < high
    expected = {1: ("small", low), 2: ("small", high), 3: ("large", 0.5), None: ("large", 0.5)}
    for row in scored:
        tier, score = expected[row["kind"]]
        assert (row["tier"], row["score"]) == (tier, pytest.approx(score, abs=2e-6))
