"""A router with fine-tuned members: trained, interrupted, loaded, and trained on from an earlier one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.routing import to_micros
from hybrid_batch.engines.router import load_router
from hybrid_batch.engines.router_card import read_card
from hybrid_batch.labelset import label_set, write_labels
from hybrid_batch.training.finetune import FineTune
from hybrid_batch.training.fit import Recipe
from hybrid_batch.training.members import Tuning
from hybrid_batch.training.train import Trained, TrainJob, train
from tests.support.studies import quiet
from tests.support.tiny_encoders import make_tiny_encoder, toy

OPTIONS = FineTune(epochs=4, learning_rate=3e-3, head_rate=1e-2, batch_size=16, max_length=16, evaluations=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and lose much on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    folder = tmp_path_factory.mktemp("tuned")
    rows = toy(240)
    small, large = rows.q.small.tolist(), rows.q.large.tolist()
    prompts = [f"{prompt} word{number}" for number, prompt in enumerate(rows.prompts)]
    write_labels(str(folder / "labels.parquet"), label_set(prompts, small, large, tasks=rows.tasks, source="toy"))
    return TrainJob(
        name="tuned",
        output=str(folder / "router"),
        labels=str(folder / "labels.parquet"),
        encoder=str(make_tiny_encoder(folder / "encoder", "deberta-v2")),
        max_length=16,
        recipe=Recipe(("tasks",)),
        tuning=Tuning(OPTIONS, members=2, refit=True),
    )


@pytest.fixture(scope="module")
def trained(job: TrainJob) -> Trained:
    return train(job, quiet())


def test_the_router_on_disk_scores_what_its_members_compute(job: TrainJob, trained: Trained) -> None:
    router = load_router(Path(job.output), threads=1, device="cpu")
    card = json.loads((Path(job.output) / "router.json").read_text())
    assert [member["encoder"] for member in card["members"]] == ["encoder", "encoder-1", "encoder-2"]
    assert router.card.tasks == ("spelling", "sum")
    scores = router.score([f"{prompt} word7" for prompt in toy(240).prompts])
    micros, _ = np.histogram(to_micros(scores), bins=len(card["score_histogram"]), range=(0, 1_000_000))
    assert micros.sum() == sum(card["score_histogram"])
    right, wrong = router.score(["add word1 easy", "add word1 hard"])
    assert right > wrong + 0.2


def test_each_member_is_judged_alone_and_all_together(job: TrainJob, trained: Trained) -> None:
    card = json.loads((Path(job.output) / "router.json").read_text())
    frozen, tuned, other = (member["validation"]["apgr"] for member in card["members"])
    assert min(tuned, other) > frozen
    assert trained.validation.apgr.value > 0.8
    told = card["members"][1]["finetune"]
    assert told["history"][0].keys() == {"step", "epoch", "train", "validation", "apgr"}
    assert told["refit"]["best_step"] == round(
        told["best_step"] / told["steps"] * OPTIONS.epochs * np.ceil(240 / OPTIONS.batch_size)
    )


def test_nothing_is_left_beside_the_router(job: TrainJob, trained: Trained) -> None:
    assert not Path(f"{job.output}.partial").exists()


def test_a_router_that_is_replaced_leaves_no_file_behind(job: TrainJob, trained: Trained, tmp_path: Path) -> None:
    place = tmp_path / "router"
    shutil.copytree(job.output, place)
    train(replace(job, output=str(place), tuning=None), quiet(), force=True)
    assert len(read_card(place).members) == 1
    assert not (place / "encoder-1").exists()


def test_without_refit_the_encoder_that_was_judged_is_used(job: TrainJob, tmp_path: Path) -> None:
    kept = Tuning(replace(OPTIONS, epochs=1), members=1, refit=False)
    train(replace(job, output=str(tmp_path / "router"), tuning=kept), quiet())
    card = json.loads((tmp_path / "router" / "router.json").read_text())
    assert card["members"][1]["finetune"]["refit"] is None


class Interrupted(Exception):
    """What a user's Ctrl-C is to a training."""


class Stopper:
    """An observer that interrupts the training at a message."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)
        if self.at and self.at in message:
            raise Interrupted

    def progress(self, progress: object) -> None:
        """Stages are not looked at here."""


def test_an_interrupted_training_goes_on_where_it_was(job: TrainJob, trained: Trained, tmp_path: Path) -> None:
    again = replace(job, output=str(tmp_path / "router"))
    for place in ("fine-tune 1: step 12 of", "fine-tune 2: step 12 of", "refit 2: step 8 of"):
        with pytest.raises(Interrupted):
            train(again, Stopper(place), force=True)
    last = Stopper("")
    resumed = train(again, last)
    assert any(line.startswith("fine-tune 1: finished earlier") for line in last.said)
    names = [f"{folder}/model.safetensors" for folder in ("encoder-1", "encoder-2")]
    for name in (*names, *(f"members/{number}/head.safetensors" for number in range(3))):
        assert (Path(job.output) / name).read_bytes() == (tmp_path / "router" / name).read_bytes(), name
    assert resumed.validation == trained.validation


def test_a_training_starts_from_the_encoder_of_an_earlier_router(
    job: TrainJob, trained: Trained, tmp_path: Path
) -> None:
    one = Tuning(replace(OPTIONS, epochs=1), members=1, refit=False)
    child = replace(job, output=str(tmp_path / "child"), encoder=None, init_from=job.output, tuning=one)
    train(child, quiet())
    card = json.loads((tmp_path / "child" / "router.json").read_text())
    assert card["training"]["parent"] == {"name": "tuned", "fingerprint": trained.fingerprint}
    fresh = train(replace(job, output=str(tmp_path / "fresh"), tuning=one), quiet())
    first_losses = [
        json.loads((tmp_path / name / "router.json").read_text())["members"][-1]["finetune"]["history"][0]["validation"]
        for name in ("child", "fresh")
    ]
    assert first_losses[0] < first_losses[1]
    assert fresh.fingerprint != trained.fingerprint
    load_router(tmp_path / "child", threads=1, device="cpu")


def test_a_router_that_was_tampered_with_is_no_start(job: TrainJob, trained: Trained, tmp_path: Path) -> None:
    place = tmp_path / "parent"
    shutil.copytree(job.output, place)
    weights = place / "encoder-1" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ConfigError, match=r"encoder-1/model\.safetensors was changed: expected"):
        train(replace(job, output=str(tmp_path / "r"), encoder=None, init_from=str(place)), quiet())


def test_a_fine_tuned_encoder_alone_is_a_router(job: TrainJob, tmp_path: Path) -> None:
    alone = replace(job, output=str(tmp_path / "alone"), recipe=Recipe(()), tuning=Tuning(OPTIONS, refit=False))
    done = train(alone, quiet())
    card = read_card(tmp_path / "alone")
    assert len(done.members) == len(card.members) == 1
    assert "finetune" in done.members[0].told
    scores = load_router(tmp_path / "alone", device="cpu").score(["word1 word2", "word3"])
    assert ((scores >= 0) & (scores <= 1)).all()
