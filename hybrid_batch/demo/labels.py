"""The labels of the demo's questions, as ``hybrid-batch label conf/demo-label.yaml`` made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hybrid_batch.core.errors import InputError
from hybrid_batch.demo.questions import all_questions
from hybrid_batch.labelset import LabelSet, read_labels, write_labels
from hybrid_batch.parquet import to_parquet
from hybrid_batch.tables import LABELS

DATA = Path(__file__).parent / "data"
TABLE = DATA / "labels.parquet"


def demo_labels(path: Path = TABLE) -> LabelSet:
    """The labels that come with the package, in the order of the questions.

    Raises ``InputError`` if they belong to other questions than :func:`all_questions` makes.
    """
    labels = read_labels(str(path))
    expected = [(question.query_id, question.prompt) for question in all_questions()]
    found = list(zip(labels.query_ids, labels.prompts, strict=True))
    if found != expected:
        odd = next((now[0] for now, then in zip(expected, found, strict=False) if now != then), "a question")
        raise InputError(f"{path}: labels of other questions ({odd} differs); label the demo's questions again")
    return labels


def write_labels_of(path: Path, split: str) -> int:
    """The labels of ``split`` as a labels table -> rows."""
    chosen = demo_labels().take(np.array([question.split == split for question in all_questions()]))
    write_labels(str(path), chosen)
    return len(chosen)


def adopt_labels(source: Path, target: Path = TABLE) -> None:
    """Make the table ``source`` the one that comes with the package, its rows in the order of the questions."""
    places = {question.query_id: number for number, question in enumerate(all_questions())}
    table = pq.read_table(source, schema=LABELS)
    order = np.argsort([places.get(name, -1) for name in table["query_id"].to_pylist()], kind="stable")
    target.write_bytes(to_parquet(table.take(pa.array(order))))
    demo_labels(target)
