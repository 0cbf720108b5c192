"""The columns of an input: those of a batch file are known, those of others are named."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hybrid_batch.config import load_config
from hybrid_batch.config.explain import explain
from hybrid_batch.config.loading import parse_config
from hybrid_batch.core.errors import ConfigError


def document(**given: Any) -> dict[str, Any]:
    tier = {"model": "org/name", "server": "fake"}
    return {
        "run": {"name": "a", "output": "out"},
        "input": {"path": "q", "format": "openai-batch", **given},
        "router": {"path": "router"},
        "policy": {"threshold": 0.5},
        "tiers": {"small": tier, "large": tier},
    }


def columns(**given: str | None) -> dict[str, Any]:
    return document(columns=given)


@pytest.mark.parametrize("given", [document(), document(columns=None), columns(prompt=None)])
def test_a_batch_file_says_what_is_where(given):
    spec = parse_config(given, {}).input.to_spec()
    assert (spec.id_column, spec.messages_column, spec.prompt_column) == ("custom_id", "body", None)


def test_a_task_may_be_named_and_is_kept():
    spec = parse_config(columns(task="kind"), {}).input.to_spec()
    assert spec.columns == ("custom_id", "body", "kind")


def test_a_later_choice_of_the_format_takes_back_the_columns_of_another(tmp_path):
    below = document(format="csv", columns={"id": "i", "prompt": "p", "task": "kind"})
    (tmp_path / "below.yaml").write_text(yaml.safe_dump(below))
    for name, given in (("path", {"path": "b.jsonl"}), ("prompt", {"columns": {"prompt": "x"}})):
        above = {"base": "below.yaml", "input": {**given, "format": "openai-batch"}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(above, sort_keys=False))
    spec = load_config(tmp_path / "path.yaml", []).input.to_spec()
    assert spec.columns == ("custom_id", "body", "kind")
    assert (
        spec
        == load_config(tmp_path / "below.yaml", ["input.format=openai-batch", "input.path=b.jsonl"]).input.to_spec()
    )
    with pytest.raises(ConfigError, match=r"columns\.prompt: is not allowed with format: openai-batch"):
        load_config(tmp_path / "prompt.yaml", [])


@pytest.mark.parametrize("name", ["id", "prompt", "messages", "request", "image"])
def test_other_columns_are_refused(name):
    said = rf"input: columns\.{name}: is not allowed with format: openai-batch, whose lines have custom_id and body"
    with pytest.raises(ConfigError, match=said):
        parse_config(columns(**{name: "x"}), {})


@pytest.mark.parametrize(
    ("given", "said"),
    [("x", r"input.columns: 'x' is not allowed"), ({"ask": "x"}, r"input.columns.ask: unknown key")],
)
def test_what_is_no_mapping_of_columns_is_told(given, said):
    with pytest.raises(ConfigError, match=said):
        parse_config(document(columns=given), {})


def test_what_is_read_is_explained():
    given = document(format="csv", columns={"prompt": "p", "request": "ask", "image": "pic"})
    told = dict(explain(parse_config(given, {})))["input"]
    assert (
        told == "csv at q; ids made from file name and row, prompts from 'p', overrides from 'ask', images from 'pic'"
    )
