"""The labels and the router that come with the demo belong to its questions, its checks and each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.demo.artefact import COMMITTED
from hybrid_batch.demo.judge import judge
from hybrid_batch.demo.labels import TABLE, adopt_labels, demo_labels, write_labels_of
from hybrid_batch.demo.questions import HELDOUT, TRAIN, all_questions
from hybrid_batch.engines.router_card import file_record, read_card
from hybrid_batch.labelset import read_labels
from hybrid_batch.quality import Case


def test_the_labels_are_those_of_the_questions_and_checks_as_they_are():
    for question, row in zip(all_questions(), pq.read_table(TABLE).to_pylist(), strict=True):
        case = Case(question.query_id, question.prompt, None)
        for tier in ("small", "large"):
            assert row[f"q_{tier}"] == [judge(text, case) for text in row[f"text_{tier}"]], question


def test_every_question_has_its_task():
    assert demo_labels().tasks == [question.task for question in all_questions()]


def test_an_answer_to_another_question_is_not_judged():
    question = all_questions()[0]
    with pytest.raises(InputError, match="is no question of the demo"):
        judge("Paris", Case(question.query_id, "Another question?", None))


def test_labels_of_other_questions_are_refused(tmp_path):
    table = pq.read_table(TABLE)
    prompts = table["prompt"].to_pylist()
    prompts[7] += "?"
    other = table.set_column(table.schema.get_field_index("prompt"), table.schema.field("prompt"), pa.array(prompts))
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(InputError, match=f"{table['query_id'][7]} differs"):
        demo_labels(tmp_path / "other.parquet")
    pq.write_table(table.slice(0, 7), tmp_path / "few.parquet")
    with pytest.raises(InputError, match="labels of other questions"):
        demo_labels(tmp_path / "few.parquet")


def test_a_table_in_any_order_can_be_adopted(tmp_path):
    table = pq.read_table(TABLE)
    pq.write_table(table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows))), tmp_path / "in.parquet")
    adopt_labels(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(table)


def test_the_splits_make_up_the_whole(tmp_path: Path):
    rows = {split: write_labels_of(tmp_path / f"{split}.parquet", split) for split in (TRAIN, HELDOUT)}
    assert sum(rows.values()) == len(all_questions())
    assert len(read_labels(str(tmp_path / "train.parquet"))) == rows[TRAIN]


def test_the_router_was_trained_on_the_train_split_of_these_labels(tmp_path):
    card = read_card((COMMITTED / "router.json").read_bytes())
    committed = {path.relative_to(COMMITTED).as_posix() for path in COMMITTED.rglob("*.safetensors")}
    assert committed == {member.head for member in card.members}
    assert all(card.files[name] == file_record(COMMITTED / name) for name in committed)
    write_labels_of(tmp_path / "train.parquet", TRAIN)
    labels = read_labels(str(tmp_path / "train.parquet"))
    assert card.document["training"]["labels"]["fingerprint"] == labels.fingerprint
    assert card.document["training"]["rows"] == len(labels)
