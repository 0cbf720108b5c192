"""The router on torch: a text encoder with a linear head.  The only importer of torch on the hot path.

A score depends on the text alone, not on the texts around it: every batch has one of a few fixed shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.routing import GRID
from hybrid_batch.engines.router_card import ENCODER, HEAD, RouterCard, read_card

__all__ = ["Encoder", "RouterScorer", "load_encoder", "load_router", "read_card"]

_ROWS_CPU, _ROWS_GPU = 32, 128
_WIDTHS = (16, 32, 48, 64, 96, 128, 192)
"""Widths in tokens that a batch is padded to; beyond the last one it is the encoder's maximum."""


class Encoder:
    """Texts -> unit vectors, by mean pooling over the tokens."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int, device: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._device = device
        self._rows = _ROWS_CPU if device == "cpu" else _ROWS_GPU
        self.dim = int(model.config.hidden_size)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """``texts`` -> float32 array of shape ``[len(texts), dim]``, rows of length 1."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for places, ids, mask in self._batches(texts):
            vectors[places] = self._pooled(ids, mask)[: len(places)]
        return vectors

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Batches of equal shape [rows, width] by token count: (places in ``texts``, token ids, mask)."""
        if not texts:
            return
        tokens = self._tokenizer(list(texts), truncation=True, max_length=self._max_length)["input_ids"]
        lengths = np.array([len(row) for row in tokens])
        widths = np.append([width for width in _WIDTHS if width < self._max_length], self._max_length)
        needed = widths[np.searchsorted(widths, lengths)]
        for width in np.unique(needed):
            places = np.flatnonzero(needed == width)
            for start in range(0, len(places), self._rows):
                chosen = places[start : start + self._rows]
                yield chosen, *self._padded([tokens[place] for place in chosen], int(width))

    def _padded(self, rows: list[list[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
        ids = np.full((self._rows, width), self._tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros_like(ids)
        mask[:, 0] = 1  # a row without any token has no mean
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return ids, mask

    def _pooled(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            attention = torch.from_numpy(mask).to(self._device)
            tokens = torch.from_numpy(ids).to(self._device)
            states = self._model(input_ids=tokens, attention_mask=attention).last_hidden_state
            weights = attention.unsqueeze(-1).to(states.dtype)
            means = (states * weights).sum(dim=1) / weights.sum(dim=1)
            unit = torch.nn.functional.normalize(means, dim=1)
            pooled: np.ndarray = unit.float().cpu().numpy()
            return pooled


class RouterScorer:
    """A loaded router; :class:`hybrid_batch.engines.base.Scorer`."""

    def __init__(self, card: RouterCard, encoder: Encoder, weight: np.ndarray, bias: float) -> None:
        self.card = card
        self._encoder = encoder
        self._weight = weight
        self._bias = bias

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """P(small is good enough) for each text, float32 ``[len(texts)]`` in [0, 1], on a grid of one millionth."""
        logits = self._encoder.embed(texts).astype(np.float64) @ self._weight + self._bias
        return on_grid(1.0 / (1.0 + np.exp(-logits)))


def on_grid(scores: np.ndarray) -> np.ndarray:
    """Scores on the grid of one millionth, as float32."""
    return (np.round(scores * GRID) / GRID).astype(np.float32)


def load_router(folder: Path, threads: int | None = None, device: str | None = None) -> RouterScorer:
    """The router in ``folder``, its files checked against the card first.

    ``threads`` bounds torch's threads in this process; ``device`` is chosen if None (a GPU if there is one).
    Raises ``ConfigError`` for a folder that is foreign, damaged or tampered with.
    """
    card = read_card(folder)
    weight, bias = _load_head(folder / HEAD, card.dim)
    encoder = load_encoder(folder / ENCODER, card.max_length, threads, device)
    if encoder.dim != card.dim:
        raise ConfigError(f"{folder / ENCODER}: its vectors have {encoder.dim} numbers, the card says {card.dim}")
    return RouterScorer(card, encoder, weight, bias)


def load_encoder(folder: Path, max_length: int, threads: int | None = None, device: str | None = None) -> Encoder:
    """The text encoder in ``folder`` (safetensors and a tokenizer), reading at most ``max_length`` tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    safe = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
    model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **safe)
    return Encoder(model.eval().to(chosen), tokenizer, max_length, chosen)


def _load_head(path: Path, dim: int) -> tuple[np.ndarray, float]:
    """Weight as float64 ``[dim]`` and bias."""
    from safetensors.numpy import load_file

    head = load_file(path)
    shapes = {name: tensor.shape for name, tensor in head.items()}
    expected = {"weight": (1, dim), "bias": (1,)}
    if shapes != expected:
        raise ConfigError(f"{path}: tensors are {shapes}, expected {expected}")
    return head["weight"][0].astype(np.float64), float(head["bias"][0])
