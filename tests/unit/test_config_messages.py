"""What each mistake in a configuration is told: source, field, value, what is allowed."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest

from hybrid_batch.config import parse_config
from hybrid_batch.core.errors import ConfigError

MISSING = object()

GOOD: dict[str, Any] = {
    "run": {"name": "night-{date}", "date": "2026-11-23", "output": "out"},
    "input": {"path": "queries", "format": "jsonl", "columns": {"id": "id", "prompt": "question"}},
    "router": {"path": "router"},
    "policy": {"threshold": 0.5},
    "tiers": {
        "small": {"model": "org/small", "usd_per_gpu_hour": "1.20"},
        "large": {"endpoint": "https://host/v1", "model": "big", "api_key_env": "KEY"},
    },
}


def with_value(path: str, value: object) -> dict[str, Any]:
    data = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    section = data
    for name in parents:
        section = section.setdefault(name, {})
    if value is MISSING:
        del section[last]
    else:
        section[last] = value
    return data


def message(path: str, value: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(with_value(path, value), {}, "job.yaml")
    return str(caught.value)


SHARE = "allowed is a number from 0 to 1"
POSITIVE = "allowed is a whole number of at least 1"
PRICE = 'allowed is a decimal of at least 0 in quotes ("1.20"), or a whole number'


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("policy.threshold", 1.5, f"policy.threshold: 1.5 is not allowed; {SHARE}"),
        ("policy.threshold", -0.1, f"policy.threshold: -0.1 is not allowed; {SHARE}"),
        ("policy.threshold", True, f"policy.threshold: True is not allowed; {SHARE}"),
        ("policy.threshold", float("nan"), f"policy.threshold: nan is not allowed; {SHARE}"),
        (
            "policy.small_share",
            0.4,
            "policy: give exactly one of threshold (0 to 1), small_share (0 to 1) and max_drop_pct (percent)",
        ),
        (
            "policy",
            {},
            "policy: give exactly one of threshold (0 to 1), small_share (0 to 1) and max_drop_pct (percent)",
        ),
        (
            "policy.by",
            "tenant",
            "policy: by: 'tenant' goes with max_drop_pct: only a promise is calibrated for each group",
        ),
        (
            "policy",
            {"max_drop_pct": 1.0, "by": "tenant"},
            "job.yaml: policy.by: there is no column 'tenant' in input.keep or input.columns.task; these name none",
        ),
        ("input.columns.task", "tier", "input: columns.task: tier: the results have a column of that name; rename it"),
        ("policy", MISSING, "policy: is required; allowed is a mapping with threshold, small_share"),
        ("policy", 3, "policy: 3 is not allowed; allowed is a mapping with threshold, small_share"),
        ("run", MISSING, "run: is required; allowed is a mapping with name, output, date, log_dir, max_error_rate"),
        ("run.name", "a b", "run.name: 'a b' is not allowed; allowed is letters, digits, '.', '_' and '-'"),
        ("run.name", "../x", "run.name: '../x' is not allowed"),
        ("run.output", "", "run.output: '' is not allowed; allowed is a local path or an s3:// URL"),
        ("run.output", 3, "run.output: 3 is not allowed; allowed is a local path or an s3:// URL"),
        ("run.output", "x/{dat}", "run.output: 'x/{dat}' holds {dat}; allowed is {date}"),
        ("run.date", "2026-13-01", "run.date: '2026-13-01' is not allowed; allowed is a date as in 2026-11-23"),
        ("run.date", "20261123", "run.date: '20261123' is not allowed"),
        ("run.date", MISSING, "run.name: 'night-{date}' holds {date} and run.date is not set; give it there or by --d"),
        ("run.max_error_rate", 2, f"run.max_error_rate: 2 is not allowed; {SHARE}"),
        ("input.format", "xml", "input.format: 'xml' is not allowed; allowed is parquet, jsonl, csv or openai-batch"),
        ("input.columns", {"id": "x"}, "input.columns: give exactly one of prompt (a column of text) and messages"),
        (
            "input.columns.messages",
            "turns",
            "input.columns: give exactly one of prompt (a column of text) and messages",
        ),
        ("input.columns.id", "", "input.columns.id: '' is not allowed; allowed is name of a column"),
        ("input.keep", ["text"], "input.keep: text: the results have a column of that name; rename it in the input"),
        ("input.keep", ["a", "a"], "input.keep: a column is named twice"),
        ("input.keep", "tenant", "input.keep: 'tenant' is not allowed; allowed is a list of column names"),
        ("input.keep", [1], "input.keep: 1 is not allowed; allowed is a list of column names"),
        ("input.limit", 0, f"input.limit: 0 is not allowed; {POSITIVE}"),
        ("input.limit", 2.5, f"input.limit: 2.5 is not allowed; {POSITIVE}"),
        ("input.rows_per_split", "many", f"input.rows_per_split: 'many' is not allowed; {POSITIVE}"),
        ("input.max_prompt_bytes", -1, f"input.max_prompt_bytes: -1 is not allowed; {POSITIVE}"),
        ("sampling.temperature", 3, "sampling.temperature: 3 is not allowed; allowed is a number from 0 to 2"),
        ("sampling.max_tokens", 0, f"sampling.max_tokens: 0 is not allowed; {POSITIVE}"),
        ("sampling.top_p", 0, "sampling.top_p: 0 is not allowed; allowed is a number above 0, at most 1"),
        ("sampling.n", 2, "sampling: temperature is 0 and n is 2: the same answer 2 times"),
        ("sampling.n", 129, "sampling.n: 129 is not allowed; allowed is a whole number from 1 to 128"),
        ("sampling.min_p", 2, f"sampling.min_p: 2 is not allowed; {SHARE}"),
        ("sampling.logprobs", True, "sampling.logprobs: True is not allowed; allowed is a whole number from 0 to 20"),
        ("sampling.response_format", "json", "sampling.response_format: 'json' is not allowed; allowed is a mapping: "),
        (
            "sampling.response_format",
            {"type": "json_schema"},
            "sampling: response_format: {'type': 'json_schema'} is not allowed (type is 'json_schema'; json_schema",
        ),
        (
            "sampling.structured_outputs",
            {"json": {"default": datetime.date(2026, 1, 2)}},
            "sampling: {'json': {'default': datetime.date(2026, 1, 2)}} is not allowed (Object of type date",
        ),
        ("sampling.tools", [], "sampling: tools: [] is not allowed; allowed is a list of {type: function"),
        ("sampling.tool_choice", "auto", "sampling: tool_choice is 'auto' and there are no tools; give tools"),
        ("sampling.tool_choice", "may", "sampling: tool_choice: 'may' is not allowed; allowed is none, auto, required"),
        ("sampling.min_tokens", True, "sampling.min_tokens: True is not allowed; allowed is a whole number of at le"),
        ("sampling.stop_token_ids", [1.5], "sampling.stop_token_ids: 1.5 is not allowed; allowed is a list of whole n"),
        ("sampling.logit_bias", {7: "x"}, "sampling.logit_bias.7: 'x' is not allowed; allowed is a mapping of token"),
        ("sampling.ignore_eos", 1, "sampling.ignore_eos: 1 is not allowed; allowed is true or false"),
        (
            "tiers.small.adapter",
            "legal",
            "tiers.small: adapter: 'legal' is served by no flag; add engine_args: {enable_lora: true, ",
        ),
        ("sampling.seed", -1, "sampling.seed: -1 is not allowed; allowed is a whole number of at least 0"),
        (
            "sampling.stop",
            [""],
            "sampling.stop: '' is not allowed; allowed is a list of at most 4 texts that are not empty",
        ),
        ("shards.rows", True, f"shards.rows: True is not allowed; {POSITIVE}"),
        ("spark.conf", {"a": [1]}, "spark.conf.a: [1] is not allowed; allowed is Spark settings: names with text"),
        ("tiers.small", MISSING, "tiers.small: is required; allowed is a mapping that describes one model"),
        ("tiers.small", 5, "tiers.small: 5 is not allowed; allowed is a mapping that describes one model"),
        (
            "tiers.small.model",
            MISSING,
            "tiers.small.model: is required; allowed is a model folder or a name on a model",
        ),
        ("tiers.small.gpus", "x", "tiers.small.gpus: 'x' is not allowed; allowed is a whole number of GPUs per engine"),
        (
            "tiers.small.gpus",
            0,
            "tiers.small: usd_per_gpu_hour has no meaning with gpus: 0; a CPU engine takes usd_per_e",
        ),
        ("tiers.small.tensor_parallel", 2, "tiers.small: tensor_parallel is 2, gpus is 1; allowed is 1 to gpus"),
        ("tiers.small.server", "tgi", "tiers.small.server: 'tgi' is not allowed; allowed is vllm or fake"),
        (
            "tiers.small.dtype",
            "int8",
            "tiers.small.dtype: 'int8' is not allowed; allowed is auto, half, float16, bfloat1",
        ),
        (
            "tiers.small.start_timeout_s",
            0,
            "tiers.small.start_timeout_s: 0 is not allowed; allowed is a number of seconds",
        ),
        ("tiers.small.usd_per_gpu_hour", 1.2, 'put the price in quotes: "1.2"'),
        ("tiers.small.usd_per_gpu_hour", "-1", f"tiers.small.usd_per_gpu_hour: '-1' is not allowed; {PRICE}"),
        ("tiers.small.usd_per_gpu_hour", "cheap", f"tiers.small.usd_per_gpu_hour: 'cheap' is not allowed; {PRICE}"),
        ("tiers.small.usd_per_gpu_hour", "NaN", f"tiers.small.usd_per_gpu_hour: 'NaN' is not allowed; {PRICE}"),
        ("tiers.small.usd_per_gpu_hour", True, f"tiers.small.usd_per_gpu_hour: True is not allowed; {PRICE}"),
        (
            "tiers.small.usd_per_engine_hour",
            "1",
            "usd_per_gpu_hour and usd_per_engine_hour are both set; give one of them",
        ),
        (
            "tiers.small.engine_args",
            {"x": None},
            "tiers.small.engine_args.x: None is not allowed; allowed is flags of th",
        ),
        ("tiers.small.engine_args", {"api-key": "k"}, "tiers.small.engine_args.api-key = 'k': not allowed"),
        (
            "tiers.small.engine_args",
            {"max_model_len": 9},
            "this flag is set by tiers.small.max_model_len; set that instead",
        ),
        ("tiers.large.endpoint", "ftp://x", "tiers.large.endpoint: 'ftp://x' is not allowed; allowed is an http:// or"),
        (
            "tiers.large.usd_per_million_prompt_tokens",
            "1",
            "tiers.large: only one of usd_per_million_prompt_tokens and",
        ),
        (
            "tiers.large.max_tokens_field",
            "max_output_tokens",
            "tiers.large.max_tokens_field: 'max_output_tokens' is not allowed; allowed is max_tokens or max_compl",
        ),
        (
            "tiers.large.unsent",
            ["stop"],
            "tiers.large.unsent: 'stop' is not allowed; allowed is a list out of temperature, top_p, top_k, min_p",
        ),
        ("tiers.large.concurrency", 0, f"tiers.large.concurrency: 0 is not allowed; {POSITIVE}"),
        (
            "router.path",
            "${NOWHERE}/x",
            "router.path: the environment variable NOWHERE is not set; set it, or write ${NOW",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(path: str, value: object, said: str) -> None:
    told = message(path, value)
    assert told.startswith("job.yaml: ")
    assert said in told
    assert "\n" not in told
    assert "pydantic" not in told
    assert "Input should" not in told


@pytest.mark.parametrize(
    ("path", "guess"),
    [
        ("tiers.smal", "did you mean small? allowed are large, small"),
        ("tiers.small.gpu", "did you mean gpus? allowed are adapter, dtype, engine_args"),
        ("runs", "did you mean run? allowed are input, policy, prompt, router, run, sampling, shards, spark, tiers"),
        ("sampling.max_token", "did you mean max_tokens?"),
        ("zebra", "unknown key; allowed are input"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(path: str, guess: str) -> None:
    told = message(path, {})
    assert f"job.yaml: {path}: unknown key" in told
    assert guess in told


def test_fields_of_the_other_kind_of_tier_are_refused_with_both_lists() -> None:
    told = message("tiers.small.concurrency", 3)
    assert "tiers.small.concurrency: belongs to an endpoint, and no endpoint is given" in told
    told = message("tiers.large.gpus", 2)
    assert "tiers.large.gpus: belongs to an engine of the job's own, and this tier has an endpoint" in told
    assert "an endpoint takes api_key_env, concurrency, endpoint" in told
    assert "own takes adapter, dtype, engine_args, env, gpus" in told


def test_several_problems_are_one_error_with_a_line_each() -> None:
    lines = message("sampling", {"temperature": 3, "max_tokens": 0, "colour": 1}).splitlines()
    assert lines[0] == "3 problems in the configuration:"
    assert [line.split(":")[1] for line in lines[1:]] == [
        " sampling.temperature",
        " sampling.max_tokens",
        " sampling.colour",
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tiers.large.api_key_env", "sk-12-secret"),
        ("tiers.small.env", {"HF_TOKEN": ["secret"]}),
        ("spark.conf", {"spark.hadoop.fs.s3a.secret.key": ["secret"]}),
        ("tiers.large.endpoint", "https://user:secret@host/v1"),
    ],
)
def test_no_message_repeats_a_secret(path: str, value: object) -> None:
    assert "secret" not in message(path, value).replace("secret.key", "")


def test_a_long_value_is_cut() -> None:
    assert len(message("run.name", "x y" * 1000)) < 400
