"""Whether an answer to a question of the demo is right: the scorer of ``conf/demo-label.yaml``."""

from __future__ import annotations

import functools

from hybrid_batch.core.errors import InputError
from hybrid_batch.demo.checks import score
from hybrid_batch.demo.questions import Question, all_questions
from hybrid_batch.quality.base import Case


def judge(answer: str, case: Case) -> float:
    """1.0 for a right answer, else 0.0.  Raises ``InputError`` for a query that is no question of the demo."""
    question = _questions().get(case.query_id)
    if question is None or question.prompt != case.prompt:
        raise InputError(f"query {case.query_id!r} is no question of the demo, so its answer cannot be checked")
    return score(answer, question.answer, question.check)


@functools.cache
def _questions() -> dict[str, Question]:
    return {question.query_id: question for question in all_questions()}
