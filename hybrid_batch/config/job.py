"""The configuration of a run: closed sections, each of which gives the rooms below the one value they need."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hybrid_batch.config.fields import (
    LOCATION,
    POSITIVE_INT,
    SHARE,
    TEXT,
    Location,
    Number,
    PositiveInt,
    Section,
    Share,
    Text,
    Texts,
)
from hybrid_batch.config.sampling import SamplingSection
from hybrid_batch.config.secrets import redact
from hybrid_batch.config.tiers import EndpointTier, ServerTier, Tier
from hybrid_batch.core.inputs import OPENAI_BATCH, InputSpec
from hybrid_batch.core.routing import LARGE, SMALL, Policy, SmallSharePolicy, ThresholdPolicy
from hybrid_batch.engines.base import Backend
from hybrid_batch.tables import reserved_names

DATED_FIELDS: Final = (("run", "name"), ("run", "output"), ("input", "path"))
"""Fields in which ``{date}`` stands for ``run.date``."""

_BATCH_COLUMNS: Final[Mapping[str, str]] = {"id": "custom_id", "messages": "body"}

_SHARD_ROWS: Final = 1000
_WINDOWS_PER_SHARD: Final = 4
"""So that most of a shard's time its window is full, also where no other task feeds the engine."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")


def _iso_date(value: Any) -> Any:
    """YAML reads an unquoted date as one."""
    if value is None:
        return None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, str) and datetime.date.fromisoformat(value).isoformat() == value:
        return value
    raise ValueError("not a date")


def _kept(value: tuple[str, ...]) -> tuple[str, ...]:
    # Spark does not tell upper and lower case apart in names.
    if taken := sorted(name for name in set(value) if name.lower() in reserved_names()):
        raise ValueError(f"{', '.join(taken)}: the results have a column of that name; rename it in the input")
    if len({name.lower() for name in value}) != len(value):
        raise ValueError("a column is named twice")
    return value


class RunSection(Section):
    """Identity and place of a run."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            max_length=100,
            description="letters, digits, '.', '_' and '-', the first a letter or digit, at most 100",
        ),
    ]
    output: Annotated[Location, Field(description=LOCATION)]
    date: Annotated[str | None, BeforeValidator(_iso_date), Field(description="a date as in 2026-11-23")] = None
    log_dir: Annotated[Location | None, Field(description="a local folder")] = None
    max_error_rate: Annotated[Share, Field(description=SHARE)] = 0.05


class ColumnsSection(Section):
    """Names of the input's columns."""

    id: Annotated[Text | None, Field(description="name of a column")] = None
    prompt: Annotated[Text | None, Field(description="name of a column of text")] = None
    messages: Annotated[Text | None, Field(description="name of a column of chat turns")] = None
    request: Annotated[Text | None, Field(description="name of a column of overrides")] = None
    image: Annotated[Text | None, Field(description="name of a column of images")] = None
    task: Annotated[Text | None, Field(description="name of a column of text, integers or booleans")] = None

    @model_validator(mode="after")
    def _one_of(self) -> ColumnsSection:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of prompt (a column of text) and messages (a column of chat turns)")
        return self


class InputSection(Section):
    """Where the queries are."""

    path: Annotated[Location, Field(description=LOCATION)]
    format: Annotated[
        Literal["parquet", "jsonl", "csv", "openai-batch"], Field(description="parquet, jsonl, csv or openai-batch")
    ]
    columns: Annotated[ColumnsSection, Field(description="a mapping with prompt or messages, and id if there is one")]
    keep: Annotated[tuple[Text, ...], AfterValidator(_kept), Field(description="a list of column names")] = ()
    limit: Annotated[PositiveInt | None, Field(description=POSITIVE_INT)] = None
    rows_per_split: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 50_000
    bytes_per_split: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 134_217_728
    max_prompt_bytes: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 1_048_576

    @model_validator(mode="before")
    @classmethod
    def _batch_columns(cls, data: Any) -> Any:
        """A batch file says by itself what is where."""
        if not isinstance(data, Mapping) or data.get("format") != OPENAI_BATCH:
            return data
        columns = data.get("columns") or {}
        if not isinstance(columns, Mapping):
            return data
        given = {name for name, column in columns.items() if column not in (None, _BATCH_COLUMNS.get(name))}
        if needless := sorted(given & {*ColumnsSection.model_fields} - {"task"}):
            raise ValueError(
                f"columns.{needless[0]}: is not allowed with format: {OPENAI_BATCH}, whose lines have custom_id and "
                "body.messages; allowed is task"
            )
        return {**data, "columns": {**columns, **_BATCH_COLUMNS}}

    @model_validator(mode="after")
    def _task_is_kept(self) -> InputSection:
        try:
            _kept(self.carried)
        except ValueError as error:
            raise ValueError(f"columns.task: {error}") from error
        return self

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns that the results get from the input: those of ``keep``, then the task."""
        task = self.columns.task
        return self.keep if task is None or task in self.keep else (*self.keep, task)

    def to_spec(self) -> InputSpec:
        return InputSpec(
            path=self.path,
            format=self.format,
            id_column=self.columns.id,
            prompt_column=self.columns.prompt,
            messages_column=self.columns.messages,
            keep=self.carried,
            limit=self.limit,
            rows_per_split=self.rows_per_split,
            bytes_per_split=self.bytes_per_split,
            max_prompt_bytes=self.max_prompt_bytes,
            task_column=self.columns.task,
            request_column=self.columns.request,
            image_column=self.columns.image,
        )


class RouterSection(Section):
    """The model that scores queries."""

    path: Annotated[Location, Field(description=f"{LOCATION} of a router folder")]
    backend: Annotated[Backend, Field(description=f"one of {', '.join(get_args(Backend))}")] = "auto"


class PolicySection(Section):
    """How scores become tiers."""

    threshold: Annotated[Share | None, Field(description=SHARE)] = None
    small_share: Annotated[Share | None, Field(description=SHARE)] = None

    max_drop_pct: Annotated[Number | None, Field(gt=0, lt=100, description="a percent above 0 and below 100")] = None
    confidence: Annotated[Number, Field(gt=0, lt=1, description="a number above 0 and below 1")] = 0.95
    by: Annotated[Text | None, Field(description="name of a column of input.keep, or of input.columns.task")] = None

    @model_validator(mode="after")
    def _one_of(self) -> PolicySection:
        if sum(value is not None for value in (self.threshold, self.small_share, self.max_drop_pct)) != 1:
            raise ValueError("give exactly one of threshold (0 to 1), small_share (0 to 1) and max_drop_pct (percent)")
        if self.by is not None and self.max_drop_pct is None:
            raise ValueError(f"by: {self.by!r} goes with max_drop_pct: only a promise is calibrated for each group")
        return self

    def to_policy(self) -> Policy | None:
        """The policy; None for a promise, whose thresholds are kept beside the router."""
        if self.threshold is not None:
            return ThresholdPolicy(self.threshold)
        return None if self.small_share is None else SmallSharePolicy(self.small_share)


class PromptSection(Section):
    """What stands around each query."""

    system: Annotated[str | None, Field(description="text")] = None


class TiersSection(Section):
    """The two models."""

    small: Tier
    large: Tier

    def by_name(self) -> dict[str, ServerTier | EndpointTier]:
        return {SMALL: self.small, LARGE: self.large}


class ShardsSection(Section):
    """Size of the units of work."""

    rows: Annotated[PositiveInt | None, Field(description=POSITIVE_INT)] = None
    share_answers: Annotated[bool, Field(description="true or false")] = True


class SparkSection(Section):
    """The cluster.  ``master`` None leaves it to spark-submit."""

    master: Annotated[Text | None, Field(description='text as in "local[2]" or "spark://host:7077"')] = None
    app_name: Annotated[Text, Field(description=TEXT)] = "hybrid-batch"
    conf: Annotated[Texts, Field(description="Spark settings: names with text")] = Field(default_factory=dict)


class AnswerConfig(Section):
    """What it takes to have queries answered by two models, whatever the answers are for."""

    run: RunSection
    input: InputSection
    tiers: TiersSection
    prompt: PromptSection = PromptSection()
    sampling: SamplingSection = SamplingSection()
    shards: ShardsSection = ShardsSection()
    spark: SparkSection = SparkSection()

    @model_validator(mode="before")
    @classmethod
    def _insert_date(cls, data: Any) -> Any:
        return insert_date(data) if isinstance(data, Mapping) else data

    def shard_rows(self) -> int:
        """Rows of a shard: as set, else a thousand, or more where a model answers more than 250 queries at once."""
        windows = (tier.requests_at_once() for tier in self.tiers.by_name().values())
        return self.shards.rows or max(_SHARD_ROWS, _WINDOWS_PER_SHARD * max(windows))

    def redacted(self) -> dict[str, Any]:
        """Plain JSON values for records and displays, with everything secret hidden."""
        hidden: dict[str, Any] = redact(self.model_dump(mode="json"))
        return hidden


class JobConfig(AnswerConfig):
    """Everything a run needs to know, checked."""

    router: RouterSection
    policy: PolicySection

    @model_validator(mode="after")
    def _groups_are_carried(self) -> JobConfig:
        by, carried = self.policy.by, self.input.carried
        if by is not None and by not in carried:
            named = ", ".join(repr(name) for name in carried) or "none"
            raise ValueError(
                f"policy.by: there is no column {by!r} in input.keep or input.columns.task; these name {named}"
            )
        return self


def insert_date(data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with ``{date}`` replaced in :data:`DATED_FIELDS`.

    Raises ``ValueError`` for another ``{name}``, and for ``{date}`` when ``run.date`` is not set.
    """
    done = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    run = done.get("run")
    date = run.get("date") if isinstance(run, dict) else None
    for section, key in DATED_FIELDS:
        fields = done.get(section)
        if isinstance(fields, dict) and isinstance(text := fields.get(key), str):
            fields[key] = _dated(f"{section}.{key}", text, date)
    return done


def _dated(field: str, text: str, date: Any) -> str:
    names = set(_PLACEHOLDER.findall(text))
    if unknown := sorted(names - {"date"}):
        raise ValueError(f"{field}: {text!r} holds {{{unknown[0]}}}; allowed is {{date}}")
    if names and date is None:
        raise ValueError(f"{field}: {text!r} holds {{date}} and run.date is not set; give it there or by --date")
    return text.replace("{date}", str(date))
