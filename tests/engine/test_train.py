"""Training for real: labels in a file, an encoder in a folder, a router that scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.engines.router import load_router
from hybrid_batch.labelset import LabelSet, label_set, write_labels
from hybrid_batch.training.fit import Recipe
from hybrid_batch.training.train import Trained, TrainJob, train
from tests.support.studies import quiet
from tests.support.tiny_router import make_tiny_router

ROWS = 240


def made() -> LabelSet:
    """The small model adds right and spells wrong; some prompts are long."""
    random = np.random.default_rng(0)
    adds = random.random(ROWS) < 0.5
    prompts = [
        f"What is {row} plus {row % 7}?"
        if add
        else f"Spell the word number {row} of the dictionary, please, letter by letter"
        for row, add in enumerate(adds)
    ]
    small = np.where(adds, random.random(ROWS) < 0.9, random.random(ROWS) < 0.1).astype(float)
    tasks = ["sum" if add else "spelling" for add in adds]
    return label_set(prompts, [[v] for v in small], [[0.9]] * ROWS, tasks=tasks, source="made")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_router(tmp_path_factory.mktemp("encoder") / "tiny") / "encoder"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> TrainJob:
    folder = tmp_path_factory.mktemp("train")
    write_labels(str(folder / "labels.parquet"), made())
    return TrainJob(
        name="made",
        output=str(folder / "router"),
        labels=str(folder / "labels.parquet"),
        encoder=str(encoder),
        kind="trans",
        recipe=Recipe(("tasks", "clusters"), clusters=3),
        pair={"small": "s", "large": "l"},
    )


@pytest.fixture(scope="module")
def trained(job: TrainJob) -> Trained:
    return train(job, quiet())


def test_the_router_on_disk_scores_what_was_learnt(job: TrainJob, trained: Trained) -> None:
    router = load_router(Path(job.output), threads=1, device="cpu")
    scores = router.score(["What is 500 plus 3?", "Spell the word number 500 of the dictionary, please"])
    assert scores[0] > scores[1] + 0.2
    told = router.score(["What is 500 plus 3?"] * 2, ["sum", "spelling"])
    assert told[0] > told[1]
    assert router.card.tasks == ("spelling", "sum")
    assert len(router.card.members) == 2
    assert trained.validation.drop[0.4].value < trained.validation.random_drop[0.4]


def test_the_card_tells_how_it_was_made(job: TrainJob, trained: Trained) -> None:
    card = json.loads((Path(job.output) / "router.json").read_text())
    assert card["label_kind"] == "trans"
    assert card["t_star"]["t"] == trained.t_star.t  # type: ignore[union-attr]
    assert card["training"]["labels"]["fingerprint"] == made().fingerprint
    assert card["training"]["rows"] == ROWS
    assert sum(card["score_histogram"]) == ROWS
    assert card["curve"][0] == [0.0, 0.0]
    assert card["metrics"]["rows"] == trained.validation.rows
    assert card["pair"] == {"small": "s", "large": "l"}


def test_a_score_of_vector_and_surface_hangs_on_its_text_alone(job: TrainJob, trained: Trained) -> None:
    router = load_router(Path(job.output), threads=1, device="cpu")
    assert all(member.surface for member in router.card.members)
    texts = [*made().prompts[:50], "", "def f(x):\n    return x", "What is 500 plus 3?" * 40]
    whole = router.score(texts)
    pieces = [router.score(texts[start : start + 7]) for start in range(0, len(texts), 7)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert np.array_equal(router.score(texts[::-1]), whole[::-1])


def test_a_router_whose_surface_is_of_another_version_is_not_loaded(
    job: TrainJob, trained: Trained, tmp_path: Path
) -> None:
    copy = tmp_path / "router"
    shutil.copytree(job.output, copy)
    card = json.loads((copy / "router.json").read_text())
    card["members"][0]["surface"] = "surface/9"
    (copy / "router.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match=r"members\[0\]: surface is 'surface/9', allowed is none or 'surface/1'"):
        load_router(copy)
    del card["members"][0]["surface"]
    (copy / "router.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match=r"head\.safetensors: tensors are .*surface\.mean"):
        load_router(copy)


def test_the_same_training_gives_the_same_weights(job: TrainJob, trained: Trained, tmp_path: Path) -> None:
    from dataclasses import replace

    again = train(replace(job, output=str(tmp_path / "again")), quiet())
    heads = [(Path(place) / "members/0/head.safetensors").read_bytes() for place in (job.output, again.output)]
    assert heads[0] == heads[1]
    assert trained.validation == again.validation


def test_a_router_is_replaced_only_when_that_is_asked_for(job: TrainJob, trained: Trained) -> None:
    with pytest.raises(ConfigError, match="holds a router already; name another folder, or give --force"):
        train(job, quiet())
    assert train(job, quiet(), force=True).output == trained.output
    load_router(Path(job.output), threads=1, device="cpu")


def test_a_folder_that_is_no_encoder_and_too_few_labels_are_refused(job: TrainJob, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(ConfigError, match=r"encoder.model: .* has no config.json"):
        train(replace(job, encoder=str(tmp_path), output=str(tmp_path / "r")), quiet())
    write_labels(str(tmp_path / "few.parquet"), made().take(np.arange(20)))
    with pytest.raises(InputError, match="20 labelled queries; training needs at least 50"):
        train(replace(job, labels=str(tmp_path / "few.parquet"), output=str(tmp_path / "r")), quiet())
