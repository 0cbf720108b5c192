"""What is trained when an encoder is fine-tuned: encoder, pooling, gate, experts, and helpers that are dropped later.

Loads torch; :mod:`hybrid_batch.training.finetune` imports it when a training begins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.nn import functional

from hybrid_batch.engines.head import MixtureHead
from hybrid_batch.engines.surface import WIDTH, SurfaceScale

if TYPE_CHECKING:
    from hybrid_batch.training.finetune import FineTune

SCALE: Final = 16.0
"""What unit vectors are multiplied by at first (it is learnt): weights stay of the size that optimisers expect."""

_DROPOUTS: Final = ("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "attention_dropout")
_LAYER: Final = re.compile(r"(?:^|\.)(?:layer|layers|h|block)\.(\d+)\.")
_PLAIN: Final = re.compile(r"bias$|norm", re.IGNORECASE)


class RouterNetwork(torch.nn.Module):
    """Token ids -> logits of gate and experts ``[n, parts]``, and of both models' qualities ``[n, 2]``."""

    def __init__(
        self, encoder: Any, parts: int, head: MixtureHead | None = None, surface: SurfaceScale | None = None
    ) -> None:
        super().__init__()
        dim = int(encoder.config.hidden_size) + (WIDTH if surface else 0)
        self.surface = surface
        self.encoder = encoder
        self.gate = torch.nn.Linear(dim, parts)
        self.expert = torch.nn.Linear(dim, parts)
        self.quality = torch.nn.Linear(dim, 2)
        self.log_scale = torch.nn.Parameter(torch.tensor(math.log(SCALE)))
        for layer in (self.gate, self.expert, self.quality):
            torch.nn.init.normal_(layer.weight, std=0.02)
            torch.nn.init.zeros_(layer.bias)
        if head is not None:
            self._begin_with(head)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, surface: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """``ids`` and ``mask`` ``[n, width]``; ``surface`` scaled numbers ``[n, WIDTH]``, if heads read them."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        # Pooled as engines.router.Encoder pools, in full precision whatever the encoder computes in.
        weights = mask.unsqueeze(-1).float()
        means = (states.float() * weights).sum(dim=1) / weights.sum(dim=1)
        unit = functional.normalize(means, dim=1)
        vectors = (unit if surface is None else torch.cat([unit, surface], dim=1)) * self.log_scale.exp()
        with torch.autocast(vectors.device.type, enabled=False):
            return self.gate(vectors), self.expert(vectors), self.quality(vectors)

    def head(self) -> MixtureHead:
        """Gate and experts for unit vectors: the scale is folded into the weights."""
        scale = math.exp(float(self.log_scale.detach()))
        gate, expert = self.gate, self.expert
        return MixtureHead(
            _plain(gate.weight) * scale,
            _plain(gate.bias),
            _plain(expert.weight) * scale,
            _plain(expert.bias),
            scale=self.surface,
        )

    def _begin_with(self, head: MixtureHead) -> None:
        with torch.no_grad():
            self.gate.weight.copy_(torch.from_numpy(head.gate_weight / SCALE))
            self.gate.bias.copy_(torch.from_numpy(head.gate_bias))
            self.expert.weight.copy_(torch.from_numpy(head.expert_weight / SCALE))
            self.expert.bias.copy_(torch.from_numpy(head.expert_bias))


def log_scores(gate: torch.Tensor, expert: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logarithms of the mixture's score and of one minus it, ``[n]`` each, from logits ``[n, parts]``."""
    shares = functional.log_softmax(gate, dim=1)
    yes = torch.logsumexp(shares + functional.logsigmoid(expert), dim=1)
    no = torch.logsumexp(shares + functional.logsigmoid(-expert), dim=1)
    return yes, no


def score_loss(gate: torch.Tensor, expert: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the mixture's score against ``targets`` ``[n]`` in [0, 1], for each row."""
    yes, no = log_scores(gate, expert)
    return -(targets * yes + (1 - targets) * no)


def load_trainable(folder: Path, dropout: float, checkpointing: bool) -> Any:
    """The encoder in ``folder`` (safetensors, no code of its own) with ``dropout`` everywhere it has any."""
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    safe = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **safe)
    for name in _DROPOUTS:
        if isinstance(getattr(config, name, None), float | int):
            setattr(config, name, dropout)
    model = AutoModel.from_pretrained(folder, config=config, use_safetensors=True, dtype=torch.float32, **safe)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def save_encoder(model: Any, source: Path, folder: Path) -> None:
    """Write ``model``, which came from the folder ``source``, to ``folder`` as one file of weights.

    The dropout of a training is not part of what it made: that of ``source`` is put back.
    """
    from transformers import AutoConfig

    before = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    for name in _DROPOUTS:
        if hasattr(before, name):
            setattr(model.config, name, getattr(before, name))
    model.save_pretrained(folder, max_shard_size="1TB")


def depth_of(name: str, layers: int) -> int:
    """Place of an encoder's parameter: 0 for embeddings, 1 to ``layers`` for its layers, ``layers`` for the rest."""
    found = _LAYER.search(name)
    if found:
        return int(found[1]) + 1
    return 0 if "embedding" in name else layers


def freeze_below(network: RouterNetwork, frozen_layers: int) -> None:
    """Keep the embeddings and the first ``frozen_layers`` layers as they are; 0 freezes nothing."""
    layers = int(network.encoder.config.num_hidden_layers)
    for name, parameter in network.encoder.named_parameters():
        if frozen_layers and depth_of(name, layers) <= frozen_layers and not _is_relative(name):
            parameter.requires_grad_(False)


def parameter_groups(network: RouterNetwork, options: FineTune) -> list[dict[str, Any]]:
    """Groups for AdamW: no decay on biases, norms and the scale; lower layers learn ``layer_decay`` times slower."""
    layers = int(network.encoder.config.num_hidden_layers)
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in _trainable(network):
        rate = options.head_rate
        if name.startswith("encoder."):
            rate = options.learning_rate * options.layer_decay ** (layers - depth_of(name, layers))
        decay = 0.0 if _PLAIN.search(name) or name == "log_scale" else options.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]


def _trainable(network: RouterNetwork) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, one) for name, one in network.named_parameters() if one.requires_grad)


def _is_relative(name: str) -> bool:
    """DeBERTa's table of relative positions serves every layer, the upper ones too."""
    return "rel_embeddings" in name


def _plain(tensor: torch.Tensor) -> np.ndarray:
    values: np.ndarray = tensor.detach().double().cpu().numpy()
    return values
