"""The head of a router: from an encoder's vector to P(small is good enough).  Needs numpy only.

A head is a mixture of ``parts`` (the tasks, or the kinds of text, that its training data is made of)::

    score(x) = sum over k of softmax(gate(x))[k] * sigmoid(expert[k](x))

The gate says which part a query belongs to, the expert of a part says how the two models compare there.  With one part
this is the plain linear head of the paper (Ding et al. 2024, section 3); the mixture is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybrid_batch.core.errors import ConfigError

TENSORS = ("gate.weight", "gate.bias", "expert.weight", "expert.bias")


@dataclass(frozen=True)
class MixtureHead:
    """Weights float64 ``[parts, dim]`` and biases ``[parts]`` of gate and experts."""

    gate_weight: np.ndarray
    gate_bias: np.ndarray
    expert_weight: np.ndarray
    expert_bias: np.ndarray

    @property
    def parts(self) -> int:
        return len(self.expert_bias)

    @property
    def dim(self) -> int:
        return int(self.expert_weight.shape[1])

    def score(self, vectors: np.ndarray, known: Sequence[int | None] | None = None) -> np.ndarray:
        """Scores float64 ``[n]`` in [0, 1] of ``vectors`` ``[n, dim]``.

        ``known`` holds for each row the part it is known to belong to, or None where the gate must say.
        """
        vectors = np.asarray(vectors, dtype=np.float64)
        shares = self.gate(vectors)
        for row, part in enumerate(known or ()):
            if part is not None:
                shares[row] = np.arange(self.parts) == part
        chances = sigmoid(vectors @ self.expert_weight.T + self.expert_bias)
        result: np.ndarray = (shares * chances).sum(axis=1)
        return result

    def gate(self, vectors: np.ndarray) -> np.ndarray:
        """Chance of each part, float64 ``[n, parts]``, rows of sum 1."""
        return softmax(vectors @ self.gate_weight.T + self.gate_bias)

    def tensors(self) -> dict[str, np.ndarray]:
        """As they are saved, float32."""
        values = (self.gate_weight, self.gate_bias, self.expert_weight, self.expert_bias)
        return {
            name: np.ascontiguousarray(value, dtype=np.float32) for name, value in zip(TENSORS, values, strict=True)
        }


def linear_head(weight: np.ndarray, bias: float) -> MixtureHead:
    """The head with one part: ``sigmoid(weight @ x + bias)``."""
    weight = np.asarray(weight, dtype=np.float64).reshape(1, -1)
    return MixtureHead(np.zeros_like(weight), np.zeros(1), weight, np.array([bias], dtype=np.float64))


def save_head(path: Path, head: MixtureHead) -> None:
    """Write ``head`` as safetensors."""
    from safetensors.numpy import save_file

    save_file(head.tensors(), path)


def load_head(path: Path, dim: int) -> MixtureHead:
    """The head in ``path``.  Raises ``ConfigError`` if its tensors are not those of a head on ``dim`` numbers."""
    from safetensors.numpy import load_file

    tensors: Mapping[str, np.ndarray] = load_file(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    parts = len(tensors["expert.bias"]) if "expert.bias" in tensors else 0
    expected = {name: (parts, dim) if name.endswith("weight") else (parts,) for name in TENSORS}
    if shapes != expected or not parts:
        wanted = {name: ("parts", dim) if name.endswith("weight") else ("parts",) for name in TENSORS}
        raise ConfigError(f"{path}: tensors are {shapes}, expected {wanted}")
    values = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise ConfigError(f"{path}: holds numbers that are not finite")
    return MixtureHead(*(values[name] for name in TENSORS))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logistic function, without overflow."""
    result: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return result
