"""The router: text encoders, each with one head or more, on torch or ONNX Runtime.

A score depends on the text alone, not on the texts around it, and a text that comes twice is read once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import numpy as np

from hybrid_batch.core.errors import ConfigError, EngineError
from hybrid_batch.core.routing import GRID
from hybrid_batch.engines.base import Backend
from hybrid_batch.engines.encoder import Encoder, Prepared
from hybrid_batch.engines.exports import FOLDER, GRAPH, load_export, require_agreement
from hybrid_batch.engines.head import MixtureHead, load_head
from hybrid_batch.engines.memory import REMEMBERED, ScoreMemory
from hybrid_batch.engines.router_card import Member, RouterCard, read_card
from hybrid_batch.engines.surface import surface_features
from hybrid_batch.engines.tokens import Tokens, Truncation
from hybrid_batch.engines.torch_network import Numbers, load_torch_network

_NUMBERS: Final[Mapping[str, Numbers | None]] = {"torch": None, "torch-fp32": "fp32", "torch-bf16": "bf16"}


@dataclass(frozen=True)
class PreparedQueries:
    """n texts, ready to be scored.

    Some must be read, each once: ``keys``, ``known`` parts, ``surface`` and ``encoded`` batches are theirs.
    ``places`` (int ``[n]``) says where each text's score stands in theirs followed by ``remembered`` (float64).
    """

    places: np.ndarray
    keys: Sequence[bytes]
    known: Sequence[int | None] | None
    remembered: np.ndarray
    surface: np.ndarray | None
    encoded: Mapping[str, Prepared]


class RouterScorer:
    """A loaded router; :class:`hybrid_batch.engines.base.Scorer`."""

    def __init__(
        self,
        card: RouterCard,
        encoders: Mapping[str, Encoder],
        heads: Sequence[tuple[Member, MixtureHead]],
        remember: int = REMEMBERED,
    ) -> None:
        self.card = card
        self.encoders = encoders
        self.heads = heads
        self._places = {name: place for place, name in enumerate(card.tasks)} if card.reads_tasks else {}
        self._memory = ScoreMemory(remember)
        self.remark = ""

    @property
    def device(self) -> str:
        """Where it computes: ``cpu``, or as torch names it."""
        return next(iter(self.encoders.values())).device

    @property
    def told(self) -> str:
        """What computes the scores: ``torch fp32 on cpu``; with the ``remark`` of whoever loaded it."""
        told = next(iter(self.encoders.values())).told
        return f"{told} ({self.remark})" if self.remark else told

    def prepare(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> PreparedQueries:
        """Find what must be read, and make batches of it; see :class:`PreparedQueries`.

        ``tasks`` has the task of each text; a task that the router was not trained with counts as unknown.
        """
        known = None if tasks is None else [self._places.get(task) if task else None for task in tasks]
        keys = self._memory.keys(texts, known)
        seen: dict[bytes, int] = {}
        fresh: list[int] = []
        remembered: list[float] = []
        for place, key in enumerate(keys):
            if key in seen:
                continue
            if (score := self._memory.get(key)) is not None:
                remembered.append(score)
                seen[key] = -len(remembered)
            else:
                seen[key] = len(fresh)
                fresh.append(place)
        new = [texts[place] for place in fresh]
        reads_surface = any(member.surface for member, _ in self.heads)
        places = np.fromiter((seen[key] for key in keys), dtype=np.int64, count=len(keys))
        return PreparedQueries(
            places=np.where(places < 0, len(fresh) - places - 1, places),
            keys=[keys[place] for place in fresh],
            known=None if known is None else [known[place] for place in fresh],
            remembered=np.array(remembered),
            surface=surface_features(new) if reads_surface else None,
            encoded={folder: encoder.prepare(new) for folder, encoder in self.encoders.items()},
        )

    def scores(self, prepared: PreparedQueries) -> np.ndarray:
        """P(small is good enough) for each text, float32 ``[n]`` in [0, 1], on a grid of one millionth.

        Raises ``EngineError`` if the encoder overflowed: such queries would otherwise go to the large model, unnoticed.
        """
        total = np.zeros(len(prepared.keys))
        for folder, encoder in self.encoders.items() if prepared.keys else ():
            vectors = encoder.vectors(prepared.encoded[folder])
            for member, head in self.heads:
                if member.encoder == folder:
                    total += head.score(vectors, prepared.known if member.knows_tasks else None, prepared.surface)
        fresh = total / len(self.heads)
        if not np.isfinite(fresh).all():
            raise EngineError(f"the router ({self.told}) gave no number for {np.sum(~np.isfinite(fresh)):,} queries")
        self._memory.put(prepared.keys, fresh.tolist())
        return on_grid(np.concatenate([fresh, prepared.remembered])[prepared.places])

    def score(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> np.ndarray:
        """:meth:`prepare` and :meth:`scores` in one."""
        return self.scores(self.prepare(texts, tasks))


def on_grid(scores: np.ndarray) -> np.ndarray:
    """Scores on the grid of one millionth, as float32."""
    return (np.round(scores * GRID) / GRID).astype(np.float32)


def load_router(
    folder: Path,
    backend: Backend = "torch",
    *,
    threads: int | None = None,
    device: str | None = None,
    remember: int = REMEMBERED,
) -> RouterScorer:
    """The router in ``folder``, its files checked against the card first, and an export against torch's scores.

    ``threads`` bounds the CPU threads of this process; ``device`` is for torch, a GPU if there is one where it is None;
    ``remember`` is how many scores are kept for queries that come again.
    Raises ``ConfigError`` for a folder that is foreign, damaged or tampered with, for an export that is missing or
    disagrees, and for ``auto``, which whoever knows the machine must have replaced.
    """
    if backend == "auto" or backend not in get_args(Backend):
        raise ConfigError(f"backend is {backend!r}, allowed are {', '.join(get_args(Backend)[1:])}")
    card = read_card(folder)
    heads = _heads(folder, card)
    names = dict.fromkeys(member.encoder for member in card.members)
    exported = backend.removeprefix("onnx-") if backend.startswith("onnx-") else None
    export = None if exported is None else load_export(folder, exported, card.fingerprint)
    encoders = {
        name: load_encoder(folder / name, card.max_length, threads, device, _NUMBERS[backend], card.truncation)
        if export is None
        else _exported_encoder(folder, name, card, export.numbers, threads)
        for name in names
    }
    for name, encoder in encoders.items():
        if encoder.dim != card.dim:
            raise ConfigError(f"{folder / name}: its vectors have {encoder.dim} numbers, the card says {card.dim}")
    if export is not None:
        require_agreement(export, RouterScorer(card, encoders, heads, 0).score, str(folder / FOLDER / export.numbers))
    return RouterScorer(card, encoders, heads, remember)


def load_encoder(
    folder: Path,
    max_length: int,
    threads: int | None = None,
    device: str | None = None,
    numbers: Numbers | None = None,
    truncation: Truncation = "head",
) -> Encoder:
    """The text encoder in ``folder`` (safetensors and a tokenizer) on torch, reading at most ``max_length`` tokens."""
    return Encoder(load_torch_network(folder, threads, device, numbers), Tokens(folder, max_length, truncation))


def _exported_encoder(folder: Path, name: str, card: RouterCard, numbers: str, threads: int | None) -> Encoder:
    from hybrid_batch.engines.onnx_network import OnnxNetwork

    pad = json.loads((folder / name / "config.json").read_text(encoding="utf-8")).get("pad_token_id") or 0
    network = OnnxNetwork(folder / FOLDER / numbers / name / GRAPH, numbers, int(pad), threads)
    return Encoder(network, Tokens(folder / name, card.max_length, card.truncation))


def _heads(folder: Path, card: RouterCard) -> list[tuple[Member, MixtureHead]]:
    heads = [(member, load_head(folder / member.head, card.dim, surface=member.surface)) for member in card.members]
    for member, head in heads:
        if member.knows_tasks and head.parts != len(card.tasks):
            raise ConfigError(f"{folder / member.head}: has {head.parts} parts, the card has {len(card.tasks)} tasks")
    return heads
