"""The transfer check on labels whose relation is known, and on three real pairs of models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.transfer import RECALIBRATE, RETRAIN, REUSE
from hybrid_batch.labelset import LabelSet
from hybrid_batch.reports.transfer import transfer_view
from hybrid_batch.study.subject import Subject
from hybrid_batch.study.transfer import BY_ID, BY_PROMPT, TransferReport, advice, transfer_check
from tests.support.shared_data import shared_data
from tests.support.studies import label_set, noisy_pair, quiet, rendered, subject

ROWS = 600


def check(made: Subject, old: LabelSet | None = None) -> TransferReport:
    return transfer_check(made, old, quiet(), resamples=50)


@pytest.fixture
def made(tmp_path: Path) -> Subject:
    small, large, scores = noisy_pair(ROWS)
    share = (small >= large).mean()
    return subject(tmp_path, label_set(small, large, name="new"), scores - scores.mean() + share)


def seen_by(made: Subject, old: LabelSet) -> Subject:
    """``made`` by a router whose card says that ``old`` trained it, so that ``old`` is not scored."""
    document = {**made.card.document, "training": {"labels": old.fingerprint}}
    return replace(made, card=replace(made.card, document=document))


def test_the_same_pair_again_is_reused(made: Subject):
    old = replace(made.labels, fingerprint="old")
    report = check(seen_by(made, old), old)
    assert report.verdict == REUSE
    assert report.joined == BY_PROMPT
    assert report.found.gaps is not None
    assert report.found.gaps.pearson == pytest.approx(1)
    assert report.found.gain_before is None  # these rows trained the router
    assert report.found.gain.low > 0
    assert report.evaluation.drop[0.2].value < report.evaluation.random_drop[0.2]


def test_an_order_that_knows_nothing_is_trained_again(made: Subject):
    shuffled = np.random.default_rng(1).permutation(made.scores)
    report = check(replace(made, scores=shuffled))
    assert report.verdict == RETRAIN
    assert report.found.gaps is None
    assert report.found.gain.low < 0 < report.found.gain.high


def test_shifted_scores_are_calibrated_again(made: Subject):
    report = check(replace(made, scores=made.scores - 0.2))
    assert report.verdict == RECALIBRATE
    assert report.found.bias == pytest.approx(-0.2)
    assert "too low" in report.reason


def test_queries_are_matched_by_prompt_and_by_id_only_where_no_prompt_is_in_both(made: Subject):
    half = made.labels.take(np.arange(ROWS // 2))
    shuffled_ids = replace(half, query_ids=[f"other-{name}" for name in half.query_ids], fingerprint="old")
    report = check(seen_by(made, shuffled_ids), shuffled_ids)
    assert report.joined == BY_PROMPT
    assert report.found.gaps is not None
    assert (report.found.gaps.rows, report.found.gaps.pearson) == (ROWS // 2, pytest.approx(1))
    templated = replace(half, prompts=[f"Q: {prompt}" for prompt in half.prompts], fingerprint="old")
    assert check(seen_by(made, templated), templated).joined == BY_ID


def test_labels_without_a_common_query_are_refused(made: Subject):
    other = replace(
        made.labels,
        query_ids=[f"o{n}" for n in range(ROWS)],
        prompts=[f"other {n}" for n in range(ROWS)],
        source="old.csv",
    )
    with pytest.raises(InputError, match=r"old\.csv and new\.parquet have no query in common"):
        check(made, other)


def test_too_few_rows_are_refused(made: Subject):
    with pytest.raises(InputError, match="29 rows; a comparison needs at least 30"):
        check(made.take(np.arange(29)))


def test_the_words_of_the_verdict(made: Subject):
    report = check(made)
    view = transfer_view(report.verdict, report.reason, report.found, report.evaluation, report.joined)
    text = rendered(view)
    assert text.startswith("reuse: the router's order serves the new pair")
    assert "gaps of both pairs" not in text
    assert f"over {ROWS} queries" in text
    assert "random" in text
    for kind, said in ((REUSE, "may stay"), (RECALIBRATE, "do not hold"), (RETRAIN, "labels.path: l")):
        assert said in advice(kind, "r", "l")


def test_gaps_of_real_pairs_that_share_their_large_model_are_related(tmp_path: Path):
    rows = json.loads(shared_data("llmrouter/dcrouter_train.json").read_text())[::4]
    quality = {
        name: np.array([row["scores"][name] for row in rows], dtype=float)
        for name in ("mistral-7b-instruct-v0.3", "llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct")
    }
    mistral, llama, nemotron = quality.values()
    old, new = label_set(mistral, nemotron, name="old"), label_set(llama, nemotron, name="new")
    made = subject(tmp_path, new, np.full(len(rows), 0.5), training={"labels": old.fingerprint})
    found = check(made, old).found
    assert found.gaps is not None
    assert 0.3 < found.gaps.spearman < 0.8
    assert check(made, old).verdict == RETRAIN  # scores that are all equal order nothing
