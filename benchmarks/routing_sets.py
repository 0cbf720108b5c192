"""Real routing data as labelled queries: which sets there are, where they lie, how they are split.

The data are read from a folder beside the project (``HYBRID_BATCH_TEST_DATA``, by default ``../shared/data``): the
nine-model set of LLMRouter (MIT) and RouteLLM's responses to GSM8K and MMLU (Apache-2.0).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hybrid_batch.labelset import LabelSet, label_set
from hybrid_batch.training.fit import held_out

VARIABLE = "HYBRID_BATCH_TEST_DATA"
TEST_SHARE = 0.3
_NINE_FILE = "llmrouter/dcrouter_train.json"
_NINE = {
    "mistral-7b": "mistral-7b-instruct-v0.3",
    "llama-3.1-8b": "llama-3.1-8b-instruct",
    "chatqa-8b": "llama3-chatqa-1.5-8b",
    "codegemma-7b": "codegemma-7b",
    "gemma-2-9b": "gemma-2-9b-it",
    "qwen2.5-7b": "qwen2.5-7b-instruct",
    "nemotron-49b": "llama-3.3-nemotron-super-49b-v1",
    "nemotron-51b": "llama-3.1-nemotron-51b-instruct",
}
_MIXTRAL, _GPT4 = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
_UNSEEN_SUBJECTS = 10


@dataclass(frozen=True)
class RoutingSet:
    """Labelled queries of one pair of models; ``test`` bool ``[n]`` marks the rows that only judge."""

    name: str
    labels: LabelSet
    test: np.ndarray


def folder() -> Path:
    """Where the data are looked for."""
    return Path(os.environ.get(VARIABLE, Path(__file__).resolve().parents[2] / "shared" / "data"))


def found_sets(root: Path) -> list[str]:
    """Names of the sets whose files lie below ``root``."""
    return [name for name, (file, _) in _SETS.items() if (root / file).exists()]


def load_set(name: str, root: Path) -> RoutingSet:
    """The set ``name``; a hash of the query decides its split, or the subject in ``mmlu-unseen-subjects``."""
    labels = _SETS[name][1](root)
    if name == "mmlu-unseen-subjects":
        unseen = set(sorted({task for task in labels.tasks if task})[:: 40 // _UNSEEN_SUBJECTS])
        return RoutingSet(name, labels, np.array([task in unseen for task in labels.tasks]))
    return RoutingSet(name, labels, held_out(labels.prompts, TEST_SHARE))


def load_models(small: Sequence[str], large: Sequence[str], root: Path) -> LabelSet:
    """The nine-model set for the models ``small`` beside ``large`` (keys of :data:`_NINE`): mean qualities."""
    rows = json.loads((root / _NINE_FILE).read_text(encoding="utf-8"))
    with (root / "llmrouter/default_query_train.jsonl").open(encoding="utf-8") as lines:
        tasks = {query["query"]: query["task_name"] for query in map(json.loads, lines)}
    pair = [
        [[float(np.mean([row["scores"][_NINE[model]] for model in models]))] for row in rows]
        for models in (small, large)
    ]
    prompts = [row["question"] for row in rows]
    return label_set(prompts, *pair, tasks=[tasks.get(prompt) for prompt in prompts], source="nine models")


def has_pairs(root: Path) -> bool:
    """Whether the nine-model set lies below ``root``."""
    return (root / _NINE_FILE).exists()


def _responses(pattern: str, prefix: str) -> Callable[[Path], LabelSet]:
    def load(root: Path) -> LabelSet:
        rows: dict[str, tuple[str | None, Mapping[str, str]]] = {}
        for file in sorted((root / "routellm").glob(pattern)):
            task = file.stem.removeprefix(prefix) if prefix else None
            with file.open(encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    rows.setdefault(row["prompt"], (task, row))
        pair = [[[float(row[model] == "True")] for _, row in rows.values()] for model in (_MIXTRAL, _GPT4)]
        return label_set(list(rows), *pair, tasks=[task for task, _ in rows.values()], source="RouteLLM")

    return load


_SETS: dict[str, tuple[str, Callable[[Path], LabelSet]]] = {
    **{
        f"{small}->nemotron-51b": (_NINE_FILE, partial(load_models, (small,), ("nemotron-51b",)))
        for small in ("mistral-7b", "llama-3.1-8b", "chatqa-8b")
    },
    "mmlu": ("routellm/mmlu", _responses("mmlu/*.csv", "mmlu_")),
    "mmlu-unseen-subjects": ("routellm/mmlu", _responses("mmlu/*.csv", "mmlu_")),
    "gsm8k": ("routellm/gsm8k_responses.csv", _responses("gsm8k_responses.csv", "")),
}
