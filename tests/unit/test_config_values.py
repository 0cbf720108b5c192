"""What the rooms below get out of a configuration, and what is kept secret."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hybrid_batch.config import EndpointTier, parse_config
from hybrid_batch.config.explain import explain
from hybrid_batch.core.cost import EngineTimePrice, TokenPrice
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.inputs import InputSpec
from hybrid_batch.core.routing import SmallSharePolicy, ThresholdPolicy
from hybrid_batch.engines.base import ChatRequest, EndpointRecipe, Sampling, ServerRecipe
from hybrid_batch.engines.chat_wire import to_payload
from hybrid_batch.engines.request_body import overrides_of, with_overrides
from hybrid_batch.engines.request_fields import Passed

SECRETS = {"HF_TOKEN": "hush-1", "PLAIN": "hush-2"}
CONFIG = parse_config(
    {
        "run": {"name": "night", "output": "s3://bucket/out"},
        "input": {
            "path": "queries",
            "format": "parquet",
            "columns": {"id": "id", "messages": "turns"},
            "keep": ["tenant"],
            "limit": 5,
        },
        "router": {"path": "~/router"},
        "policy": {"small_share": 0.4},
        "prompt": {"system": "Be brief."},
        "tiers": {
            "small": {
                "model": "./models/small",
                "gpus": 2,
                "usd_per_gpu_hour": "1.20",
                "engine_args": {"z": True, "block_size": 0.5},
                "env": SECRETS,
            },
            "large": {
                "endpoint": "https://host/v1/",
                "model": "big",
                "api_key_env": "KEY",
                "usd_per_million_prompt_tokens": "0.5",
                "usd_per_million_completion_tokens": 2,
            },
        },
        "sampling": {"temperature": 0.5, "seed": 7, "stop": ["END"]},
        "spark": {"conf": {"spark.x": True, "spark.cores.max": 4, "spark.ssl.keyPassword": "hush-3"}},
    },
    {},
)


def test_input_router_policy_and_sampling() -> None:
    assert CONFIG.input.to_spec() == InputSpec(
        "queries", "parquet", "id", messages_column="turns", keep=("tenant",), limit=5
    )
    assert CONFIG.router.path == str(Path.home() / "router")
    assert CONFIG.policy.to_policy() == SmallSharePolicy(0.4)
    assert CONFIG.sampling.to_sampling() == Sampling(0.5, 256, 1.0, 7, ("END",))
    assert CONFIG.spark.conf["spark.x"] == "true"
    assert CONFIG.spark.conf["spark.cores.max"] == "4"


def test_all_that_a_request_may_have_goes_into_the_sampling() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"properties": {"z": {}, "a": {}}}}}
    tool = {"type": "function", "function": {"name": "look"}}
    numbers = {"temperature": 1.0, "top_k": 5, "min_p": 0.1, "n": 3, "logprobs": 2, "presence_penalty": 0.5}
    forms = {"response_format": schema, "tools": [tool], "tool_choice": "auto", "chat_template_kwargs": {"a": 1}}
    section = type(CONFIG.sampling).model_validate(numbers | forms)
    texts = {name: json.dumps(value, separators=(",", ":")) for name, value in forms.items()}
    assert section.to_sampling() == Sampling(**numbers | texts)
    told = dict(explain(CONFIG.model_copy(update={"sampling": section})))["sampling"]
    assert "3 answers to each query" in told
    assert told.endswith("every request has response_format, tools, tool_choice, chat_template_kwargs")


def test_a_job_passes_on_for_all_rows_what_a_row_may_pass_on() -> None:
    given = {
        "min_tokens": 2,
        "ignore_eos": False,
        "stop_token_ids": [7],
        "bad_words": ["x"],
        "logit_bias": {"7": -100},
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "include_reasoning": True,
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "user": "",
    }
    assert given.keys() == Passed.model_fields.keys()
    section = type(CONFIG.sampling).model_validate(given)
    asked = ChatRequest([], section.to_sampling())
    assert to_payload(asked, "m") == to_payload(ChatRequest([]), "m") | given
    assert to_payload(with_overrides(asked, overrides_of('{"min_tokens":3}')), "m")["min_tokens"] == 3
    config = CONFIG.model_copy(update={"sampling": section})
    assert dict(explain(config))["sampling"].endswith(f"every request has {', '.join(given)}")
    assert config.redacted()["sampling"]["stop_token_ids"] == [7]


def test_a_tier_may_ask_an_adapter() -> None:
    flags = {"enable_lora": True, "lora-modules": "legal=/models/legal"}
    tier = type(CONFIG.tiers.small).model_validate({"model": "org/small", "engine_args": flags, "adapter": "legal"})
    assert tier.recipe("small").adapter == "legal"
    told = dict(explain(CONFIG.model_copy(update={"tiers": CONFIG.tiers.model_copy(update={"small": tier})})))
    assert told["tiers.small"].startswith("org/small with adapter legal in a vllm server")


def test_a_threshold_policy() -> None:
    policy = type(CONFIG.policy).model_validate({"threshold": 0})
    assert policy.to_policy() == ThresholdPolicy(0.0)


def test_the_task_is_carried_along_and_may_be_the_group() -> None:
    columns = {"prompt": "text", "task": "kind"}
    document: dict[str, Any] = {
        "run": {"name": "night", "output": "out"},
        "input": {"path": "queries", "format": "jsonl", "columns": columns, "keep": ["tenant"]},
        "router": {"path": "router"},
        "policy": {"max_drop_pct": 2.5, "by": "kind"},
        "tiers": {"small": {"model": "org/small"}, "large": {"model": "org/large"}},
    }
    config = parse_config(document)
    spec = config.input.to_spec()
    assert (spec.keep, spec.task_column) == (("tenant", "kind"), "kind")
    assert config.policy.to_policy() is None
    told = dict(explain(config))
    assert told["input"].endswith(", prompts from 'text', tasks from 'kind'; keeps tenant, kind")
    assert told["policy"].endswith("95 % confidence, as calibrated for each kind; others go to large")
    document["policy"]["by"] = "kinds"
    with pytest.raises(ConfigError, match=r"no column 'kinds' .*; these name 'tenant', 'kind'"):
        parse_config(document)
    document["input"]["keep"] = ["Kind"]
    with pytest.raises(ConfigError, match=r"input: columns\.task: a column is named twice"):
        parse_config(document)


def test_a_server_tier_gives_recipe_and_price() -> None:
    small = CONFIG.tiers.by_name()["small"]
    recipe = small.recipe("small")
    assert isinstance(recipe, ServerRecipe)
    assert (recipe.tier, recipe.model, recipe.gpus, recipe.tensor_parallel) == ("small", "./models/small", 2, 2)
    assert recipe.engine_args == (("block_size", 0.5), ("z", True))
    assert recipe.env == tuple(sorted(SECRETS.items()))
    assert small.price() == EngineTimePrice(Decimal("2.40"))
    assert small.model_folder() == "./models/small"


def test_an_endpoint_tier_gives_recipe_and_price() -> None:
    large = CONFIG.tiers.by_name()["large"]
    assert large.recipe("large") == EndpointRecipe("large", "big", "https://host/v1", "KEY")
    assert large.price() == TokenPrice(Decimal("0.5"), Decimal(2))
    assert large.model_folder() is None


def test_an_endpoint_tier_may_be_spared_fields() -> None:
    given = {"max_tokens_field": "max_completion_tokens", "unsent": ["temperature", "top_p"]}
    tier = EndpointTier.model_validate({"endpoint": "https://host/v1", "model": "big", **given})
    recipe = tier.recipe("large")
    assert (recipe.max_tokens_field, recipe.unsent) == ("max_completion_tokens", ("temperature", "top_p"))
    told = dict(explain(CONFIG.model_copy(update={"tiers": CONFIG.tiers.model_copy(update={"large": tier})})))
    assert told["tiers.large"].endswith("; temperature, top_p not sent")


def test_nothing_secret_is_in_records_or_explanations() -> None:
    record = json.dumps(CONFIG.redacted())
    told = " ".join(sentence for _, sentence in explain(CONFIG))
    assert "hush" not in record
    assert "hush" not in told
    assert '"HF_TOKEN": "***"' in record
    assert '"api_key_env": "KEY"' in record
    assert '"max_tokens": 256' in record


def test_the_explanation_says_what_will_happen() -> None:
    told = dict(explain(CONFIG))
    assert told["policy"] == "the 40 % of the queries with the highest scores go to small, all others to large"
    assert told["input"].startswith("the first 5 rows of parquet at queries; ids from 'id', chat turns from 'turns'")
    assert "2 x 1.20 USD per hour" in told["tiers.small"]
    assert "key from $KEY" in told["tiers.large"]
    assert told["prompt"] == "a system turn of 9 characters"


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        CONFIG.run.name = "other"  # type: ignore[misc]


def test_importing_the_configuration_loads_no_spark_and_no_model_library() -> None:
    heavy = "{'pyspark', 'torch', 'vllm', 'transformers', 'pandas', 'matplotlib'}"
    code = f"import sys, hybrid_batch.config; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
