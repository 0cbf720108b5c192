"""Calibrations from rows whose truth is known: what is promised, stored, and refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from hybrid_batch.calibrations import ALL_TO_LARGE, lookup, store, told
from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.core.routing import assign_tiers, to_micros
from hybrid_batch.reports.calibration import calibration_view, usage
from hybrid_batch.study.calibrate import budget, calibrate, promise, share
from hybrid_batch.study.subject import Subject
from tests.support.studies import label_set, rendered, subject

ROWS = 600
TASKS = ["easy"] * 400 + ["hard"] * 190 + [None] * 10
GOAL = promise(1.0, 0.95)
BUDGET = budget(Decimal("0.60"), Decimal("0.20"), Decimal("1.00"))


@pytest.fixture
def made(tmp_path: Path) -> Subject:
    """On easy queries small is the better one where the score is high; on hard ones it fails always."""
    random = np.random.default_rng(0)
    scores = random.random(ROWS)
    small = (scores > 0.4).astype(float)
    large = (random.random(ROWS) < 0.8).astype(float)
    hard = np.array([task == "hard" for task in TASKS])
    small[hard], large[hard] = 0.0, 1.0
    return subject(tmp_path, label_set(small, large, TASKS), scores)


@pytest.fixture
def easy(made: Subject) -> Subject:
    return made.by_task()["easy"]


def sent(part: Subject, threshold_micros: int) -> np.ndarray:
    return assign_tiers(to_micros(part.scores), threshold_micros) == 0


def test_a_promise_that_can_be_kept_gives_a_threshold_that_routes_as_predicted(easy: Subject):
    found = calibrate(easy, GOAL).record.overall
    assert found.kept
    assert found.rows == 400
    to_small = sent(easy, found.threshold_micros)
    assert found.share == pytest.approx(to_small.mean())
    assert found.share > 0.3
    q = easy.labels.qualities
    lost = -100 * (q.gap * to_small).sum() / q.mean_large.sum()
    assert found.drop_pct == pytest.approx(lost)
    assert found.upper_drop_pct is not None
    assert lost < found.upper_drop_pct <= 1.0


def test_the_record_says_where_it_comes_from_and_is_found_again(easy: Subject):
    record = calibrate(easy, GOAL).record
    store(easy.url, record)
    assert lookup(easy.url, easy.card.fingerprint, 1.0, 0.95) == record
    assert (record.labels, record.labels_source) == (easy.labels.fingerprint, "labels.parquet")
    assert record.method
    assert record.created.endswith("+00:00")


def test_the_papers_search_stands_beside_it_and_takes_more(easy: Subject):
    found = calibrate(easy, GOAL)
    assert found.paper[""].share >= found.record.overall.share
    assert found.paper[""].drop_pct <= 1.0


def test_a_promise_that_cannot_be_kept_sends_all_to_large_and_says_so(easy: Subject):
    found = calibrate(easy.take(np.arange(40)), GOAL)
    part = found.record.overall
    assert (part.kept, part.threshold_micros, part.share) == (False, ALL_TO_LARGE, 0.0)
    assert not found.record.kept
    assert part.rows_needed is not None
    assert part.rows_needed > 40
    text = " ".join(rendered(calibration_view(found.record, found.paper)).split())
    assert "The promise cannot be kept with these 40 rows: every query goes to large." in text
    assert f"It would need about {part.rows_needed:,} rows, {part.rows_needed - 40:,} more." in text


def test_where_small_is_always_worse_no_number_of_rows_helps(made: Subject):
    found = calibrate(made.by_task()["hard"], GOAL)
    assert found.record.overall.rows_needed is None
    text = " ".join(rendered(calibration_view(found.record, found.paper)).split())
    assert "As far as these rows tell, more of them would not help." in text


def test_each_group_has_a_promise_of_its_own_and_nobody_else_goes_to_small(made: Subject, easy: Subject):
    found = calibrate(made, GOAL, "tenant")
    record = found.record
    assert record.by == "tenant"
    assert set(record.groups) == {"easy", "hard"}
    assert record.groups["easy"] == calibrate(easy, GOAL).record.overall
    assert record.thresholds()["hard"] == ALL_TO_LARGE
    assert record.overall.threshold_micros == ALL_TO_LARGE
    assert record.kept
    assert found.without_group == 10
    text = rendered(calibration_view(record, found.paper))
    assert "per tenant" in text
    assert "The promise cannot be kept for 1 of 2 groups" in text
    assert "  hard: " in text
    assert "  easy: " not in text


def test_groups_need_tasks(made: Subject):
    nameless = replace(made, labels=replace(made.labels, tasks=[None] * ROWS))
    with pytest.raises(InputError, match=r"labels\.parquet: no row has a task, so there are no groups for --by task"):
        calibrate(nameless, GOAL, "task")


def test_a_share_for_each_group_is_refused(made: Subject):
    for goal in (share(0.4), BUDGET):
        with pytest.raises(ConfigError, match="--by task goes with --max-drop"):
            calibrate(made, goal, "task")


def test_rows_that_trained_the_router_make_no_promise(made: Subject, tmp_path: Path):
    trained = subject(tmp_path, made.labels, made.scores, training={"labels": made.labels.fingerprint})
    assert trained.seen_in_training
    with pytest.raises(InputError, match="these rows trained the router"):
        calibrate(trained, GOAL)
    assert calibrate(trained, share(0.4)).record.overall.share <= 0.4


def test_a_share_needs_no_promise(made: Subject):
    found = calibrate(made, share(0.4))
    part = found.record.overall
    assert part.share == pytest.approx(0.4, abs=1 / ROWS)
    assert sent(made, part.threshold_micros).mean() == part.share
    assert part.upper_drop_pct is None
    assert found.paper == {}
    assert usage(found.record) == f"policy: {{threshold: {part.threshold:.6f}}}"


@pytest.mark.parametrize("usd", ["0.20", "0.35", "0.61", "1.00", "5"])
def test_a_budget_is_kept_with_as_little_of_the_small_model_as_it_takes(made: Subject, usd: str):
    part = calibrate(made, budget(Decimal(usd), Decimal("0.20"), Decimal("1.00"))).record.overall
    cost = 0.2 * part.share + 1.0 * (1 - part.share)
    assert cost <= float(usd) + 1e-9
    if usd < "1":
        assert cost > float(usd) - 0.8 / ROWS - 1e-9
    else:
        assert part.share == 0


def test_qualities_outside_the_range_are_refused(made: Subject):
    with pytest.raises(InputError, match=r"^labels\.parquet: "):
        calibrate(made, GOAL, quality=(0.0, 0.5))


def test_goals_that_make_no_sense_are_refused():
    for call, message in (
        (lambda: promise(0, 0.95), "--max-drop is 0, allowed"),
        (lambda: promise(100, 0.95), "--max-drop is 100, allowed"),
        (lambda: promise(1, 1), "--confidence is 1, allowed"),
        (lambda: promise(1, 95), "--confidence is 95, allowed"),
        (lambda: share(40), "--small-share is 40, allowed"),
        (lambda: budget(Decimal(1), Decimal(2), Decimal(2)), "the small model must be the cheaper one"),
        (lambda: budget(Decimal("0.1"), Decimal("0.2"), Decimal(2)), "the small model alone costs 0.2 USD"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_the_words_fit_a_terminal(made: Subject):
    for goal, by in ((GOAL, None), (GOAL, "task"), (share(0.4), None), (BUDGET, None)):
        found = calibrate(made, goal, by)
        text = rendered(calibration_view(found.record, found.paper))
        assert max(map(len, text.splitlines())) <= 80
        assert told(goal, by)[1:] in text
    promised = calibrate(made, GOAL, "task").record
    numbers = ", ".join(f"{name}: {value}" for name, value in GOAL.items())
    assert usage(promised) == f"policy: {{{numbers}, by: task}}"
