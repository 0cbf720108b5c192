"""Fine-tuning for real, on encoders that are tiny."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.head import load_head
from hybrid_batch.engines.router import load_encoder
from hybrid_batch.engines.surface import surface_features
from hybrid_batch.training.finetune import FineTune, FineTuned, fine_tune
from tests.support.studies import quiet
from tests.support.tiny_encoders import DIM, make_tiny_encoder, toy

OPTIONS = FineTune(
    epochs=6, learning_rate=3e-3, head_rate=1e-2, batch_size=16, max_length=16, evaluations=2, patience=99
)
KINDS = ("bert", "roberta", "deberta-v2")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and lose much on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp(request.param) / "encoder", request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("bert") / "encoder")


def tuned(encoder: Path, work: Path, **changed: object) -> FineTuned:
    return fine_tune(encoder, toy(), toy(64, seed=1), replace(OPTIONS, **changed), work, quiet())


def scores_of(found: FineTuned, prompts: Sequence[str]) -> np.ndarray:
    """What a scorer computes from the folder and the head."""
    vectors = load_encoder(found.encoder, 16, device="cpu").embed(prompts)
    return found.head.score(vectors, surface=surface_features(prompts))


def weights(found: FineTuned) -> tuple[bytes, bytes]:
    return (found.encoder / "model.safetensors").read_bytes(), (found.encoder.parent / "head.safetensors").read_bytes()


def test_an_encoder_learns_what_no_word_tells_alone(encoder: Path, tmp_path: Path) -> None:
    found = tuned(encoder, tmp_path / "work", epochs=12)
    new = toy(64, seed=2)
    scores = scores_of(found, new.prompts)
    assert found.names == ("spelling", "sum")
    assert found.history[-1]["train"] < found.history[0]["train"] / 2
    assert scores[new.targets == 1].mean() > scores[new.targets == 0].mean() + 0.4


@pytest.mark.parametrize("surface", [False, True])
def test_what_is_written_scores_as_what_was_trained(encoder: Path, surface: bool, tmp_path: Path) -> None:
    stop = toy(64, seed=1)
    found = tuned(encoder, tmp_path / "work", epochs=2, surface=surface)
    assert (found.head.scale is not None) == surface
    scores = scores_of(found, stop.prompts)
    loss = -np.log(np.where(stop.targets == 1, scores, 1 - scores)).mean()
    best = min(entry["validation"] for entry in found.history)
    assert abs(loss - best) < 1e-4
    assert found.best_step == next(entry["step"] for entry in found.history if entry["validation"] == best)


def test_it_ends_when_nothing_gets_better_and_keeps_the_best(bert: Path, tmp_path: Path) -> None:
    wrong = toy(64, seed=1)
    opposite = replace(wrong, targets=1 - wrong.targets)
    options = replace(OPTIONS, epochs=30, patience=3)
    found = fine_tune(bert, toy(), opposite, options, tmp_path / "work", quiet())
    losses = [entry["validation"] for entry in found.history]
    best = int(np.argmin(losses))
    assert found.best_step == found.history[best]["step"]
    assert len(losses) == best + 1 + 3
    assert found.history[-1]["step"] < found.steps


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(bert: Path, tmp_path: Path) -> None:
    first, again, other = (
        weights(tuned(bert, tmp_path / str(turn), epochs=1, seed=seed)) for turn, seed in enumerate((0, 0, 1))
    )
    assert first == again
    assert first != other


def test_a_finished_training_is_read_and_another_one_is_not_continued(bert: Path, tmp_path: Path) -> None:
    found = tuned(bert, tmp_path, epochs=1)
    made = (found.encoder / "model.safetensors").stat().st_mtime_ns
    assert tuned(bert, tmp_path, epochs=1).history == found.history
    assert (found.encoder / "model.safetensors").stat().st_mtime_ns == made
    other = tuned(bert, tmp_path, epochs=1, learning_rate=1e-3)
    assert (other.encoder / "model.safetensors").stat().st_mtime_ns != made


KILLED = """
import os, signal, sys, torch
from dataclasses import replace
from pathlib import Path
from hybrid_batch.training.finetune import fine_tune
from tests.engine.test_finetune import OPTIONS
from tests.support.studies import quiet
from tests.support.tiny_encoders import toy

torch.set_num_threads(1)

class Killer:
    def note(self, message):
        if "step 12 of" in message:
            os.kill(os.getpid(), signal.SIGKILL)
    def progress(self, progress):
        pass

fine_tune(Path(sys.argv[1]), toy(), toy(64, seed=1), OPTIONS, Path(sys.argv[2]), Killer())
"""


@pytest.mark.chaos
def test_a_killed_training_goes_on_and_comes_to_the_same_weights(encoder: Path, tmp_path: Path) -> None:
    whole = tuned(encoder, tmp_path / "whole")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(encoder), str(tmp_path / "cut")], cwd=Path(__file__).parents[2]
    )
    assert done.returncode == -signal.SIGKILL
    kept = json.loads((tmp_path / "cut" / "checkpoint.json").read_text())
    assert 0 < kept["fields"]["step"] < 12
    resumed = tuned(encoder, tmp_path / "cut")
    assert weights(resumed) == weights(whole)
    assert resumed.history == whole.history
    assert not list((tmp_path / "cut").glob("state-*"))


def test_a_damaged_checkpoint_is_not_continued(bert: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(bert), str(tmp_path / "cut")], cwd=Path(__file__).parents[2])
    (best,) = (tmp_path / "cut").glob("best-*.safetensors")
    data = bytearray(best.read_bytes())
    data[-1] ^= 1
    best.write_bytes(data)
    assert weights(tuned(bert, tmp_path / "cut")) == weights(tuned(bert, tmp_path / "whole"))


def test_frozen_layers_stay_as_they_are(bert: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    before = load_file(bert / "model.safetensors")
    after = load_file(tuned(bert, tmp_path, epochs=1, frozen_layers=1).encoder / "model.safetensors")
    changed = {name for name, tensor in after.items() if not np.array_equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


def test_memory_is_saved_without_another_result(bert: Path, tmp_path: Path) -> None:
    plain = tuned(bert, tmp_path / "plain", epochs=1)
    saved = tuned(bert, tmp_path / "saved", epochs=1, gradient_checkpointing=True)
    assert np.allclose(plain.head.expert_weight, saved.head.expert_weight, atol=1e-4)


def test_half_precision_learns_too(bert: Path, tmp_path: Path) -> None:
    found = tuned(bert, tmp_path, epochs=12, precision="bfloat16")
    assert found.history[-1]["train"] < found.history[0]["train"] / 2


def test_a_rate_that_is_too_high_is_told(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"finetune.learning_rate: the loss is .* take a lower rate"):
        tuned(bert, tmp_path, learning_rate=1e30)


def test_queries_without_tasks_have_one_part(bert: Path, tmp_path: Path) -> None:
    rows = toy()
    nameless = replace(rows, tasks=[None] * len(rows))
    found = fine_tune(bert, nameless, None, replace(OPTIONS, epochs=1), tmp_path, quiet())
    assert found.names == ()
    assert load_head(tmp_path / "head.safetensors", DIM).parts == 1
    assert "validation" not in found.history[0]
    assert found.best_step == found.steps
