"""Each row names its scorer: for data that mix tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from hybrid_batch.core.errors import InputError
from hybrid_batch.quality import measures
from hybrid_batch.quality.base import Case
from hybrid_batch.quality.per_answer import Judge, Measure, PerAnswerScorer

ROW_KINDS: Final[Mapping[str, Callable[[], Measure]]] = MappingProxyType(
    {
        "exact": measures.exact,
        "contains": measures.contains,
        "numeric": measures.numeric,
        "choice": measures.choice,
        "token_f1": measures.token_f1,
        "rouge_l": measures.rouge_l,
    }
)
"""Scorers that a row may name; they have their default options."""

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "em": "exact",
        "exact_match": "exact",
        "cem": "contains",
        "gsm8k": "numeric",
        "em_mc": "choice",
        "multiple_choice": "choice",
        "f1": "token_f1",
        "f1_score": "token_f1",
        "rouge-l": "rouge_l",
        "rougel": "rouge_l",
    }
)
"""Names of metrics in public data sets, in lower case, and the scorer that computes them."""

LEFT_OUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "math": "equality of LaTeX expressions needs a computer algebra system",
        "code_eval": "it runs the code of the answer",
        "commongen_coverage": "it needs the inflected forms of words",
    }
)
"""Names of metrics that are known and have no scorer here, with the reason."""


class PerTaskScorer(PerAnswerScorer):
    """Judges each case with the scorer that its ``kind`` names.

    Raises ``InputError`` for a case whose kind is missing or unknown.
    """

    def __init__(self) -> None:
        self._measures: dict[str, Measure] = {}
        super().__init__(self._of_row)

    def _of_row(self, case: Case) -> Judge:
        kind = row_kind(case)
        if kind not in self._measures:
            self._measures[kind] = ROW_KINDS[kind]()
        return self._measures[kind](case)


def row_kind(case: Case) -> str:
    """The key of :data:`ROW_KINDS` that ``case.kind`` names, whatever its case.  Raises ``InputError``."""
    if case.kind is None or not case.kind.strip():
        raise InputError(f"query {case.query_id!r} names no scorer, and by_row needs one; {_allowed()}")
    name = case.kind.strip().casefold()
    kind = ALIASES.get(name, name)
    if kind not in ROW_KINDS:
        reason = f" is not supported ({LEFT_OUT[name]})" if name in LEFT_OUT else " is unknown"
        raise InputError(f"query {case.query_id!r}: the scorer {case.kind!r}{reason}; {_allowed()}")
    return kind


def _allowed() -> str:
    return f"allowed: {', '.join(ROW_KINDS)}, or one of the names {', '.join(ALIASES)}"
