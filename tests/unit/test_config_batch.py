"""The columns of an input: those of a batch file are known, those of others are named."""

from __future__ import annotations

from typing import Any

import pytest

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
