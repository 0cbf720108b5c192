"""Scorers that judge one answer at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hybrid_batch.core.errors import InputError
from hybrid_batch.quality.base import Answers, Case, Qualities

Judge = Callable[[str], float]
"""The quality of one answer to a known query."""

Measure = Callable[[Case], Judge]
"""Prepares a query once, and raises ``InputError`` for one that cannot be judged (no reference)."""


class PerAnswerScorer:
    """A measure as an :class:`~hybrid_batch.quality.base.AnswerScorer`.

    All cases are prepared before the first answer is judged: a missing reference is found whatever the answers are.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure

    def score(self, cases: Sequence[Case], small: Answers, large: Answers) -> tuple[Qualities, Qualities]:
        judges = [self._measure(case) for case in cases]
        return _qualities(judges, small), _qualities(judges, large)

    def close(self) -> None:
        return


def _qualities(judges: Sequence[Judge], answers: Answers) -> Qualities:
    return [
        [None if answer is None else judge(answer) for answer in row]
        for judge, row in zip(judges, answers, strict=True)
    ]


def reference_of(case: Case, scorer: str) -> str:
    """The reference of ``case``.  Raises ``InputError`` where it is missing or blank."""
    if case.reference is None or not case.reference.strip():
        raise InputError(
            f"query {case.query_id!r} has no reference answer, and the scorer {scorer} compares with one; name the "
            "column that holds it in labels.reference, or choose a scorer that needs none"
        )
    return case.reference


def references_of(case: Case, scorer: str, separator: str | None) -> list[str]:
    """The references of ``case``, of which one is enough, cut at ``separator`` (None: there is one, uncut)."""
    whole = reference_of(case, scorer)
    if separator is None:
        return [whole]
    found = [part for part in whole.split(separator) if part.strip()]
    if not found:
        raise InputError(
            f"query {case.query_id!r} has the reference {whole!r}: nothing is left of it between the separators "
            f"{separator!r}"
        )
    return found
