"""Real queries for the benchmarks of scoring: those of the public routing sets, else generated ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from benchmarks.routing_sets import found_sets, load_set

_SETS = ("mistral-7b->nemotron-51b", "mmlu")
_WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "was",
    "with",
    "by",
    "on",
    "river",
    "engine",
    "market",
    "theory",
    "window",
)


def found_queries(root: Path, count: int) -> tuple[list[str], str]:
    """``count`` different queries, in an order that their hashes decide, and where they come from."""
    names = [name for name in found_sets(root) if name in _SETS]
    texts = {text for name in names for text in load_set(name, root).labels.prompts}
    if len(texts) < count:
        return _generated(count), "generated words, because the public sets are not here"
    ordered = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    return ordered[:count], " and ".join(names)


def _generated(count: int) -> list[str]:
    """Queries of lengths like those of the public sets: half of them below 50 words, some of hundreds."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(3.7, 0.9, count), 5, 400).astype(int)
    return [f"{number}: " + " ".join(random.choice(_WORDS, length)) for number, length in enumerate(lengths)]
