"""Scorers: how good is an answer to a query?  Their qualities are the labels that a router learns from.

This room judges answers; :class:`hybrid_batch.engines.base.Scorer` is the router, which sees queries only.
"""

from hybrid_batch.quality.base import Answers, AnswerScorer, Case, Qualities, ScorerRecipe
from hybrid_batch.quality.registry import (
    SCORERS,
    ScorerKind,
    build_scorer,
    check_recipe,
    kind_of,
    needs_reference,
    versions_of,
)

__all__ = [
    "Answers",
    "AnswerScorer",
    "Case",
    "Qualities",
    "SCORERS",
    "ScorerKind",
    "ScorerRecipe",
    "build_scorer",
    "check_recipe",
    "kind_of",
    "needs_reference",
    "versions_of",
]
