"""Records beside a router: what is stored is found again, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_batch.calibrations import ALL_TO_LARGE, CALIBRATIONS, Record, Threshold, lookup, store, stored
from hybrid_batch.core.errors import ConfigError

PROMISE = {"max_drop_pct": 1.0, "confidence": 0.95}
RECORD = Record(
    goal=PROMISE,
    router="aa",
    labels="ff",
    labels_source="labels.parquet",
    rows=500,
    method="test",
    created="2026-11-24T00:00:00+00:00",
    overall=Threshold(612_345, 500, 0.31, 0.2, 0.97),
)
GROUPED = replace(
    RECORD,
    by="task",
    overall=Threshold(ALL_TO_LARGE, 0, 0.0, 0.0, kept=False),
    groups={"mmlu": Threshold(400_000, 300, 0.5, 0.1, 0.9), "sql": Threshold(ALL_TO_LARGE, 9, 0, 0, None, False, 800)},
)


def test_a_record_comes_back_as_it_was_stored(tmp_path: Path):
    for record in (RECORD, GROUPED):
        assert store(str(tmp_path), record) == str(tmp_path / CALIBRATIONS)
    assert stored(str(tmp_path)) == [RECORD, GROUPED]
    assert lookup(str(tmp_path), "aa", 1, 0.95) == RECORD
    assert lookup(f"{tmp_path}/", "aa", 1.0, 0.95, "task") == GROUPED
    assert GROUPED.thresholds() == {"mmlu": 400_000, "sql": ALL_TO_LARGE}


def test_the_same_promise_again_replaces_the_record_and_leaves_others(tmp_path: Path):
    other = replace(RECORD, goal={"small_share": 0.4})
    newer = replace(RECORD, rows=900)
    for record in (RECORD, other, newer):
        store(str(tmp_path), record)
    assert stored(str(tmp_path)) == [other, newer]


def test_a_router_that_was_trained_again_has_no_calibration(tmp_path: Path):
    store(str(tmp_path), RECORD)
    with pytest.raises(ConfigError, match="belong to an earlier version of this router"):
        lookup(str(tmp_path), "bb", 1.0, 0.95)
    store(str(tmp_path), replace(RECORD, router="bb"))
    assert [record.router for record in stored(str(tmp_path))] == ["bb"]


def test_a_missing_promise_lists_what_is_stored_and_the_command(tmp_path: Path):
    with pytest.raises(ConfigError, match=rf"there is no {CALIBRATIONS}"):
        lookup(str(tmp_path), "aa", 1.0, 0.95)
    store(str(tmp_path), RECORD)
    store(str(tmp_path), replace(RECORD, goal={"small_share": 0.4}))
    with pytest.raises(ConfigError) as error:
        lookup(str(tmp_path), "aa", 0.5, 0.9, "task")
    assert str(error.value) == (
        f"router {tmp_path} is not calibrated for at most 0.5 % drop with 90 % confidence, per task: "
        "stored are: at most 1 % drop with 95 % confidence; 40 % to the small model.\n"
        f"Calibrate it with\n  hybrid-batch calibrate {tmp_path} LABELS --max-drop 0.5 --confidence 0.9 --by task"
    )


def test_a_looser_promise_does_not_stand_for_a_stricter_one(tmp_path: Path):
    store(str(tmp_path), RECORD)
    for promise in ((0.5, 0.95), (1.0, 0.99), (2.0, 0.95)):
        with pytest.raises(ConfigError, match="is not calibrated"):
            lookup(str(tmp_path), "aa", *promise)


def test_a_threshold_for_scores_with_tasks_is_none_for_scores_without(tmp_path: Path):
    for told, option in ((True, ""), (False, " --tasks")):
        record = replace(RECORD, with_tasks=told)
        store(str(tmp_path), record)
        assert lookup(str(tmp_path), "aa", 1.0, 0.95, with_tasks=told) == record
        assert lookup(str(tmp_path), "aa", 1.0, 0.95) == record
        with pytest.raises(ConfigError, match="the job runs the other way") as error:
            lookup(str(tmp_path), "aa", 1.0, 0.95, with_tasks=not told)
        assert str(error.value).endswith(f"--confidence 0.95{option}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "format is None, expected 'hybrid-batch-calibrations/1'"),
        ('{"format": "hybrid-batch-calibrations/1", "records": [{}]}', "a record cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str, message: str):
    (tmp_path / CALIBRATIONS).write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        stored(str(tmp_path))
    assert str(error.value).startswith(str(tmp_path / CALIBRATIONS))


@pytest.mark.parametrize("threshold", [-1, ALL_TO_LARGE + 1, 0.5, "1", True, None])
def test_a_threshold_off_the_grid_is_refused(tmp_path: Path, threshold: object):
    store(str(tmp_path), RECORD)
    document = json.loads((tmp_path / CALIBRATIONS).read_text())
    document["records"][0]["overall"]["threshold_micros"] = threshold
    (tmp_path / CALIBRATIONS).write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"threshold_micros is .*, allowed are whole numbers"):
        stored(str(tmp_path))
