"""What the card of a trained router says: how it was made, how good it is, from what."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from importlib.metadata import distributions, version
from typing import Any

import numpy as np

from hybrid_batch.core.labels import Qualities, TStar
from hybrid_batch.core.metrics import apgr, auc, brier, cost_curve, drop_pct
from hybrid_batch.core.routing import ScoreHistogram, to_micros
from hybrid_batch.engines.tokens import Truncation

_SHAPING = {"numpy", "scipy", "safetensors", "torch", "transformers"}
"""Libraries whose version may change the weights."""


def base(name: str, kind: str, t_star: TStar | None, pair: Mapping[str, str] | None) -> dict[str, Any]:
    """What is known before anything is trained."""
    return {
        "name": name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "label_kind": kind,
        "t_star": None if t_star is None else _t_star(t_star),
        "pair": dict(pair or {}),
    }


def encoder_entry(
    source: str, max_length: int, truncation: Truncation, models_per_gpu: int, dim: int
) -> dict[str, Any]:
    """How a scorer has to use the encoders."""
    return {
        "source": source,
        "pooling": "mean",
        "normalize": True,
        "max_length": max_length,
        "truncation": truncation,
        "models_per_gpu": models_per_gpu,
        "dim": dim,
    }


def alone(scores: np.ndarray, q: Qualities, targets: np.ndarray) -> dict[str, Any]:
    """The figures of one member on the validation rows, without intervals."""
    curve = cost_curve(scores, q)
    figures = {
        "apgr": apgr(curve),
        "drop": {share: drop_pct(curve, share) for share in (0.1, 0.2, 0.4)},
        "auc": auc(scores, targets),
        "brier": brier(scores, targets),
    }
    told: dict[str, Any] = plain(figures)
    return told


def curve_entry(scores: np.ndarray, q: Qualities) -> list[list[float]]:
    """Drop in percent at each of 51 shares of small."""
    curve = cost_curve(scores, q)
    return [[share, round(drop_pct(curve, share), 4)] for share in np.linspace(0, 1, 51).round(2).tolist()]


def histogram_entry(scores: np.ndarray) -> list[int]:
    """How the scores of all rows lie."""
    micros, rows = np.unique(to_micros(scores), return_counts=True)
    counts: list[int] = ScoreHistogram(micros, rows.astype(np.int64)).coarse().rows.tolist()
    return counts


def versions() -> dict[str, str]:
    """Python, and the libraries that shape the weights."""
    found = {name: version(name) for name in sorted(_SHAPING & {one.name for one in distributions()})}
    return {"python": platform.python_version(), **found}


def plain(value: Any) -> Any:
    """JSON values: keys as text, floats to six digits, NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    return value


def _t_star(found: TStar) -> dict[str, Any]:
    return {"t": found.t, "candidates": found.candidates.tolist(), "spread": found.spread.round(6).tolist()}
