"""The router in a user's own Spark code: the scores of a job, for any row, in any order, in Python and in SQL."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F  # noqa: N812
from pyspark.util import PythonEvalType

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.core.inputs import InputSpec
from hybrid_batch.core.routing import GRID, to_micros
from hybrid_batch.engines.base import Backend
from hybrid_batch.engines.head import MixtureHead, save_head
from hybrid_batch.engines.router import load_router
from hybrid_batch.engines.router_card import CARD, HEAD, file_record
from hybrid_batch.spark import router_score, router_score_arrow
from tests.support.jobs import questions, results_of
from tests.support.tiny_router import DIM, make_tiny_router

TEXTS = [
    "What is the capital of France?",
    "Explain quicksort\nin two lines, with code:\n```python\nsorted([3, 1])\n```",
    "🙂🙃 what does this mean 👩‍👩‍👧‍👦?",
    "Привет, как дела? 你好吗 مرحبا שלום नमस्ते",
    "e\u0301 and \u00e9 are one letter",
    "\u200b",  # a zero-width space is a character
    "NaN",
    "a",
    "word " * 2_000,
]
REFUSED = [None, "", "   ", "\t\n\u00a0\u3000", "x" * (1_048_576 + 1), "é" * 524_289]


def direct(router: Path, texts: list[str], tasks: list[str | None] | None = None) -> list[float]:
    """Scores of ``texts`` from the router itself, as the doubles that a job writes."""
    scores = load_router(router, threads=1).score(texts, tasks)
    return (to_micros(scores) / GRID).tolist()


def frame(spark: Any, prompts: list[str | None], **more: list) -> Any:
    """Rows with ``id``, ``prompt`` and the columns of ``more``."""
    return spark.createDataFrame(
        pa.table({"id": range(len(prompts)), "prompt": pa.array(prompts, pa.string()), **more})
    )


def scores_of(scored: Any, column: str = "score") -> list[float | None]:
    return [row[column] for row in scored.orderBy("id").select(column).collect()]


@pytest.fixture(scope="module")
def task_router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router that knows two tasks and scores them differently."""
    folder = make_tiny_router(tmp_path_factory.mktemp("router") / "tasks")
    nothing = np.zeros((2, DIM))
    save_head(folder / HEAD, MixtureHead(nothing, np.zeros(2), nothing, np.array([-2.0, 2.0])))
    card = json.loads((folder / CARD).read_text())
    card["tasks"], card["members"][0]["parts"] = ["code", "7"], "tasks"
    card["files"][HEAD] = asdict(file_record(folder / HEAD))
    (folder / CARD).write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def other_router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_router(tmp_path_factory.mktemp("router") / "other", seed=1)


def test_scores_are_those_of_the_router(spark, tiny_router):
    scored = frame(spark, TEXTS).withColumn("score", router_score(str(tiny_router))("prompt"))
    found = scores_of(scored)

    assert scored.schema["score"].dataType.simpleString() == "double"
    assert found == direct(tiny_router, TEXTS)
    assert len(set(found)) > len(TEXTS) / 2


def test_scores_and_refusals_are_those_of_a_job(spark, finished, tiny_router):
    outcome, _, _ = finished
    expected = {row["query_id"]: row["score"] for row in results_of(outcome.layout.root).to_pylist()}
    asked = pa.Table.from_pylist(questions(len(expected))).select(["query_id", "prompt"])
    rows = spark.createDataFrame(asked).select("query_id", router_score(str(tiny_router))("prompt")).collect()

    assert {row.query_id: row.score for row in rows} == expected
    assert None in expected.values()


def test_rows_that_a_job_refuses_have_no_score_and_harm_no_other(spark, tiny_router):
    mixed = [text for pair in zip(REFUSED, TEXTS[: len(REFUSED)], strict=True) for text in pair]
    expected = [None if number % 2 == 0 else score for number, score in enumerate(_doubled(tiny_router))]
    asked = frame(spark, mixed)
    arrow = router_score_arrow(str(tiny_router))

    assert scores_of(asked.withColumn("score", router_score(str(tiny_router))("prompt"))) == expected
    assert scores_of(asked.mapInArrow(arrow, arrow.schema(asked.schema))) == expected


def _doubled(router: Path) -> list[float]:
    return [score for score in direct(router, TEXTS[: len(REFUSED)]) for _ in range(2)]


def test_a_prompt_of_the_largest_size_is_scored_and_the_limit_can_be_set(spark, tiny_router):
    asked = frame(spark, ["x" * 1_048_576, "1234567", "12345678", "é" * 4])
    default, seven = router_score(str(tiny_router)), router_score(str(tiny_router), max_prompt_bytes=7)

    assert None not in scores_of(asked.withColumn("score", default("prompt")))
    assert [score is None for score in scores_of(asked.withColumn("score", seven("prompt")))] == [
        True,
        False,
        True,
        True,
    ]


def test_text_that_is_not_utf_8_has_no_score(spark, tiny_router):
    asked = spark.sql(
        "SELECT 0 AS id, CAST(X'61EDA08062' AS STRING) AS prompt UNION ALL SELECT 1, CAST(X'FF' AS STRING) "
        "UNION ALL SELECT 2, 'plain' UNION ALL SELECT 3, NULL"
    )
    expected = [None, None, *direct(tiny_router, ["plain"]), None]
    arrow = router_score_arrow(str(tiny_router))
    asked.createOrReplaceTempView("not_utf_8")
    spark.udf.register("router_score", router_score(str(tiny_router)))

    assert scores_of(asked.withColumn("score", router_score(str(tiny_router))("prompt"))) == expected
    assert scores_of(asked.mapInArrow(arrow, arrow.schema(asked.schema))) == expected
    assert (
        scores_of(spark.sql("SELECT id, router_score(try_validate_utf8(prompt)) AS score FROM not_utf_8")) == expected
    )


def test_lone_surrogates_in_a_series_have_no_score(tiny_router):
    function = router_score(str(tiny_router)).func
    found = list(function(iter([pd.Series(["plain", "a\ud800b", None])])))

    assert [series.isna().tolist() for series in found] == [[False, True, True]]
    assert found[0][0] == direct(tiny_router, ["plain"])[0]


def test_lone_surrogates_are_replaced_by_spark_and_scored(spark, tiny_router):
    asked = spark.createDataFrame([(0, "a\ud800b"), (1, "a\ufffdb")], "id int, prompt string")
    found = scores_of(asked.withColumn("score", router_score(str(tiny_router))("prompt")))

    assert found == direct(tiny_router, ["a\ufffdb"]) * 2


def test_it_is_a_deterministic_pandas_udf_for_sql(spark, tiny_router):
    score = router_score(str(tiny_router))
    spark.udf.register("router_score", score)
    frame(spark, [*TEXTS, None]).createOrReplaceTempView("asked")
    expected = direct(tiny_router, TEXTS)
    rows = spark.sql(
        "SELECT id, router_score(prompt) AS score FROM asked WHERE router_score(prompt) >= 0.5 ORDER BY id"
    )

    assert (score.evalType, score.deterministic) == (PythonEvalType.SQL_SCALAR_PANDAS_ITER_UDF, True)
    assert [tuple(row) for row in rows.collect()] == [pair for pair in enumerate(expected) if pair[1] >= 0.5]


def test_tasks_are_told_to_a_router_that_learned_them(spark, task_router):
    tasks = ["code", "7", "unknown", None]
    texts = TEXTS[:1] * len(tasks)
    expected = direct(task_router, texts, tasks)
    score = router_score(str(task_router))
    spark.udf.register("router_score", score)
    asked = frame(spark, texts, task=pa.array(tasks, pa.string()))
    asked.createOrReplaceTempView("asked")
    arrow = router_score_arrow(str(task_router), task="task")

    assert scores_of(asked.withColumn("score", score("prompt", "task"))) == expected
    assert scores_of(asked.withColumn("score", score(F.col("prompt"), task=F.col("task")))) == expected
    assert scores_of(spark.sql("SELECT id, router_score(prompt, task) AS score FROM asked")) == expected
    assert scores_of(asked.mapInArrow(arrow, arrow.schema(asked.schema))) == expected
    assert len(set(expected)) == 3


def test_a_task_may_be_a_number(spark, task_router):
    asked = frame(spark, TEXTS[:1] * 2, kind=pa.array([7, None], pa.int64()))
    expected = direct(task_router, TEXTS[:1] * 2, ["7", None])
    arrow = router_score_arrow(str(task_router), task="kind")

    assert scores_of(asked.withColumn("score", router_score(str(task_router))("prompt", "kind"))) == expected
    assert scores_of(asked.mapInArrow(arrow, arrow.schema(asked.schema))) == expected


ROWS = 1_500


@pytest.mark.parametrize("batch_rows", ["10000", "7"])
def test_partitions_order_and_batches_change_no_bit_and_no_tier(spark, tiny_router, batch_rows):
    prompts = [None if number % 97 == 0 else f"{TEXTS[number % 5]} {number}" for number in range(ROWS)]
    asked, score = frame(spark, prompts), router_score(str(tiny_router))
    threshold = float(np.median(direct(tiny_router, [text for text in prompts if text])))
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch_rows)
    try:
        found = [
            scores_of(shape.withColumn("score", score("prompt")))
            for shape in (
                asked.coalesce(1),
                asked.repartition(5),
                asked.orderBy(F.rand(seed=3)).repartition(3, "prompt"),
            )
        ]
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    bits = [[value if value is None else value.hex() for value in values] for values in found]
    tiers = [[value is not None and value >= threshold for value in values] for values in found]

    assert bits[0] == bits[1] == bits[2]
    assert tiers[0] == tiers[1] == tiers[2]
    assert [value for value in found[0] if value is not None] == direct(tiny_router, [text for text in prompts if text])


def test_two_routers_in_one_query_do_not_mix(spark, tiny_router, other_router):
    one, other = router_score(str(tiny_router)), router_score(str(other_router))
    scored = frame(spark, TEXTS).select(
        "id", one("prompt").alias("a"), other("prompt").alias("b"), one("prompt").alias("c")
    )

    assert scores_of(scored, "a") == scores_of(scored, "c") == direct(tiny_router, TEXTS)
    assert scores_of(scored, "b") == direct(other_router, TEXTS)


def test_no_rows_and_empty_partitions_are_scored_too(spark, tiny_router):
    score, arrow = router_score(str(tiny_router)), router_score_arrow(str(tiny_router))
    none, few = frame(spark, TEXTS).limit(0), frame(spark, TEXTS[:2]).repartition(8)

    assert scores_of(none.withColumn("score", score("prompt"))) == []
    assert scores_of(none.mapInArrow(arrow, arrow.schema(none.schema))) == []
    assert scores_of(few.withColumn("score", score("prompt"))) == direct(tiny_router, TEXTS[:2])
    assert scores_of(few.mapInArrow(arrow, arrow.schema(few.schema))) == direct(tiny_router, TEXTS[:2])


def test_an_empty_batch_is_an_empty_batch(tiny_router):
    arrow = router_score_arrow(str(tiny_router))
    batch = pa.record_batch({"prompt": pa.array(["a"], pa.string())})
    found = list(arrow([batch.slice(0, 0), batch, batch.slice(0, 0)]))

    assert [scored.num_rows for scored in found] == [0, 1, 0]
    assert {str(scored.schema) for scored in found} == {"prompt: string\nscore: double"}


EVERY_TYPE = pa.table(
    {
        "prompt": pa.array([TEXTS[0], None, TEXTS[1]]),
        "boolean": pa.array([True, None, False]),
        "byte": pa.array([1, None, -1], pa.int8()),
        "short": pa.array([1, None, -1], pa.int16()),
        "int": pa.array([1, None, -1], pa.int32()),
        "long": pa.array([2**62, None, -1], pa.int64()),
        "float": pa.array([0.1, None, float("nan")], pa.float32()),
        "double": pa.array([0.1, None, float("nan")], pa.float64()),
        "decimal": pa.array([Decimal("1.23"), None, Decimal("-9999999.99")], pa.decimal128(9, 2)),
        "date": pa.array([date(2026, 11, 23), None, date(1582, 10, 15)]),
        "timestamp": pa.array([datetime(2026, 11, 23, 1, 2, 3, 4, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
        "timestamp_ntz": pa.array([datetime(2026, 11, 23, 1, 2, 3, 4), None, None], pa.timestamp("us")),
        "binary": pa.array([b"\x00\xff", None, b""]),
        "error_kind": pa.array(["mine", None, "too"]),
        "messages": pa.array(["mine", None, "too"]),
        "array": pa.array([[1, None], None, []], pa.list_(pa.int64())),
        "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
        "map": pa.array([[("k", 1.5)], None, []], pa.map_(pa.string(), pa.float64())),
        "interval": pa.array([90_000_000, None, -1], pa.duration("us")),
        "nothing": pa.nulls(3),
    }
)


def test_the_arrow_form_leaves_columns_of_all_types_as_they_are(spark, tiny_router):
    asked = spark.createDataFrame(EVERY_TYPE)
    arrow = router_score_arrow(str(tiny_router), score="p_small")
    scored = asked.mapInArrow(arrow, arrow.schema(asked.schema))
    expected = direct(tiny_router, [TEXTS[0], TEXTS[1]])

    assert scored.schema.fields[:-1] == asked.schema.fields
    assert scored.schema.names[-1] == "p_small"
    before, after = asked.toArrow().to_pylist(), scored.toArrow().to_pylist()
    assert [row.pop("p_small") for row in after] == [expected[0], None, expected[1]]
    assert repr(after) == repr(before)  # NaN is not equal to itself


def test_the_arrow_form_keeps_columns_that_may_not_be_null(spark, tiny_router):
    asked = spark.range(3).withColumn("prompt", F.lit("a"))
    arrow = router_score_arrow(str(tiny_router))
    scored = asked.mapInArrow(arrow, arrow.schema(asked.schema))

    assert [field.nullable for field in scored.schema.fields] == [False, False, True]
    assert scores_of(scored) == direct(tiny_router, ["a"]) * 3


def test_large_arrow_types_are_read_as_well(spark, tiny_router):
    asked, arrow = frame(spark, [*TEXTS, None]), router_score_arrow(str(tiny_router))
    spark.conf.set("spark.sql.execution.arrow.useLargeVarTypes", "true")
    try:
        assert scores_of(asked.mapInArrow(arrow, arrow.schema(asked.schema))) == [*direct(tiny_router, TEXTS), None]
    finally:
        spark.conf.unset("spark.sql.execution.arrow.useLargeVarTypes")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"prompt": "text"}, "prompt: there is no column 'text'; the columns are id, prompt, score, kinds"),
        ({"prompt": "id"}, "prompt: column 'id' is bigint, allowed is text"),
        ({"task": "topic"}, "task: there is no column 'topic'; the columns are id, prompt, score, kinds"),
        ({"task": "kinds"}, "task: column 'kinds' is array<string>, allowed is text, integer or boolean"),
        ({}, "score: there is a column 'score' already; give the score another name"),
        ({"score": "Prompt"}, "score: there is a column 'prompt' already; give the score another name"),
    ],
)
def test_columns_that_cannot_be_are_refused_on_the_driver(spark, tiny_router, names, message):
    asked = frame(spark, ["a"], score=pa.array([0.5]), kinds=pa.array([["x"]]))
    with pytest.raises(ConfigError) as raised:
        router_score_arrow(str(tiny_router), **names).schema(asked.schema)
    assert str(raised.value) == message


def test_two_columns_of_one_name_are_refused(spark, tiny_router):
    asked = frame(spark, ["a"]).select("id", "prompt", "prompt")
    with pytest.raises(ConfigError, match="prompt: there are 2 columns 'prompt'"):
        router_score_arrow(str(tiny_router)).schema(asked.schema)


def test_a_column_that_is_no_text_is_refused_by_the_analysis(spark, tiny_router):
    score = router_score(str(tiny_router))
    with pytest.raises(AnalysisException, match='requires the "STRING" type, however "id" has the type "BIGINT"'):
        frame(spark, ["a"]).select(score("id"))
    with pytest.raises(AnalysisException, match="text"):
        frame(spark, ["a"]).select(score("text"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (pd.Series([1, 2]), "router_score: the prompt must be text, got int64"),
        (pd.Series([b"a", None]), "router_score: the prompt must be text, got binary"),
        (pd.Series(["a", 1]), "router_score: the prompt must be text: "),
        ((pd.Series(["a"]), pd.Series([7])), "router_score: the task must be text, got int64"),
        ((pd.Series(["a"]),) * 3, "router_score: got 3 columns, allowed are a prompt and a task"),
    ],
)
def test_what_sql_may_hand_over_by_mistake_is_named(tiny_router, columns, message):
    with pytest.raises(InputError) as raised:
        list(router_score(str(tiny_router)).func(iter([columns])))
    assert str(raised.value).startswith(message)


def test_an_error_in_a_worker_reaches_the_user(spark, tiny_router):
    spark.udf.register("router_score", router_score(str(tiny_router)))
    with pytest.raises(PySparkException, match="InputError: router_score: the prompt must be text, got int64"):
        spark.sql("SELECT router_score(id) FROM range(1)").collect()


@pytest.mark.parametrize("make", [router_score, router_score_arrow])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere", "router_path: /nowhere holds no router.json; it must be the folder of a trained router"),
        ("s3a://bucket/router", "router_path: s3a://bucket/router: scheme 's3a' is not supported"),
        ("", "router_path: storage URL is empty"),
    ],
)
def test_a_path_without_a_router_is_refused_at_once(make, path, message):
    with pytest.raises(ConfigError) as raised:
        make(path)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": 0}, "threads: 0 is not allowed; allowed are whole numbers of at least 1"),
        ({"max_prompt_bytes": 1.5}, "max_prompt_bytes: 1.5 is not allowed; allowed are whole numbers of at least 1"),
        ({"backend": "tensorrt"}, "backend: 'tensorrt' is not allowed; allowed are auto, torch, "),
        ({"backend": "onnx-int8"}, "router_path: router "),
    ],
)
def test_arguments_that_are_not_allowed_are_named(tiny_router, arguments, message):
    with pytest.raises(ConfigError) as raised:
        router_score(str(tiny_router), **arguments)
    assert str(raised.value).startswith(message)


def test_backend_and_threads_travel_with_the_function(spark, tiny_router):
    arrow = router_score_arrow(str(tiny_router), backend="torch-fp32", threads=2)
    asked = frame(spark, TEXTS)
    told = router_score(str(tiny_router), backend="torch-fp32", threads=2)

    assert (arrow.scores.recipe.backend, arrow.scores.recipe.threads) == ("torch-fp32", 2)
    assert scores_of(asked.withColumn("score", told("prompt"))) == direct(tiny_router, TEXTS)


def test_a_router_that_changes_after_the_function_was_made_is_not_used(tmp_path):
    folder = make_tiny_router(tmp_path / "router")
    score = router_score(str(folder))
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"name": "another"}))
    with pytest.raises(ConfigError, match=str(folder)):
        list(score.func(iter([pd.Series(["a"])])))


DOCUMENT = Path(__file__).parents[2] / "docs" / "scoring.md"


def test_the_examples_of_the_document_run(spark, task_router, tmp_path):
    topics = ["code", "7", "weather"]
    asked = pa.table({"prompt": TEXTS[:3], "topic": topics})
    (tmp_path / "questions").mkdir()
    pq.write_table(asked, tmp_path / "questions" / "part.parquet")
    names: dict[str, Any] = {"spark": spark}
    for block in re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL):
        code = block.replace("s3://my-bucket/routers/current", str(task_router)).replace("/data/", f"{tmp_path}/")
        exec(compile(code, str(DOCUMENT), "exec"), names)
    unknown, told = direct(task_router, TEXTS[:3]), direct(task_router, TEXTS[:3], topics)

    def pairs(frame: Any, column: str = "score") -> list[tuple[str, float]]:
        return sorted((row["topic"], row[column]) for row in frame.collect())

    assert pairs(names["scored"]) == sorted(zip(topics, unknown, strict=True))
    assert pairs(names["with_tasks"]) == pairs(names["batches"], "p_small") == sorted(zip(topics, told, strict=True))
    assert pairs(names["by_topic"], "mean_score") == sorted(zip(topics, unknown, strict=True))
    assert names["batches"].columns == ["prompt", "topic", "p_small"]
    assert names["scored_batch"].schema.names == ["prompt", "score"]
    written = spark.read.parquet(str(tmp_path / "scored")).collect()
    assert len(written) == 3
    assert all(row.tier == ("small" if row.score >= 0.62 else "large") for row in written)


def test_the_document_names_every_argument_and_its_default():
    told = DOCUMENT.read_text().partition("## Backends")[0]
    table = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", told, re.MULTILINE))
    arguments = inspect.signature(router_score).parameters
    backends = re.search(r"^\| `backend` \|.*\|(.*)\|$", told, re.MULTILINE)

    assert list(table) == list(arguments)
    assert table["max_prompt_bytes"] == str(arguments["max_prompt_bytes"].default) == str(InputSpec.max_prompt_bytes)
    assert table["backend"].strip("`") == arguments["backend"].default
    assert backends is not None
    assert tuple(re.findall(r"`([^`]+)`", backends[1])) == get_args(Backend)
