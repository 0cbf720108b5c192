"""``evaluate``: how good a router is on labelled queries, beside random order, an oracle and each model alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from hybrid_batch.core import metrics
from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.core.labels import LABEL_KINDS, TRANS, Qualities, make_labels, trans_labels
from hybrid_batch.core.metrics import Evaluation, Interval
from hybrid_batch.engines.router_card import RouterCard
from hybrid_batch.parquet import to_parquet
from hybrid_batch.reports.curves import CurvePicture, curve_png
from hybrid_batch.storage import join, normalise, open_store
from hybrid_batch.study.subject import Subject
from hybrid_batch.tables import EVALUATION

ALL: Final = "all"
FEWEST: Final = 10
"""A task with fewer rows than this gets no figures of its own; nothing is evaluated on fewer."""
TABLE: Final = "evaluation.parquet"
PICTURE: Final = "curve.png"

_BAND_RESAMPLES: Final = 200
_SHARES: Final = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Study:
    """What was found: over all rows under ``"all"``, then for each task with at least :data:`FEWEST` rows.

    ``left_out`` counts the tasks with fewer.
    """

    subject: Subject
    label_kind: str
    sections: Mapping[str, Evaluation]
    left_out: int = 0

    @property
    def whole(self) -> Evaluation:
        return self.sections[ALL]


def evaluate(
    subject: Subject, kind: str | None = None, resamples: int = 1000, seed: int = 0, by_task: bool = True
) -> Study:
    """All figures of ``subject``, with intervals from ``resamples`` bootstrap samples.

    ``kind`` is the label that AUC, Brier and ECE are measured against, by default what the router was trained for.
    Raises ``InputError`` for fewer than :data:`FEWEST` rows.
    """
    if len(subject) < FEWEST:
        raise InputError(f"{subject.labels.source}: {len(subject)} rows; an evaluation needs at least {FEWEST}")
    kind = kind or subject.card.label_kind
    parts = {ALL: subject}
    tasks = subject.by_task() if by_task else {}
    if len(tasks) > 1:
        parts |= {name: part for name, part in tasks.items() if len(part) >= FEWEST}
    sections = {name: _figures(part, kind, resamples, seed) for name, part in parts.items()}
    return Study(subject, kind, sections, len(tasks) + 1 - len(sections) if len(tasks) > 1 else 0)


def targets(q: Qualities, kind: str, card: RouterCard) -> np.ndarray:
    """Labels of ``kind``, float64 ``[n]`` in [0, 1].  A trans router's own t* counts, not that of these rows."""
    if kind not in LABEL_KINDS:
        raise ConfigError(f"--label-kind is {kind!r}, allowed are {', '.join(LABEL_KINDS)}")
    t_star = card.document.get("t_star")
    if isinstance(t_star, Mapping):
        t_star = t_star.get("t")
    if kind == TRANS and isinstance(t_star, (int, float)):
        return trans_labels(q, float(t_star))
    return make_labels(kind, q)[0]


def save(study: Study, folder: str) -> dict[str, str]:
    """Write table and picture below ``folder`` (local or ``s3://``), replacing older ones -> what lies where."""
    folder = normalise(folder)
    store, places = open_store(folder), {"Table": join(folder, TABLE), "Picture": join(folder, PICTURE)}
    store.put(places["Table"], to_parquet(table(study)))
    store.put(places["Picture"], curve_png(picture(study)))
    return places


def default_folder(study: Study) -> str:
    """``out/evaluations/<router>-<labels>``: another router or other labels never replace a picture."""
    return f"out/evaluations/{study.subject.card.name}-{study.subject.labels.fingerprint[:8]}"


def table(study: Study) -> pa.Table:
    """The figures in long form, one row for each scope, method and metric."""
    rows = [
        {"scope": scope, "rows": found.rows, "method": method, "metric": metric, **_cells(figure)}
        for scope, found in study.sections.items()
        for method, metric, figure in _long(found)
    ]
    return pa.Table.from_pylist(rows, schema=EVALUATION)


def picture(study: Study) -> CurvePicture:
    """What the picture shows of all rows."""
    subject, found = study.subject, study.whole
    router = metrics.cost_curve(subject.scores, subject.labels.qualities)
    oracle = metrics.oracle_curve(subject.labels.qualities)
    low, high = _band(subject)
    apgr = "" if np.isnan(found.apgr.value) else f"APGR {found.apgr.value:.3f} (random 0.500) · "
    small, large = _names(subject.card)
    return CurvePicture(
        title=f"Router {subject.card.name}",
        subtitle=f"{found.rows:,} queries · {apgr}band: 95 % interval of the distance to all-large",
        small=small,
        large=large,
        share=_SHARES,
        router=np.interp(_SHARES, router.share, router.quality),
        low=low,
        high=high,
        oracle=np.interp(_SHARES, oracle.share, oracle.quality),
        drops={share: drop.value for share, drop in found.drop.items()},
    )


def _figures(subject: Subject, kind: str, resamples: int, seed: int) -> Evaluation:
    labels = targets(subject.labels.qualities, kind, subject.card)
    return metrics.evaluate(subject.scores, subject.labels.qualities, labels, resamples=resamples, seed=seed)


def _long(found: Evaluation) -> Iterator[tuple[str, str, Interval | float]]:
    for method, drops in (("router", found.drop), ("random", found.random_drop), ("oracle", found.oracle_drop)):
        for share, drop in drops.items():
            yield method, f"drop_{round(100 * share)}", drop
    yield "all small", "mean_quality", found.mean_small
    yield "all large", "mean_quality", found.mean_large
    yield "random", "apgr", 0.5
    for name in ("apgr", "cpt50", "cpt80", "auc", "brier", "ece"):
        yield "router", name, getattr(found, name)


def _cells(figure: Interval | float) -> dict[str, float | None]:
    if isinstance(figure, Interval):
        return {"value": _known(figure.value), "low": _known(figure.low), "high": _known(figure.high)}
    return {"value": _known(figure), "low": None, "high": None}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _band(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """95 % of resampled curves, as distances from their start, around the mean quality of the large model."""
    random = np.random.default_rng(0)
    q, curves = subject.labels.qualities, []
    for _ in range(_BAND_RESAMPLES):
        rows = random.integers(0, len(subject), len(subject))
        curve = metrics.cost_curve(subject.scores[rows], q.take(rows))
        curves.append(np.interp(_SHARES, curve.share, curve.quality - curve.quality[0]))
    low, high = np.percentile(curves, [2.5, 97.5], axis=0) + float(q.mean_large.mean())
    return low, high


def _names(card: RouterCard) -> tuple[str, str]:
    """Names of both models where the card tells them."""
    pair = card.document.get("pair")
    pair = pair if isinstance(pair, Mapping) else {}
    return tuple(_short(pair.get(tier), tier) for tier in ("small", "large"))  # type: ignore[return-value]


def _short(name: object, tier: str) -> str:
    found = name.rstrip("/").rpartition("/")[2] if isinstance(name, str) else ""
    return found if found and found != "none" else f"the {tier} model"
