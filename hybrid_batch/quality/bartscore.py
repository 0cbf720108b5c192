"""BARTScore: how likely a sequence-to-sequence model finds one text after another (Yuan et al., NeurIPS 2021).

Hybrid LLM takes it as the quality of an answer (Ding et al. 2024, section 4.1).  The value is a mean of
log-probabilities: unbounded below 0, and only differences between answers to the same query mean something.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.quality.base import Answers, Case, Qualities
from hybrid_batch.quality.per_answer import reference_of

REFERENCE_TO_ANSWER: Final = "reference_to_answer"
ANSWER_TO_REFERENCE: Final = "answer_to_reference"
F: Final = "f"
PROMPT_TO_ANSWER: Final = "prompt_to_answer"
DIRECTIONS: Final = (REFERENCE_TO_ANSWER, ANSWER_TO_REFERENCE, F, PROMPT_TO_ANSWER)
"""Precision, recall, their mean, and faithfulness to the query, in the paper's words (section 3.2)."""

_IGNORED: Final = -100
"""A place in the labels that counts for nothing."""

Pair = tuple[str, str]
"""Source and target."""


class BartScorer:
    """Mean log-likelihood per token of a target after a source, special tokens included, as the paper's code has it.

    A quality hangs on its pair of texts alone: padding is masked, and the batch changes no more than the last digits of
    floating-point sums.
    """

    def __init__(self, model: Any, tokenizer: Any, direction: str, batch_size: int, max_length: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._direction = direction
        self._batch_size = batch_size
        self._max_length = max_length

    def score(self, cases: Sequence[Case], small: Answers, large: Answers) -> tuple[Qualities, Qualities]:
        pairs = [
            self._pairs_of(case, (*first, *second)) for case, first, second in zip(cases, small, large, strict=True)
        ]
        found = self.log_likelihoods({pair for row in pairs for several in row.values() for pair in several})
        means = [{answer: _mean([found[pair] for pair in several]) for answer, several in row.items()} for row in pairs]
        return _shaped(means, small), _shaped(means, large)

    def close(self) -> None:
        self._model = None

    def _pairs_of(self, case: Case, answers: Iterable[str | None]) -> dict[str, list[Pair]]:
        """For each text among ``answers`` the pairs whose likelihoods make its quality."""
        if self._direction == PROMPT_TO_ANSWER:
            return {answer: [(case.prompt, answer)] for answer in answers if answer is not None}
        reference = reference_of(case, "bartscore")
        return {answer: self._compared(reference, answer) for answer in answers if answer is not None}

    def _compared(self, reference: str, answer: str) -> list[Pair]:
        precision, recall = (reference, answer), (answer, reference)
        return {REFERENCE_TO_ANSWER: [precision], ANSWER_TO_REFERENCE: [recall]}.get(
            self._direction, [precision, recall]
        )

    def log_likelihoods(self, pairs: Iterable[Pair]) -> dict[Pair, float]:
        """For each pair the mean log-probability (natural logarithm) of its target's tokens; NaN where it has none."""
        ordered = sorted(pairs, key=lambda pair: (len(pair[0]) + len(pair[1]), pair))  # little padding
        found: dict[Pair, float] = {}
        for start in range(0, len(ordered), self._batch_size):
            batch = ordered[start : start + self._batch_size]
            found |= dict(zip(batch, self._batch(batch), strict=True))
        return found

    def _batch(self, pairs: Sequence[Pair]) -> list[float]:
        import torch

        device = self._model.device
        sources, mask = (part.to(device) for part in self._padded([source for source, _ in pairs]))
        targets, target_mask = (part.to(device) for part in self._padded([target for _, target in pairs]))
        labels = targets.masked_fill(target_mask == 0, _IGNORED)
        with torch.inference_mode():
            logits = self._model(input_ids=sources, attention_mask=mask, labels=labels).logits.float()
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="none"
            ).view(labels.shape)
        means: list[float] = (-losses.double().sum(dim=1) / target_mask.sum(dim=1)).tolist()
        return means

    def _padded(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """Token ids and mask, both of shape [texts, tokens of the longest], padded on the right."""
        import torch

        rows = self._tokenizer(list(texts), truncation=True, max_length=self._max_length)["input_ids"]
        width = max(1, *(len(row) for row in rows))
        ids = torch.full((len(rows), width), self._tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[place, : len(row)] = 1
        return ids, mask


def _mean(values: Sequence[float]) -> float | None:
    """The mean of ``values``; None where a text had no token to judge."""
    mean = sum(values) / len(values)
    return mean if math.isfinite(mean) else None


def _shaped(means: Sequence[Mapping[str, float | None]], answers: Answers) -> Qualities:
    return [
        [None if answer is None else found[answer] for answer in row] for found, row in zip(means, answers, strict=True)
    ]


def load_bartscore(folder: str, direction: str, batch_size: int, max_length: int) -> BartScorer:
    """The scorer of the checkpoint in ``folder``, on a GPU if there is one.  Raises ``ConfigError`` as the check does.

    ``max_length`` bounds source and target in tokens, and so does the model's own window.
    """
    check_folder(folder)
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    path = Path(folder).expanduser()
    safe = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(path, **safe)
    model = AutoModelForSeq2SeqLM.from_pretrained(path, use_safetensors=True, dtype=torch.float32, **safe)
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"scorer bartscore: model: the tokenizer in {folder} has no padding token")
    window = getattr(model.config, "max_position_embeddings", None) or max_length
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    return BartScorer(model.eval().to(chosen), tokenizer, direction, batch_size, min(max_length, window))


def check_folder(folder: str) -> None:
    """Raises ``ConfigError`` unless ``folder`` holds a sequence-to-sequence checkpoint as safetensors."""
    path = Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise ConfigError(f"scorer bartscore: model = {folder!r} is no folder of a model: it has no config.json")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"scorer bartscore: model: {path / 'config.json'} is not JSON: {error}") from None
    if not isinstance(config, dict) or not config.get("is_encoder_decoder"):
        raise ConfigError(
            f"scorer bartscore: model = {folder!r} does not lead from one text to another (is_encoder_decoder in its "
            "config.json); allowed are checkpoints such as BART's"
        )
    if not any(path.glob("*.safetensors")):
        raise ConfigError(f"scorer bartscore: model = {folder!r} has no *.safetensors; no other format is read")
