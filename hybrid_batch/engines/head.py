"""The head of a router: from an encoder's vector to P(small is good enough).  Needs numpy only.

A head is a mixture of ``parts`` (the tasks, or the kinds of text, that its training data is made of)::

    score(x) = sum over k of softmax(gate(x))[k] * sigmoid(expert[k](x))

The gate says which part a query belongs to, the expert of a part says how the two models compare there.  With one part
this is the plain linear head of the paper (Ding et al. 2024, section 3); the mixture is ours.

x is the encoder's vector; a head with a ``scale`` reads the numbers of :mod:`hybrid_batch.engines.surface` behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.surface import WIDTH, SurfaceScale

TENSORS = ("gate.weight", "gate.bias", "expert.weight", "expert.bias")
SCALE_TENSORS = ("surface.mean", "surface.scale")


@dataclass(frozen=True)
class MixtureHead:
    """Weights float64 ``[parts, width]`` and biases ``[parts]`` of gate and experts.

    ``width`` is the encoder's ``dim``, and :data:`~hybrid_batch.engines.surface.WIDTH` more where there is a ``scale``.
    """

    gate_weight: np.ndarray
    gate_bias: np.ndarray
    expert_weight: np.ndarray
    expert_bias: np.ndarray
    scale: SurfaceScale | None = field(default=None, kw_only=True)

    @property
    def parts(self) -> int:
        return len(self.expert_bias)

    @property
    def dim(self) -> int:
        return int(self.expert_weight.shape[1]) - (WIDTH if self.scale else 0)

    def score(
        self, vectors: np.ndarray, known: Sequence[int | None] | None = None, surface: np.ndarray | None = None
    ) -> np.ndarray:
        """Scores float64 ``[n]`` in [0, 1] of ``vectors`` ``[n, dim]``.

        ``known`` holds for each row the part it is known to belong to, or None where the gate must say.  ``surface``
        ``[n, WIDTH]`` are the numbers of the same texts; a head without a ``scale`` does not look at them.
        Raises ``ValueError`` if a head with a ``scale`` gets none.
        """
        inputs = self._inputs(vectors, surface)
        shares = softmax(inputs @ self.gate_weight.T + self.gate_bias)
        for row, part in enumerate(known or ()):
            if part is not None:
                shares[row] = np.arange(self.parts) == part
        chances = sigmoid(inputs @ self.expert_weight.T + self.expert_bias)
        result: np.ndarray = (shares * chances).sum(axis=1)
        return result

    def gate(self, vectors: np.ndarray, surface: np.ndarray | None = None) -> np.ndarray:
        """Chance of each part, float64 ``[n, parts]``, rows of sum 1; arguments as for :meth:`score`."""
        return softmax(self._inputs(vectors, surface) @ self.gate_weight.T + self.gate_bias)

    def tensors(self) -> dict[str, np.ndarray]:
        """As they are saved, float32."""
        values = dict(
            zip(TENSORS, (self.gate_weight, self.gate_bias, self.expert_weight, self.expert_bias), strict=True)
        )
        if self.scale is not None:
            values |= dict(zip(SCALE_TENSORS, (self.scale.mean, self.scale.scale), strict=True))
        return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in values.items()}

    def _inputs(self, vectors: np.ndarray, surface: np.ndarray | None) -> np.ndarray:
        vectors = np.asarray(vectors, dtype=np.float64)
        if self.scale is None:
            return vectors
        if surface is None:
            raise ValueError("this head reads the surface of the texts: give the numbers of surface_features too")
        return np.concatenate([vectors, self.scale.apply(surface)], axis=1)


def save_head(path: Path, head: MixtureHead) -> None:
    """Write ``head`` as safetensors."""
    from safetensors.numpy import save_file

    save_file(head.tensors(), path)


def load_head(path: Path, dim: int, *, surface: bool = False) -> MixtureHead:
    """The head in ``path`` on vectors of ``dim`` numbers, with those of the ``surface`` behind them where that is said.

    Raises ``ConfigError`` if its tensors are not those of such a head.
    """
    from safetensors.numpy import load_file

    tensors: Mapping[str, np.ndarray] = load_file(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    parts = len(tensors["expert.bias"]) if "expert.bias" in tensors else 0
    if shapes != _shapes(parts, dim, surface) or not parts:
        raise ConfigError(f"{path}: tensors are {shapes}, expected {_shapes('parts', dim, surface)}")
    values = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise ConfigError(f"{path}: holds numbers that are not finite")
    scale = SurfaceScale(*(values[name] for name in SCALE_TENSORS)) if surface else None
    return MixtureHead(*(values[name] for name in TENSORS), scale=scale)


def _shapes(parts: int | str, dim: int, surface: bool) -> dict[str, tuple[int | str, ...]]:
    width = dim + (WIDTH if surface else 0)
    shapes: dict[str, tuple[int | str, ...]] = {
        name: (parts, width) if name.endswith("weight") else (parts,) for name in TENSORS
    }
    return shapes | (dict.fromkeys(SCALE_TENSORS, (WIDTH,)) if surface else {})


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logistic function, without overflow."""
    result: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return result
