"""Arrow schemas of all tables: the only home of column names, types and units."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from hybrid_batch.core.cost import USD_SCALE

USD = pa.decimal128(24, USD_SCALE)

TIER = pa.dictionary(pa.int32(), pa.string())
"""The type that readers give to the ``tier=`` of a folder, so that folder and column agree when both are read."""

SCORED = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),  # the text; with chat turns the user's turns, joined by newlines
        pa.field("messages", pa.string()),  # JSON list of chat turns, null where the query is a plain prompt
        pa.field("request", pa.string()),  # JSON object of what the row asks for in place of the job's sampling
        pa.field("score", pa.float64()),  # P(small is good enough) on a grid of 1e-6; null where refused
        pa.field("error_kind", pa.string()),  # set by the guard for rows that no model can answer
        pa.field("error_message", pa.string()),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),  # counts from 0 within the file
    ]
)

RESULTS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("tier", TIER, nullable=False),
        pa.field("model", pa.string()),  # null in the rejected tier
        pa.field("text", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("completion_tokens", pa.int32(), nullable=False),
        pa.field("latency_seconds", pa.float64(), nullable=False),
        pa.field("error_kind", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("cached_prompt_tokens", pa.int32(), nullable=False),  # of prompt_tokens, found in the prefix cache
        pa.field("answered_by", pa.string()),  # id of the query whose identical request was answered in its place
        pa.field("reasoning", pa.string()),  # the model's thoughts, where the server splits them off
        pa.field("tool_calls", pa.string()),  # JSON list of the calls, as OpenAI's interface has them
        pa.field("logprobs", pa.string()),  # JSON object, as OpenAI's interface has it
        pa.field("samples", pa.list_(pa.string())),  # the further answers where a row has several, else null
    ]
)

DEAD_LETTERS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("tier", TIER, nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("messages", pa.string()),
        pa.field("request", pa.string()),
        pa.field("error_kind", pa.string(), nullable=False),
        pa.field("error_message", pa.string()),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
    ]
)

ROUTING = pa.schema(
    [
        pa.field("tier", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("first_key", pa.string(), nullable=False),  # the shard holds keys from here to the next shard's
    ]
)

COST = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("tier", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("queries", pa.int64(), nullable=False),
        pa.field("failed_queries", pa.int64(), nullable=False),
        pa.field("prompt_tokens", pa.int64(), nullable=False),
        pa.field("completion_tokens", pa.int64(), nullable=False),
        pa.field("cached_prompt_tokens", pa.int64(), nullable=False),  # of prompt_tokens, found in the prefix cache
        pa.field("shared_queries", pa.int64(), nullable=False),  # answered by an identical request, without tokens
        pa.field("engines", pa.int64(), nullable=False),
        pa.field("engine_seconds", pa.float64(), nullable=False),  # busy time, union over concurrent tasks
        pa.field("load_seconds", pa.float64(), nullable=False),  # engine start to readiness
        pa.field("usd_per_engine_hour", USD),
        pa.field("usd_per_million_prompt_tokens", USD),
        pa.field("usd_per_million_completion_tokens", USD),
        pa.field("usd", USD),  # null: no price given
        pa.field("usd_per_1000_queries", USD),
        pa.field("run_usd", USD),  # all tiers together, the same in each row
        pa.field("all_large_usd", USD),  # the same night with the large model alone, the same in each row
        pa.field("all_large_method", pa.string(), nullable=False),
    ]
)

LABELS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("task", pa.string()),
        pa.field("q_small", pa.list_(pa.float64()), nullable=False),  # quality of each answer, the higher the better
        pa.field("q_large", pa.list_(pa.float64()), nullable=False),
        pa.field("text_small", pa.list_(pa.string())),  # the answers, where they were kept
        pa.field("text_large", pa.list_(pa.string())),
    ]
)

EVALUATION = pa.schema(
    [
        pa.field("scope", pa.string(), nullable=False),  # "all", or the task that the rows belong to
        pa.field("method", pa.string(), nullable=False),  # router, random, oracle, all small, all large
        pa.field("metric", pa.string(), nullable=False),  # mean_quality, drop_10, drop_20, drop_40, apgr, cpt_50, ...
        pa.field("value", pa.float64()),  # null where it is not defined for these rows
        pa.field("low", pa.float64()),  # the bootstrap interval; null where there is none
        pa.field("high", pa.float64()),
        pa.field("rows", pa.int64(), nullable=False),
    ]
)

SHARD = "shard"
"""Column that says, inside Spark only, to which shard a row belongs."""

ANSWER = "answer_number"
"""Column of a labelling's rows: which of a query's answers a row asks for, counted from 0."""

# Tables that flow inside Spark only: nullable, because Spark cannot aggregate structs of columns that are not.

INPUT_IDS = pa.schema(
    [
        pa.field("id_hash", pa.binary()),  # 16 bytes; null in the one row that counts a piece
        pa.field("piece", pa.int64()),  # counts from 0 over the pieces of all splits
        pa.field("row", pa.int64()),  # counts from 0 within the piece; where id_hash is null, the rows of the piece
    ]
)

SCORE_COUNTS = pa.schema(
    [
        pa.field("micros", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("small", pa.int64()),  # of these rows; the two are null where thresholds do not go by group
        pa.field("ungrouped", pa.int64()),
    ]
)

ID_HASHES = pa.schema(
    [
        pa.field("hash", pa.int64()),
    ]
)

BLOCKS = pa.schema(
    [
        pa.field("partition", pa.int32()),
        pa.field("rows", pa.binary()),  # an Arrow stream of rows with their shards, compressed
    ]
)

KEY_SAMPLE = pa.schema(
    [
        pa.field("tier", pa.string()),
        pa.field("key", pa.string()),
        pa.field("bytes", pa.int64()),
    ]
)

TASK_DONE = pa.schema(
    [
        pa.field("unit", pa.int64()),
        pa.field("committed", pa.bool_()),  # false: another attempt had committed it before
        pa.field("rows", pa.int64()),
    ]
)


PART_DONE = TASK_DONE.append(pa.field("seconds", pa.float64()))
"""The same of a part of the scored table, with the time that its task took."""

SCORED_BY = "hybrid_batch.scored_by"
"""Key, in a scored part's Parquet metadata, of what computed its scores."""


def with_kept(schema: pa.Schema, kept: Iterable[pa.Field]) -> pa.Schema:
    """``schema`` followed by the columns that the user keeps from the input."""
    return pa.schema([*schema, *kept])


def reserved_names() -> frozenset[str]:
    """Column names that a kept input column may not have."""
    return frozenset(SCORED.names) | frozenset(RESULTS.names) | frozenset(DEAD_LETTERS.names) | {SHARD, ANSWER}
