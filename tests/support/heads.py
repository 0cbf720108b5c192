"""Heads that are written down, not fitted."""

from __future__ import annotations

import numpy as np

from hybrid_batch.engines.head import MixtureHead


def linear_head(weight: np.ndarray, bias: float) -> MixtureHead:
    """The head with one part, that of the paper: ``sigmoid(weight @ x + bias)``."""
    weight = np.asarray(weight, dtype=np.float64).reshape(1, -1)
    return MixtureHead(np.zeros_like(weight), np.zeros(1), weight, np.array([bias], dtype=np.float64))
