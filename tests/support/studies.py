"""Labelled queries with scores, made without a router: what a study needs and no more."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console, RenderableType

from hybrid_batch.core.labels import Qualities
from hybrid_batch.engines.router_card import CARD, read_card
from hybrid_batch.labelset import LabelSet
from hybrid_batch.reports.progress import PlainObserver
from hybrid_batch.study.subject import Subject
from tests.support.paper_router import make_paper_router


def label_set(
    small: np.ndarray, large: np.ndarray, tasks: Sequence[str | None] | None = None, name: str = "labels"
) -> LabelSet:
    """One answer of each model to n queries; ids and prompts are made from their number."""
    n = len(small)
    return LabelSet(
        query_ids=[f"q{number}" for number in range(n)],
        prompts=[f"What is {number}?" for number in range(n)],
        tasks=list(tasks) if tasks is not None else [None] * n,
        qualities=Qualities(np.reshape(small, (n, 1)).astype(float), np.reshape(large, (n, 1)).astype(float)),
        fingerprint=f"{name}-fingerprint",
        source=f"{name}.parquet",
    )


def subject(folder: Path, labels: LabelSet, scores: np.ndarray, **card: object) -> Subject:
    """A study of a router that exists on paper; ``card`` replaces fields of its card."""
    path = folder / "router"
    if not path.exists():
        make_paper_router(path)
    document = json.loads((path / CARD).read_bytes()) | card
    (path / CARD).write_text(json.dumps(document))
    return Subject(str(path), read_card(path), labels, np.asarray(scores, dtype=float))


def noisy_pair(n: int, seed: int = 0, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """0/1 qualities of small and large, and scores that know something: ``(small, large, scores)`` ``[n]`` each."""
    random = np.random.default_rng(seed)
    ease = random.random(n)
    small = (random.random(n) < ease).astype(float)
    large = (random.random(n) < 0.55 + 0.4 * ease).astype(float)
    return small, large, np.clip(ease + noise * random.normal(size=n), 0, 1)


def rendered(view: RenderableType, width: int = 80) -> str:
    """What stands on a terminal of ``width`` columns."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view)
    return console.file.getvalue()  # type: ignore[attr-defined]


def quiet() -> PlainObserver:
    """An observer whose lines nobody reads."""
    return PlainObserver(Console(file=io.StringIO()))
