"""The configuration of a labelling: what it takes from a run's, what is refused and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hybrid_batch.config.labelling import LabelConfig, load_label_config
from hybrid_batch.core.errors import ConfigError

TIER = {"model": "org/name", "server": "fake", "gpus": 0}
DOCUMENT: dict[str, Any] = {
    "run": {"name": "labels", "output": "out"},
    "input": {"path": "q.jsonl", "format": "jsonl", "columns": {"prompt": "text"}},
    "tiers": {"small": TIER, "large": TIER},
    "sampling": {"temperature": 0.0, "max_tokens": 9},
    "labels": {"scorer": {"kind": "exact"}, "reference": "answer"},
}


def load(folder: Path, *overrides: str, **sections: Any) -> LabelConfig:
    path = folder / "label.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT | sections))
    return load_label_config(path, overrides)


def test_several_answers_are_sampled_and_one_is_drawn_as_in_the_night(tmp_path):
    several = load(tmp_path).answers_sampling()
    assert (several.temperature, several.seed, several.max_tokens) == (0.7, 0, 9)
    one = load(tmp_path, "labels.answers=1").answers_sampling()
    assert (one.temperature, one.seed) == (0.0, None)
    warm = load(tmp_path, "labels.answers=1", "labels.temperature=1.2", "labels.seed=null").answers_sampling()
    assert (warm.temperature, warm.seed) == (1.2, None)


def test_a_labelling_may_build_on_the_file_of_a_run(tmp_path):
    found = load(tmp_path, router={"path": "r"}, policy={"threshold": 0.5})
    assert found.router is not None


def test_columns_are_those_that_are_named_each_once(tmp_path):
    found = load(tmp_path, "input.columns.task=kind", "labels.choices=answer")
    assert found.columns().names() == ("kind", "answer")


def test_other_options_and_columns_have_another_key(tmp_path):
    kinds = ["exact", "rouge_l", "tests.support.scorers:length"]
    keys = [load(tmp_path, f"labels.scorer.kind={kind}").labels_key() for kind in kinds]
    keys.append(load(tmp_path, "labels.scorer.options={separator: '|'}").labels_key())
    keys.append(load(tmp_path, "labels.reference=another").labels_key())
    assert len(set(keys)) == 5
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for key in keys)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("labels.sample=0", "labels.sample: 0 is not allowed; allowed is a whole number of queries from 1 to 100,000"),
        (
            "labels.answers=1001",
            "labels.answers: 1001 is not allowed; allowed is a whole number of at least 1, at most",
        ),
        ("labels.temperature=0", "labels: temperature is 0 and answers is 10: the same answer 10 times"),
        ("labels.reference=score", "labels: score: the results have a column of that name"),
        ("labels.scorer.kind=by_row", "labels.scorer: column names each row's scorer"),
        ("labels.scorer.column=x", "labels.scorer: column names each row's scorer"),
        ("labels.scorers=x", "labels.scorers: unknown key; did you mean scorer?"),
        ("labels=null", "labels: None is not allowed; allowed is a mapping with scorer"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(tmp_path, override, message):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, override)
    assert message in str(caught.value)
