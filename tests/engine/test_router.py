"""The demo's router for real: assembled from its package, loaded by torch, scored."""

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest

from hybrid_batch.core.errors import ConfigError, EngineError
from hybrid_batch.core.routing import ScoreHistogram, to_micros
from hybrid_batch.demo.artefact import assemble_router
from hybrid_batch.demo.questions import HELDOUT, TRAIN, questions_of
from hybrid_batch.engines.router import RouterScorer, load_router, read_card

TEXTS = [question.prompt for question in questions_of(HELDOUT)]


@pytest.fixture(scope="module")
def folder():
    return assemble_router()


@pytest.fixture(scope="module")
def router(folder):
    return load_router(folder, threads=2, device="cpu")


def test_scores_are_probabilities_on_the_grid_and_differ(router):
    scores = router.score(TEXTS)
    assert scores.dtype == np.float32
    assert scores.shape == (len(TEXTS),)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert np.array_equal(scores, (np.round(scores.astype(float) * 1e6) / 1e6).astype(np.float32))
    assert len(np.unique(scores)) > len(TEXTS) / 2


def test_a_score_hangs_on_its_text_alone(router):
    long = " ".join(TEXTS)  # longer than the encoder reads
    texts = [*TEXTS, "", long, "ünï©ødé 🙂", "x"]
    whole = router.score(texts)
    order = list(range(len(texts)))
    random.Random(0).shuffle(order)
    assert np.array_equal(router.score([texts[place] for place in order]), whole[order])
    pieces = [router.score(texts[start : start + 7]) for start in range(0, len(texts), 7)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert np.array_equal(router.score(texts[:1]), whole[:1])


def test_no_texts_give_no_scores(router):
    assert router.score([]).shape == (0,)


def test_the_card_tells_how_the_router_scores_the_questions_that_it_learnt_from(router):
    scores = router.score([question.prompt for question in questions_of(TRAIN)])
    micros, rows = np.unique(to_micros(scores), return_counts=True)
    told = np.array(router.card.document["score_histogram"])
    found = ScoreHistogram(micros, rows.astype(np.int64)).coarse().rows
    assert told.sum() == found.sum() == router.card.document["training"]["rows"]
    # A score at the edge of a step may fall to either side of it on another processor.
    assert np.abs(np.cumsum(told) - np.cumsum(found)).max() <= 2


def test_a_tampered_encoder_is_not_loaded(folder, tmp_path):
    copy = tmp_path / "router"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "encoder" / "config.json").read_text())
    (copy / "encoder" / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.2}))
    with pytest.raises(ConfigError, match=r"encoder/config\.json was changed"):
        load_router(copy)


def test_a_head_of_another_width_is_refused(folder, tmp_path):
    copy = tmp_path / "router"
    shutil.copytree(folder, copy)
    card = json.loads((copy / "router.json").read_text())
    card["encoder"]["dim"] = 512
    (copy / "router.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match=r"head\.safetensors: tensors are .*493.*expected .*621"):
        load_router(copy)


def test_assembling_again_changes_nothing(folder):
    before = read_card(folder).fingerprint
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert assemble_router() == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    assert read_card(folder).fingerprint == before


def test_a_router_without_numbers_fails_its_task(folder):
    card = read_card(folder)
    broken = load_router(folder, threads=1, device="cpu")
    heads = [(member, replace(head, gate_bias=head.gate_bias * np.nan)) for member, head in broken.heads]
    scorer = RouterScorer(card, broken.encoders, heads)
    with pytest.raises(EngineError, match=r"torch fp32 on cpu\) gave no number for 2 queries"):
        scorer.score(["a", "b", "a"])


def test_a_query_that_comes_again_is_read_once(folder):
    router = load_router(folder, threads=1, device="cpu")
    first = router.prepare(["a", "b", "a"])
    assert len(first.keys) == 2
    scores = router.scores(first)
    again = router.prepare(["b", "c", "a", "c"])
    assert len(again.keys) == 1
    found = router.scores(again)
    assert scores[0] == scores[2] == found[2]
    assert found[0] == scores[1]
    assert found[1] == found[3] == router.score(["c"])[0]


def test_tasks_are_part_of_what_is_remembered(folder):
    router = load_router(folder, threads=1, device="cpu")
    untold = router.score(["a", "a"])
    assert np.array_equal(router.score(["a", "a"], [None, "unheard of"]), untold)


@pytest.mark.parametrize("truncation", ["tail", "both"])
def test_the_card_says_what_is_read_of_a_long_query(folder, tmp_path, truncation):
    copy = tmp_path / "router"
    shutil.copytree(folder, copy)
    card = json.loads((copy / "router.json").read_text())
    card["encoder"]["truncation"] = truncation
    (copy / "router.json").write_text(json.dumps(card))
    router, plain = load_router(copy, threads=1, device="cpu"), load_router(folder, threads=1, device="cpu")
    head, end = "What is two plus two? " * 200, "Write a poem about the sea. " * 200
    assert np.array_equal(router.score(TEXTS), plain.score(TEXTS))
    assert router.score([head + end])[0] != plain.score([head + end])[0]
    assert load_router(copy, threads=1, device="cpu").score([head + end]) == router.score([head + end])


def test_an_unknown_truncation_is_refused(folder):
    card = json.loads((folder / "router.json").read_text())
    card["encoder"]["truncation"] = "middle"
    with pytest.raises(ConfigError, match=r"encoder\.truncation is 'middle', allowed are head, tail, both"):
        read_card(json.dumps(card).encode())


@pytest.mark.parametrize("backend", ["auto", "onnx-int4"])
def test_a_backend_must_be_a_known_one(folder, backend):
    with pytest.raises(ConfigError, match="allowed are torch, torch-fp32, torch-bf16, onnx-fp32, onnx-int8"):
        load_router(folder, backend)
