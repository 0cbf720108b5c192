"""The configuration of ``hybrid-batch label``: that of a run, with a sample and a scorer in place of the routing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Final

from pydantic import Field, model_validator

from hybrid_batch.config.fields import POSITIVE_INT, Int, Number, PositiveInt, Section, Text
from hybrid_batch.config.job import AnswerConfig, PolicySection, RouterSection
from hybrid_batch.config.loading import load_as
from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.core.inputs import LabelColumns
from hybrid_batch.engines.base import Sampling
from hybrid_batch.quality import versions_of
from hybrid_batch.quality.base import OptionValue, ScorerRecipe
from hybrid_batch.tables import reserved_names

MOST_QUERIES: Final = 100_000
"""The driver holds the sample while it cuts it into shards."""
COLUMN: Final = "name of a column of the input"
_TEMPERATURE: Final = 0.7


class ScorerSection(Section):
    """How an answer becomes a number."""

    kind: Annotated[Text, Field(description="name of a scorer, or module:function")]
    column: Annotated[Text | None, Field(description=f"{COLUMN}, for kind: by_row")] = None
    options: Annotated[dict[str, OptionValue], Field(description="options of that scorer: names with values")] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _column_where_needed(self) -> ScorerSection:
        if (self.kind == "by_row") != (self.column is not None):
            raise ValueError("column names each row's scorer: it belongs to kind: by_row, and that kind needs it")
        return self

    def to_recipe(self) -> ScorerRecipe:
        return ScorerRecipe.of(self.kind, **self.options)

    def told(self) -> str:
        """The scorer in a few words; options may name an endpoint, never a key."""
        given = ", ".join(f"{name} {value}" for name, value in sorted(self.options.items()))
        return self.kind + (f" ({given})" if given else "") + (f" of column {self.column}" if self.column else "")


class LabelsSection(Section):
    """Which queries are labelled, how many answers each gets, and how these are judged."""

    sample: Annotated[
        Int, Field(ge=1, le=MOST_QUERIES, description=f"a whole number of queries from 1 to {MOST_QUERIES:,}")
    ] = 1000
    answers: Annotated[PositiveInt, Field(le=1000, description=f"{POSITIVE_INT}, at most 1,000")] = 10
    temperature: Annotated[Number | None, Field(ge=0, le=2, description="a number from 0 to 2")] = None
    seed: Annotated[Int | None, Field(ge=0, lt=2**62, description="a whole number of at least 0")] = 0
    reference: Annotated[Text | None, Field(description=COLUMN)] = None
    choices: Annotated[Text | None, Field(description=COLUMN)] = None
    scorer: Annotated[ScorerSection, Field(description="a mapping with kind")]

    @model_validator(mode="after")
    def _several_differ(self) -> LabelsSection:
        if self.answers > 1 and self.temperature == 0:
            raise ValueError(f"temperature is 0 and answers is {self.answers}: the same answer {self.answers} times")
        return self

    @model_validator(mode="after")
    def _free_names(self) -> LabelsSection:
        named = (self.reference, self.choices, self.scorer.column)
        if taken := sorted(name for name in {*named} if name is not None and name.lower() in reserved_names()):
            raise ValueError(f"{', '.join(taken)}: the results have a column of that name; rename it in the input")
        return self


class LabelConfig(AnswerConfig):
    """Everything a labelling needs to know.

    ``router`` and ``policy`` are allowed, so that it can build on the file of a run, and have no part in it.
    """

    router: RouterSection | None = None
    policy: PolicySection | None = None
    labels: Annotated[LabelsSection, Field(description="a mapping with scorer")]

    def answers_sampling(self) -> Sampling:
        """How answers are drawn: as in a run, but several to a query must be able to differ."""
        wanted, sampling = self.labels, self.sampling.to_sampling()
        if wanted.answers == 1 and wanted.temperature is None:
            return sampling
        temperature = _TEMPERATURE if wanted.temperature is None else wanted.temperature
        return replace(sampling, temperature=temperature, seed=wanted.seed)

    def labels_key(self) -> str:
        """A name for the labels that are made of the answers: another scorer, option, column or code, another name."""
        scorer = self.labels.scorer
        parts = [scorer.model_dump(mode="json"), asdict(self.columns()), versions_of(scorer.to_recipe())]
        return f"{re.sub(r'[^a-z0-9_]+', '-', scorer.kind.lower())}-{fingerprint(parts)[:8]}"

    def columns(self) -> LabelColumns:
        """The columns that labels are made from."""
        wanted = self.labels
        return LabelColumns(self.input.columns.task, wanted.reference, wanted.choices, wanted.scorer.column)


def load_label_config(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> LabelConfig:
    """The labelling in ``path``.  Raises ConfigError as :func:`hybrid_batch.config.loading.load_as`."""
    return load_as(LabelConfig, path, overrides, environ)
