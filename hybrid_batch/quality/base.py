"""What a labelling job needs of a scorer: one protocol, its values, and a recipe.

A recipe is a small picklable value that travels to the executor; the scorer is built there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Answers = Sequence[Sequence[str | None]]
"""Answers of one model: for each query a sequence of texts, None where the model gave none."""

Qualities = list[list[float | None]]
"""Qualities shaped like the answers, the higher the better; None where there is no answer or no verdict."""

OptionValue = str | int | float | bool | None


@dataclass(frozen=True)
class Case:
    """One query as a scorer sees it.

    ``reference`` is the reference answer, None where there is none.  ``choices`` is the text of a multiple choice's
    options where the input has such a column.  ``kind`` names the scorer of this row for the recipe ``by_row``.
    """

    query_id: str
    prompt: str
    reference: str | None
    choices: str | None = None
    kind: str | None = None


@dataclass(frozen=True)
class ScorerRecipe:
    """Which scorer with which options.  Hashable, so that a scorer can be kept for its recipe.

    ``kind`` is a key of :data:`hybrid_batch.quality.registry.SCORERS`, or ``module:function``.
    """

    kind: str
    options: tuple[tuple[str, OptionValue], ...] = ()

    @classmethod
    def of(cls, kind: str, /, **options: OptionValue) -> ScorerRecipe:
        """The recipe of ``kind`` with these options, in an order that does not depend on how they were given."""
        return cls(kind, tuple(sorted(options.items())))


class AnswerScorer(Protocol):
    """Judges answers of both models."""

    def score(self, cases: Sequence[Case], small: Answers, large: Answers) -> tuple[Qualities, Qualities]:
        """Qualities of all answers of both models, shaped like the answers.

        None where an answer is None or cannot be judged.  Raises ``InputError`` for a case that the scorer cannot
        use (its reference is missing), ``EngineError`` if a model that judges is gone, ``ValueError`` if there are not
        as many rows of answers as cases.
        """
        ...

    def close(self) -> None:
        """Give back connections and memory.  The scorer is not used afterwards."""
        ...
