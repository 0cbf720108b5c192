"""What a fine-tuning is made of, without a model: batches, parts, checkpoints, settings."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields as fields_of
from pathlib import Path

import numpy as np
import pytest
import yaml

from hybrid_batch.config.training import FineTuneSection, TrainConfig, load_train_config
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.head import MixtureHead
from hybrid_batch.training.batches import by_length, epoch_order, padded
from hybrid_batch.training.finetune import FineTune, part_names, parts_of
from hybrid_batch.training.members import Tuning
from hybrid_batch.training.start import Start
from tests.unit.test_docs import rows, text_of
from tests.unit.test_docs_configuration import fields, require_described

NEEDED = {"router": {"name": "a", "output": "o"}, "labels": {"path": "l"}, "encoder": {"model": "m"}}


def config(folder: Path, **sections: object) -> TrainConfig:
    (folder / "train.yaml").write_text(yaml.safe_dump(NEEDED | sections))
    return load_train_config(folder / "train.yaml")


def test_an_epoch_has_every_row_once_in_batches_of_like_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 1000)
    batches = epoch_order(lengths, 16, seed=3, epoch=1)
    assert sorted(np.concatenate(batches)) == list(range(1000))
    padding = sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()
    plain = np.random.default_rng(0).permutation(1000).reshape(-1, 8)
    assert padding < 1.2 < sum(lengths[batch].max() * len(batch) for batch in plain) / lengths.sum()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = np.arange(100)
    first, again = (np.concatenate(epoch_order(lengths, 8, 1, 2)) for _ in range(2))
    assert (first == again).all()
    assert (first != np.concatenate(epoch_order(lengths, 8, 1, 3))).any()
    assert (first != np.concatenate(epoch_order(lengths, 8, 2, 2))).any()


def test_padding_is_masked_and_no_row_is_empty() -> None:
    batch = padded([[5, 6, 7], [], [8]], np.array([0, 1, 2]), pad=9, max_length=100)
    assert batch.ids.shape == (3, 8)
    assert batch.ids[0].tolist() == [5, 6, 7, 9, 9, 9, 9, 9]
    assert batch.mask.sum(axis=1).tolist() == [3, 1, 1]
    assert padded([[1] * 5], np.array([0]), pad=0, max_length=5).ids.shape == (1, 5)
    assert [part.tolist() for part in by_length(np.array([1, 9, 5]), 2)] == [[1, 2], [0]]


def test_a_task_without_a_part_belongs_to_the_last_or_to_none() -> None:
    tasks = ["b"] * 30 + ["a"] * 20 + ["rare"] + [None]
    names = part_names(tasks)
    assert names == ("a", "b", "")
    assert parts_of(["a", "rare", None, "b"], names).tolist() == [0, 2, 2, 1]
    assert parts_of(["a", "rare"], ("a", "b")).tolist() == [0, -1]
    assert parts_of(["a", None], ()).tolist() == [0, 0]


def test_an_earlier_head_begins_where_tasks_agree() -> None:
    values = np.arange(6.0).reshape(3, 2)
    head = MixtureHead(values, values[:, 0], values * 2, values[:, 1])
    start = Start((Path("e"),), "e", (head,), ("a", "b", "c"))
    begun = start.head_for(0, ("c", "new"), surface=True)
    assert begun is not None
    assert begun.expert_weight.tolist() == [[8.0, 10.0], [4.0, 6.0]]
    assert begun.gate_bias.tolist() == [4.0, 2.0]
    assert start.head_for(0, ("other",), surface=True) is None


def test_every_setting_of_a_fine_tuning_can_be_given_and_has_one_default() -> None:
    given = FineTuneSection().model_dump()
    ours = {field.name: field.default for kind in (FineTune, Tuning) for field in fields_of(kind)}
    ours.pop("options")
    ours.pop("truncation")  # what the router will read is what it learns from
    assert given.keys() == ours.keys()
    assert {name for name in given if given[name] != ours[name]} == {"epochs"}


def test_every_key_of_a_training_is_described_with_its_default() -> None:
    said = {cells[0].strip("`"): cells[1] for cells in rows(text_of("docs/training.md")) if len(cells) == 3}
    require_described(said, dict(fields(TrainConfig)))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"finetune": {"epochs": -1}}, "finetune.epochs: -1 is not allowed; allowed is a whole number of at least 0"),
        ({"finetune": {"learning_rate": 0}}, "finetune.learning_rate: 0 is not allowed; allowed is a number above 0"),
        ({"finetune": {"precision": "fp16"}}, "'fp16' is not allowed; allowed is auto, float32 or bfloat16"),
        ({"finetune": {"epoch": 1}}, "finetune.epoch: unknown key; did you mean epochs?"),
        ({"finetune": {"epochs": 1, "max_length": 512}}, "allowed are at most the 256 tokens of encoder.max_length"),
        ({"encoder": {}}, "encoder.model and init_from: neither is given; allowed is one of them"),
        ({"init_from": "r"}, "encoder.model and init_from: both is given; allowed is one of them"),
    ],
)
def test_a_setting_that_cannot_be_is_told(tmp_path: Path, sections: dict, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, **sections)
    assert said in str(caught.value)


def test_what_scores_loads_nothing_that_trains() -> None:
    code = (
        "import sys, hybrid_batch.engines.router, hybrid_batch.stages.score, hybrid_batch.spark.executor\n"
        "print([name for name in sys.modules if name.startswith('hybrid_batch.training')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
