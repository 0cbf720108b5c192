import json

import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.demo.artefact import COMMITTED
from hybrid_batch.demo.checks import score
from hybrid_batch.demo.labels import LABELS, read_labels
from hybrid_batch.demo.questions import HELDOUT, TRAIN, all_questions
from hybrid_batch.engines.router_card import file_record, read_card


def test_the_committed_labels_are_those_of_the_questions_and_checks_as_they_are_now():
    for question, label in zip(all_questions(), read_labels(), strict=True):
        assert label.q_small == score(label.text_small, question.answer, question.check), question
        assert label.q_large == score(label.text_large, question.answer, question.check), question
        assert label.det == (label.q_small >= label.q_large)


def test_labels_of_other_questions_are_refused(tmp_path):
    rows = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    rows[7]["prompt_xxh3"] = "0" * 16
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(InputError, match=f"{rows[7]['query_id']} differs"):
        read_labels(path)
    path.write_text("\n".join(json.dumps(row) for row in rows[:7]))
    with pytest.raises(InputError, match="other questions"):
        read_labels(path)


def test_the_committed_card_names_the_committed_head_and_counts_the_labels():
    card = read_card((COMMITTED / "router.json").read_bytes())
    assert card.files["head.safetensors"] == file_record(COMMITTED / "head.safetensors")
    training = card.document["training"]
    labels = read_labels()
    assert training["rows_train"] == sum(label.split == TRAIN for label in labels)
    assert training["rows_heldout"] == sum(label.split == HELDOUT for label in labels)
    heldout = [label.q_large for label in labels if label.split == HELDOUT]
    assert card.document["metrics"]["mean_q_large"] == pytest.approx(sum(heldout) / len(heldout), abs=1e-4)
