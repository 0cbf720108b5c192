"""The router as a column in a user's own Spark code: a pandas UDF, and a function for ``mapInArrow``.

Both give each row what a job would: the same score, and null where a job refuses the row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, get_args

import pandas as pd  # type: ignore[import-untyped]
import pyarrow as pa
from pyarrow import types

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.core.inputs import InputSpec
from hybrid_batch.engines.base import Backend, RouterRecipe
from hybrid_batch.routers import router_recipe
from hybrid_batch.spark import executor
from hybrid_batch.spark.queries import is_text, prompt_columns
from hybrid_batch.stages.groups import ALLOWED, is_nameable
from hybrid_batch.stages.guard import guard
from hybrid_batch.stages.score import score_batches

if TYPE_CHECKING:
    from pyspark.sql import Column
    from pyspark.sql.types import StructType

MAX_PROMPT_BYTES: Final = InputSpec.max_prompt_bytes
"""The longest prompt, in UTF-8 bytes, that is scored where nothing else is said; that of a job."""

Query = tuple[pa.Array, pa.Array | None]
"""Prompts and, where there are some, tasks of a batch: string ``[n]`` each."""

_PATH: Final = "router_path"
_TASK: Final = "task"
_SCORE: Final = pa.schema([pa.field("score", pa.float64())])


@dataclass(frozen=True)
class Scores:
    """What travels to the executors: which router, and how long a prompt may be, in UTF-8 bytes."""

    recipe: RouterRecipe
    max_prompt_bytes: int

    def __call__(self, queries: Iterable[Query]) -> Iterator[pa.Array]:
        """Scores of each batch of queries, in order: float64 ``[n]``, null for a row that a job would refuse."""
        coming = iter(queries)
        if (first := next(coming, None)) is None:
            return  # An empty partition needs no model.
        scorer = executor.scorer(self.recipe)
        batches = (guard(_rows(*query), self.max_prompt_bytes) for query in chain([first], coming))
        for scored in score_batches(batches, scorer, _SCORE, None if first[1] is None else _TASK):
            yield scored["score"]


def router_score(
    router_path: str,
    *,
    backend: Backend = "auto",
    threads: int | None = None,
    max_prompt_bytes: int = MAX_PROMPT_BYTES,
) -> Callable[..., Column]:
    """A deterministic pandas UDF that gives each prompt the score of the router in ``router_path``: a double, or null.

    Call it with a column of prompts and, for a router that learned tasks, one of tasks; or give it to
    ``spark.udf.register``.  ``router_path`` is a folder that every executor has, or an ``s3://`` URL; its card is read
    here and now, its files once in each Python worker.  A prompt that is null, blank, not valid UTF-8 or longer than
    ``max_prompt_bytes`` has no score.

    ``backend`` says what computes the scores; ``auto`` is decided on each executor.  ``threads`` bounds the CPU threads
    of one Python worker; None takes those of its task (``spark.task.cpus``).

    Raises ``ConfigError`` if there is no router, or for an argument that is not allowed.
    """
    from pyspark.sql import functions as F  # noqa: N812

    scores = _scores(router_path, backend, threads, max_prompt_bytes)

    def router_score(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for found in scores(_queries(batches)):
            yield found.to_pandas()

    udf = F.pandas_udf(router_score, "double")

    @wraps(udf)  # What makes a function a UDF for spark.udf.register are its attributes.
    def column(prompt: Column | str, task: Column | str | None = None) -> Column:
        tasks = [] if task is None else [_column(task).cast("string")]
        # A collation is set of text alone, so that a column of another type is refused.
        texts = [F.collate(_column(prompt), "UTF8_BINARY"), *tasks]
        return udf(*(F.try_validate_utf8(text) for text in texts)).alias("score")

    return column


def router_score_arrow(
    router_path: str,
    *,
    prompt: str = "prompt",
    task: str | None = None,
    score: str = "score",
    backend: Backend = "auto",
    threads: int | None = None,
    max_prompt_bytes: int = MAX_PROMPT_BYTES,
) -> ArrowScores:
    """A function for ``mapInArrow`` that adds the column ``score`` behind the others, which stay as they are.

    ``prompt`` and ``task`` name columns of the DataFrame; everything else is as in :func:`router_score`.
    """
    return ArrowScores(_scores(router_path, backend, threads, max_prompt_bytes), prompt, task, score)


@dataclass(frozen=True)
class ArrowScores:
    """Batches with prompts -> the same batches with a score: ``df.mapInArrow(f, f.schema(df.schema))``."""

    scores: Scores
    prompt: str
    task: str | None
    score: str

    def schema(self, schema: StructType) -> StructType:
        """The columns of ``schema`` and the score.

        Raises ``ConfigError`` for a column that is missing, there already, or of a type that has no score.
        """
        from pyspark.sql.types import DoubleType, StringType, StructField, StructType

        if not isinstance((kind := _field(schema, "prompt", self.prompt).dataType), StringType):
            raise ConfigError(f"prompt: column {self.prompt!r} is {kind.simpleString()}, allowed is text")
        if self.task is not None:
            _require_nameable(_field(schema, "task", self.task))
        if taken := [name for name in schema.names if name.lower() == self.score.lower()]:
            raise ConfigError(f"score: there is a column {taken[0]!r} already; give the score another name")
        return StructType([*schema.fields, StructField(self.score, DoubleType())])

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Each of ``batches`` with its scores, in the same order."""
        taken: deque[pa.RecordBatch] = deque()
        for scores in self.scores(self._queries(batches, taken)):
            yield taken.popleft().append_column(self.score, scores)

    def _queries(self, batches: Iterable[pa.RecordBatch], taken: deque[pa.RecordBatch]) -> Iterator[Query]:
        # A batch is read before the one before it has its scores, so more than one may be on the way.
        for batch in batches:
            taken.append(batch)
            yield _valid(batch[self.prompt]), None if self.task is None else _valid(batch[self.task])


def _scores(router_path: str, backend: Backend, threads: int | None, max_prompt_bytes: int) -> Scores:
    for name, number in (("threads", threads), ("max_prompt_bytes", max_prompt_bytes)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ConfigError(f"{name}: {number!r} is not allowed; allowed are whole numbers of at least 1")
    if backend not in get_args(Backend):
        raise ConfigError(f"backend: {backend!r} is not allowed; allowed are {', '.join(get_args(Backend))}")
    try:
        recipe = router_recipe(str(router_path), backend, threads, _PATH)
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(_PATH) else f"{_PATH}: {error}") from error
    return Scores(recipe, max_prompt_bytes)


def _rows(prompts: pa.Array, tasks: pa.Array | None) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(prompt_columns(prompts) | ({} if tasks is None else {_TASK: tasks}))


def _queries(batches: Iterable[pd.Series | tuple[pd.Series, ...]]) -> Iterator[Query]:
    """What Spark hands over, a series for one column and a tuple for more, as queries."""
    for batch in batches:
        columns = batch if isinstance(batch, tuple) else (batch,)
        if len(columns) > 2:
            raise InputError(f"router_score: got {len(columns)} columns, allowed are a prompt and a task")
        prompt, *task = (_text(column, name) for column, name in zip(columns, ("prompt", _TASK), strict=False))
        yield prompt, task[0] if task else None


def _text(values: pd.Series, name: str) -> pa.Array:
    """``values`` as text; null for one with lone surrogates, which is none.  Raises ``InputError`` for other types."""
    try:
        found = pa.array(values, from_pandas=True)
    except UnicodeEncodeError:
        found = pa.array([value if isinstance(value, str) and is_text(value) else None for value in values])
    except pa.ArrowException as error:
        raise InputError(f"router_score: the {name} must be text: {error}") from error
    if not (types.is_string(found.type) or types.is_null(found.type)):
        raise InputError(f"router_score: the {name} must be text, got {found.type}")
    return found.cast(pa.string())


def _valid(column: pa.Array) -> pa.Array:
    """``column`` as text; null for a value that is no UTF-8, which Spark does not check."""
    text = column.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array([_decoded(value) for value in text.cast(pa.binary()).to_pylist()], pa.string())
    return text


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _field(schema: StructType, argument: str, name: str) -> Any:
    if (count := schema.names.count(name)) != 1:
        found = "there is no column" if not count else f"there are {count} columns"
        raise ConfigError(f"{argument}: {found} {name!r}; the columns are {', '.join(schema.names)}")
    return schema[name]


def _require_nameable(field: Any) -> None:
    from pyspark.sql.pandas.types import to_arrow_type

    try:
        nameable = is_nameable(to_arrow_type(field.dataType, timezone="UTC"))
    except TypeError:
        nameable = False
    if not nameable:
        raise ConfigError(f"task: column {field.name!r} is {field.dataType.simpleString()}, allowed is {ALLOWED}")


def _column(given: Column | str) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    return F.col(given) if isinstance(given, str) else given
