"""The demo's question set: short questions with checkable answers, the same on every machine.

Sixteen tasks of 24 to 60 questions, from what a tiny model can do to what a larger one fails at.  A hash of
the id puts a question into ``train`` (about 60 %) or ``heldout``; the router learns from the first only.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import xxhash

from hybrid_batch.demo.tasks import TASKS

TRAIN, HELDOUT = "train", "heldout"
_TRAIN_SHARE = 0.6


@dataclass(frozen=True)
class Question:
    """One question.  ``check`` is the kind that :func:`hybrid_batch.demo.checks.score` takes."""

    query_id: str
    task: str
    prompt: str
    answer: str
    check: str

    @property
    def split(self) -> str:
        return split_of(self.query_id)


def split_of(query_id: str) -> str:
    """``train`` or ``heldout``, from the id alone."""
    place = xxhash.xxh3_64_intdigest(query_id.encode()) / 2**64
    return TRAIN if place < _TRAIN_SHARE else HELDOUT


@functools.cache
def all_questions() -> tuple[Question, ...]:
    """The whole set, task by task; ids and prompts are unique."""
    return tuple(question for task in TASKS for question in _of_task(task))


def questions_of(split: str) -> tuple[Question, ...]:
    """The questions of one split, ``train`` or ``heldout``; ``ValueError`` for another word."""
    if split not in (TRAIN, HELDOUT):
        raise ValueError(f"split {split!r} is unknown; allowed: {TRAIN}, {HELDOUT}")
    return tuple(question for question in all_questions() if question.split == split)


def write_questions(path: Path, split: str | None = HELDOUT) -> int:
    """Write the questions of ``split`` (all: None) as JSON lines (query_id, task, prompt; no answers) -> rows."""
    questions = all_questions() if split is None else questions_of(split)
    return _write(path, questions, ("query_id", "task", "prompt"))


def write_answers(path: Path, split: str = HELDOUT) -> int:
    """Write what the answers are checked against (query_id, task, answer, check); the number of rows."""
    return _write(path, questions_of(split), ("query_id", "task", "answer", "check"))


def _of_task(task: str) -> list[Question]:
    # Seeding with text is the same in every process, unlike seeding with a builtin hash.
    items = TASKS[task](Random(f"hybrid-batch demo {task}"))  # noqa: S311 - no secret is drawn here
    distinct = {item.prompt: item for item in items}
    return [
        Question(f"{task}-{number:04d}", task, item.prompt, item.answer, item.check)
        for number, item in enumerate(distinct.values(), start=1)
    ]


def _write(path: Path, questions: Iterable[Question], keys: tuple[str, ...]) -> int:
    rows = [asdict(question) for question in questions]
    lines = [json.dumps({key: row[key] for key in keys}, ensure_ascii=False) + "\n" for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return len(rows)
