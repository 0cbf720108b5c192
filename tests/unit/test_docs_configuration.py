"""docs/configuration.md has every key, its default, and whether it changes a run."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from hybrid_batch.config import EndpointTier, JobConfig, ServerTier
from hybrid_batch.config.labelling import LabelsSection
from hybrid_batch.config.loading import parse_config
from hybrid_batch.identity import identity_of
from hybrid_batch.spark.source import plan_input
from tests.unit.test_docs import rows, text_of


def fields(model: type[BaseModel], at: str = "") -> Iterator[tuple[str, object]]:
    """``(key, default)`` of all keys below ``model``; ``PydanticUndefined`` where one must be given."""
    for name, field in model.model_fields.items():
        key = f"{at}{name}"
        if key == "tiers":
            for tier in (ServerTier, EndpointTier):
                yield from fields(tier, "tiers.NAME.")
            continue
        inner = [kind for kind in _kinds(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner or at:
            yield key, "gpus" if name == "tensor_parallel" else field.get_default(call_default_factory=True)
        for kind in inner:
            yield from fields(kind, f"{key}.")


def _kinds(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def require_described(said: dict[str, str], true: dict[str, object]) -> None:
    """Every key is ``said`` to have its ``true`` default, and no other key is described."""
    assert said.keys() == true.keys()
    for key, default in true.items():
        if default is PydanticUndefined:
            assert said[key] == "required", key
        elif default is None:
            assert said[key] == "none", key
        else:
            plain = list(default) if isinstance(default, tuple) else default
            found = yaml.safe_load(said[key].strip("`"))
            # YAML reads 1e-4 as text.
            assert (float(found) if isinstance(plain, float) else found) == plain, key


def test_every_key_of_the_configuration_is_described_with_its_default():
    said = {cells[0].strip("`"): cells[2] for cells in rows(text_of("docs/configuration.md")) if len(cells) == 5}
    require_described(said, dict(fields(JobConfig)))


def test_every_key_of_a_labelling_is_described():
    said = {cells[0].strip("`") for cells in rows(text_of("docs/labels.md")) if cells[0].startswith("`labels.")}
    assert said == {key for key, _ in fields(LabelsSection, "labels.")} - {"labels.scorer"}


CHANGES: dict[str, object] = {
    "input.columns.task": "tenant",
    "input.columns.request": "tenant",
    "input.columns.image": "tenant",
    "input.keep": ["tenant"],
    "input.limit": 1,
    "input.rows_per_split": 7,
    "input.bytes_per_split": 9,
    "input.max_prompt_bytes": 7,
    "policy.threshold": 0.4,
    "tiers.NAME.model": "org/other",
    "tiers.NAME.request_timeout_s": 7,
    "tiers.NAME.gpus": 2,
    "tiers.NAME.max_model_len": 7,
    "tiers.NAME.max_num_seqs": 7,
    "tiers.NAME.dtype": "half",
    "tiers.NAME.trust_remote_code": True,
    "tiers.NAME.server": "vllm",
    "tiers.NAME.engine_args": {"seed": 7},
    "tiers.NAME.adapter": "x",
    "tiers.NAME.env": {"A": "b"},
    "tiers.NAME.python": "/usr/bin/python3",
    "tiers.NAME.start_timeout_s": 7,
    "tiers.NAME.idle_timeout_s": 7,
    "tiers.NAME.usd_per_gpu_hour": "1",
    "tiers.NAME.usd_per_engine_hour": "1",
    "prompt.system": "Be brief.",
    "sampling.temperature": 1.0,
    "sampling.max_tokens": 7,
    "sampling.top_p": 0.7,
    "sampling.seed": 7,
    "sampling.stop": ["x"],
    "sampling.top_k": 7,
    "sampling.min_p": 0.7,
    "sampling.logprobs": 7,
    "sampling.presence_penalty": 0.7,
    "sampling.frequency_penalty": 0.7,
    "sampling.repetition_penalty": 0.7,
    "sampling.response_format": {"type": "json_object"},
    "sampling.structured_outputs": {"choice": ["x"]},
    "sampling.tools": [{"type": "function", "function": {"name": "x"}}],
    "sampling.tool_choice": "none",
    "sampling.chat_template_kwargs": {"enable_thinking": False},
    "sampling.min_tokens": 7,
    "sampling.ignore_eos": True,
    "sampling.stop_token_ids": [7],
    "sampling.bad_words": ["x"],
    "sampling.logit_bias": {"7": 1},
    "sampling.include_stop_str_in_output": True,
    "sampling.skip_special_tokens": False,
    "sampling.include_reasoning": False,
    "sampling.parallel_tool_calls": False,
    "sampling.reasoning_effort": "low",
    "sampling.user": "x",
    "shards.rows": 7,
    "spark.master": "local[1]",
    "spark.app_name": "x",
    "spark.conf": {"a": "b"},
    "run.max_error_rate": 0.7,
    "run.log_dir": "/tmp/logs",
}
"""Another value for each key that says something of a run's identity."""


def test_what_the_configuration_page_says_of_identity_is_true(tmp_path: Path):
    marks = {cells[0].strip("`"): cells[4] for cells in rows(text_of("docs/configuration.md")) if len(cells) == 5}
    document = _document(tmp_path)
    before = _identity(document)
    for key, value in CHANGES.items():
        after = _identity(_changed(document, key.replace("NAME", "large").split("."), value))
        assert (after != before) == marks[key].startswith("yes"), key


def _document(folder: Path) -> dict[str, Any]:
    (folder / "router").mkdir()
    (folder / "router" / "router.json").write_text(text_of("hybrid_batch/demo/data/router/router.json"))
    (folder / "q.jsonl").write_text('{"id": "a", "text": "Hi", "tenant": "t"}\n')
    tier = {"model": "org/name", "server": "fake"}
    return {
        "run": {"name": "a", "output": str(folder)},
        "input": {"path": str(folder / "q.jsonl"), "format": "jsonl", "columns": {"id": "id", "prompt": "text"}},
        "router": {"path": str(folder / "router")},
        "policy": {"threshold": 0.5},
        "tiers": {"small": tier, "large": tier},
    }


def _changed(document: dict[str, Any], path: list[str], value: object) -> dict[str, Any]:
    first, *rest = path
    return {**document, first: _changed(document.get(first, {}), rest, value) if rest else value}


def _identity(document: dict[str, Any]) -> object:
    config = parse_config(document, {})
    return identity_of(config, plan_input(config.input.to_spec()))
