"""The scorers by name: what each is, its options, how it is built and what must be there for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.quality import measures
from hybrid_batch.quality.bartscore import DIRECTIONS, PROMPT_TO_ANSWER, REFERENCE_TO_ANSWER, check_folder
from hybrid_batch.quality.base import AnswerScorer, ScorerRecipe
from hybrid_batch.quality.by_row import PerTaskScorer
from hybrid_batch.quality.options import Option, settings
from hybrid_batch.quality.per_answer import Measure, PerAnswerScorer
from hybrid_batch.quality.user_function import KIND as FUNCTION
from hybrid_batch.quality.user_function import import_function, source_hash, user_measure

UNIT: Final = (0.0, 1.0)
VERSION: Final = 1
"""Raised when a scorer here would give the same answer another quality."""


@dataclass(frozen=True)
class ScorerKind:
    """One kind of scorer.  ``bounds`` are the lowest and the highest quality, None where it has no bounds.

    ``needs_reference`` holds with default options; :func:`needs_reference` knows a recipe's.
    """

    what: str
    needs_reference: bool
    bounds: tuple[float, float] | None
    options: Mapping[str, Option] = field(default_factory=dict)


_SEPARATOR = {"separator": Option("the text between several references; none: there is one, uncut", str)}

SCORERS: Final[Mapping[str, ScorerKind]] = MappingProxyType(
    {
        "exact": ScorerKind("the same words as a reference", True, UNIT, _SEPARATOR),
        "contains": ScorerKind("a reference occurs in it, as whole words", True, UNIT, _SEPARATOR),
        "numeric": ScorerKind("its final number is the reference's", True, UNIT),
        "choice": ScorerKind("the letter chosen, A to J, is the reference's", True, UNIT),
        "token_f1": ScorerKind("F1 of the words shared with the best reference", True, UNIT, _SEPARATOR),
        "rouge_l": ScorerKind(
            "ROUGE-L's F-measure against the best reference",
            True,
            UNIT,
            {**_SEPARATOR, "stemmer": Option("cut the endings of English words", bool, False)},
        ),
        "bartscore": ScorerKind(
            "mean log-likelihood under a sequence-to-sequence model",
            True,
            None,
            {
                "model": Option("folder of the checkpoint, where the scorer runs", str, required=True),
                "direction": Option("which text follows which", str, REFERENCE_TO_ANSWER, allowed=DIRECTIONS),
                "batch_size": Option("pairs of texts in one pass", int, 8, least=1),
                "max_length": Option("tokens of a text that are read, from its start", int, 1024, least=2),
            },
        ),
        "judge": ScorerKind(
            "grades of a model behind an endpoint, in both orders",
            False,
            UNIT,
            {
                "endpoint": Option(
                    "base URL of an OpenAI-compatible endpoint, such as https://host/v1", str, required=True
                ),
                "model": Option("name of the judging model there", str, required=True),
                "api_key_env": Option("environment variable that holds the key, on driver and executors", str),
                "votes": Option("verdicts in both orders for each pair of answers", int, 1, least=1),
                "temperature": Option("of the judge; votes differ only above 0", float, 0.0, least=0),
                "max_tokens": Option("tokens of one reply", int, 512, least=1),
                "concurrency": Option("requests under way at once, of each task", int, 16, least=1),
                "instructions": Option("what else the judge is told, as a text", str),
                "request_timeout_s": Option("seconds that one request may take", float, 120.0, least=0.1),
                "retry_budget_s": Option(
                    "seconds without any answer after which it is given up", float, 300.0, least=0
                ),
            },
        ),
        "by_row": ScorerKind("each row names its scorer", True, UNIT),
        FUNCTION: ScorerKind("a function of your own, such as my_scorers:score", False, None),
    }
)
"""All scorers by the ``kind`` of their recipe; any kind with a colon is the last one."""


def kind_of(recipe: ScorerRecipe) -> ScorerKind:
    """What ``recipe`` asks for.  Raises ``ConfigError`` for a kind that does not exist."""
    name = FUNCTION if ":" in recipe.kind else recipe.kind
    if name not in SCORERS:
        raise ConfigError(f"the scorer {recipe.kind!r} is unknown; allowed: {', '.join(SCORERS)}")
    return SCORERS[name]


def needs_reference(recipe: ScorerRecipe) -> bool:
    """Whether each query must have a reference answer.  Raises ``ConfigError`` for a kind that does not exist."""
    faithful = recipe.kind == "bartscore" and dict(recipe.options).get("direction") == PROMPT_TO_ANSWER
    return kind_of(recipe).needs_reference and not faithful


def versions_of(recipe: ScorerRecipe) -> dict[str, Any]:
    """What, beside the recipe, decides the qualities that it gives, as plain values.

    That is the version of the scorers, the source of a function of the user's, the files of a checkpoint by name, size
    and modification time.  Raises ``ConfigError`` for a function that cannot be imported.
    """
    found: dict[str, Any] = {"scorers": VERSION}
    if ":" in recipe.kind:
        found["source"] = source_hash(recipe.kind)
    if recipe.kind == "bartscore":
        folder = Path(str(dict(recipe.options).get("model", "")))
        files = sorted(path for path in folder.glob("*") if path.is_file())
        found["files"] = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return found


def check_recipe(recipe: ScorerRecipe) -> None:
    """Raises ``ConfigError`` for what can be known to fail before an answer is judged.

    That is an unknown kind or option, a function that cannot be imported, a missing model folder or package, an
    endpoint that is no URL or whose key is not set.  No model is loaded and nothing is asked over the network.
    """
    values: dict[str, Any] = settings(recipe, kind_of(recipe).options)
    if ":" in recipe.kind:
        import_function(recipe.kind)
    elif recipe.kind in _CHECKS:
        _CHECKS[recipe.kind](values)


def build_scorer(recipe: ScorerRecipe) -> AnswerScorer:
    """The scorer of ``recipe``, ready to judge.  Raises ``ConfigError`` as :func:`check_recipe` does."""
    check_recipe(recipe)
    values: dict[str, Any] = settings(recipe, kind_of(recipe).options)
    if ":" in recipe.kind:
        return PerAnswerScorer(user_measure(recipe.kind))
    if recipe.kind in _MEASURES:
        return PerAnswerScorer(_MEASURES[recipe.kind](**values))
    return _BUILDERS[recipe.kind](values)


def _judge(values: Mapping[str, Any]) -> AnswerScorer:
    from hybrid_batch.engines.base import EndpointRecipe, Sampling
    from hybrid_batch.quality.judge import JudgeScorer, JudgeSettings

    shared = ("model", "api_key_env", "concurrency", "request_timeout_s", "retry_budget_s")
    endpoint = EndpointRecipe(tier="judge", base_url=values["endpoint"], **{name: values[name] for name in shared})
    sampling = Sampling(temperature=values["temperature"], max_tokens=values["max_tokens"])
    return JudgeScorer(endpoint, JudgeSettings(values["votes"], sampling, values["instructions"]))


def _check_judge(values: Mapping[str, Any]) -> None:
    endpoint, variable = values["endpoint"], values["api_key_env"]
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            f"scorer judge: endpoint = {endpoint!r}, allowed is a URL that begins with http:// or https://"
        )
    if variable and not os.environ.get(variable):
        raise ConfigError(
            f"scorer judge: api_key_env = {variable!r}: this variable is not set here; it must be in the "
            "environment of the driver and of every executor"
        )


def _bartscore(values: Mapping[str, Any]) -> AnswerScorer:
    from hybrid_batch.quality.bartscore import load_bartscore

    return load_bartscore(values["model"], values["direction"], values["batch_size"], values["max_length"])


_MEASURES: Final[Mapping[str, Callable[..., Measure]]] = {
    "exact": measures.exact,
    "contains": measures.contains,
    "numeric": measures.numeric,
    "choice": measures.choice,
    "token_f1": measures.token_f1,
    "rouge_l": measures.rouge_l,
}
_BUILDERS: Final[Mapping[str, Callable[[Mapping[str, Any]], AnswerScorer]]] = {
    "bartscore": _bartscore,
    "judge": _judge,
    "by_row": lambda _: PerTaskScorer(),
}
_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "rouge_l": lambda _: measures.require_rouge(),
    "bartscore": lambda values: check_folder(values["model"]),
    "judge": _check_judge,
}
