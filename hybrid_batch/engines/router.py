"""The router on torch: text encoders, each with one head or more.  The only importer of torch on the hot path.

A score depends on the text alone, not on the texts around it: every batch has one of a few fixed shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.routing import GRID
from hybrid_batch.engines.head import MixtureHead, load_head
from hybrid_batch.engines.router_card import Member, RouterCard, read_card
from hybrid_batch.engines.surface import surface_features

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

    def __init__(
        self, card: RouterCard, encoders: Mapping[str, Encoder], heads: Sequence[tuple[Member, MixtureHead]]
    ) -> None:
        self.card = card
        self._encoders = encoders
        self._heads = heads
        self._places = {name: place for place, name in enumerate(card.tasks)}

    @property
    def told(self) -> str:
        return "torch fp32"

    def prepare(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> Any:
        return texts, tasks

    def scores(self, prepared: Any) -> np.ndarray:
        return self.score(*prepared)

    def score(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> np.ndarray:
        """P(small is good enough) for each text, float32 ``[len(texts)]`` in [0, 1], on a grid of one millionth.

        ``tasks`` tells what is known of them; a task that the router was not trained with counts as unknown.
        """
        known = None if tasks is None else [self._places.get(task) if task else None for task in tasks]
        reads_surface = any(member.surface for member, _ in self._heads)
        surface = surface_features(texts) if reads_surface else None
        total = np.zeros(len(texts))
        for folder, encoder in self._encoders.items():
            vectors = encoder.embed(texts)
            for member, head in self._heads:
                if member.encoder == folder:
                    total += head.score(vectors, known if member.knows_tasks else None, surface)
        return on_grid(total / len(self._heads))


def on_grid(scores: np.ndarray) -> np.ndarray:
    """Scores on the grid of one millionth, as float32."""
    return (np.round(scores * GRID) / GRID).astype(np.float32)


def load_router(folder: Path, threads: int | None = None, device: str | None = None) -> RouterScorer:
    """The router in ``folder``, its files checked against the card first.

    ``threads`` bounds torch's threads in this process; ``device`` is chosen if None (a GPU if there is one).
    Raises ``ConfigError`` for a folder that is foreign, damaged or tampered with.
    """
    card = read_card(folder)
    heads = [(member, load_head(folder / member.head, card.dim, surface=member.surface)) for member in card.members]
    for member, head in heads:
        if member.knows_tasks and head.parts != len(card.tasks):
            raise ConfigError(f"{folder / member.head}: has {head.parts} parts, the card has {len(card.tasks)} tasks")
    encoders = {
        name: load_encoder(folder / name, card.max_length, threads, device)
        for name in dict.fromkeys(member.encoder for member in card.members)
    }
    for name, encoder in encoders.items():
        if encoder.dim != card.dim:
            raise ConfigError(f"{folder / name}: its vectors have {encoder.dim} numbers, the card says {card.dim}")
    return RouterScorer(card, encoders, heads)


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
