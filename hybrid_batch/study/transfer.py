"""``transfer-check``: may a router that was trained on one pair of models serve another?  (Paper, section 4.7.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hybrid_batch.core import metrics
from hybrid_batch.core.errors import InputError
from hybrid_batch.core.metrics import Evaluation
from hybrid_batch.core.progress import Observer
from hybrid_batch.core.transfer import (
    FEW,
    RECALIBRATE,
    RETRAIN,
    Correlation,
    Findings,
    correlation,
    gain,
    gain_interval,
    verdict,
)
from hybrid_batch.labelset import LabelSet
from hybrid_batch.study.evaluate import targets
from hybrid_batch.study.subject import Subject, scored, trained_on

BY_PROMPT: Final = "prompt"
BY_ID: Final = "query_id"


@dataclass(frozen=True)
class TransferReport:
    """The verdict with all that it hangs on.

    ``evaluation`` is the router on the new pair.  ``joined`` tells by what queries of both label sets were matched
    (None without the old labels).
    """

    verdict: str
    reason: str
    found: Findings
    evaluation: Evaluation
    joined: str | None


def transfer_check(
    subject: Subject, old: LabelSet | None, observer: Observer, resamples: int = 1000, seed: int = 0
) -> TransferReport:
    """Judge ``subject``, whose labels are those of the new pair; ``old`` are labels of the pair it was trained on.

    What the router gained on the old pair is measured only where ``old`` are not the rows that trained it.
    Raises ``InputError`` for fewer than :data:`FEW` new rows, or old ones that share no query with them.
    """
    if len(subject) < FEW:
        raise InputError(f"{subject.labels.source}: {len(subject)} rows; a comparison needs at least {FEW}")
    q = subject.labels.qualities
    labels = targets(q, subject.card.label_kind, subject.card)
    gaps, joined = (None, None) if old is None else _gaps(old, subject.labels)
    found = Findings(
        gain=gain_interval(subject.scores, q.gap, seed=seed),
        scores=correlation(subject.scores, q.gap),
        bias=float(subject.scores.mean() - labels.mean()),
        gaps=gaps,
        gain_before=_gain_before(subject, old, observer),
    )
    evaluation = metrics.evaluate(subject.scores, q, labels, resamples=resamples, seed=seed)
    return TransferReport(*verdict(found), found, evaluation, joined)


def _gain_before(subject: Subject, old: LabelSet | None, observer: Observer) -> float | None:
    """The router's gain on the pair it was made for; on the very rows that trained it, it would be too good to use."""
    if old is None or old.fingerprint == trained_on(subject.card) or len(old) < FEW:
        return None
    return gain(scored(subject.url, subject.card, old, observer, subject.with_tasks), old.qualities.gap)


def _gaps(old: LabelSet, new: LabelSet) -> tuple[Correlation, str]:
    """Correlation of both pairs' gaps on the queries that both label sets hold, and by what these were matched.

    The prompt decides, since it is all that a router reads; ids only where no prompt is in both (other templates).
    """
    for joined, left, right in ((BY_PROMPT, old.prompts, new.prompts), (BY_ID, old.query_ids, new.query_ids)):
        places = {key: place for place, key in reversed(list(enumerate(left)))}
        common = [(places[key], place) for place, key in enumerate(right) if key in places]
        if common:
            there, here = np.array(common).T
            return correlation(old.qualities.gap[there], new.qualities.gap[here]), joined
    raise InputError(f"{old.source} and {new.source} have no query in common, neither by prompt nor by query_id")


def advice(kind: str, router: str, labels: str) -> str:
    """What to do next, after a verdict of ``kind``."""
    calibrate = f"hybrid-batch calibrate {router} {labels} --max-drop 1.0"
    if kind == RETRAIN:
        return f"Next: train a router for the new pair, hybrid-batch train with labels.path: {labels}"
    if kind == RECALIBRATE:
        return f"Thresholds of the old pair do not hold. Next: {calibrate}"
    return f"Thresholds and shares may stay. A promise is made for one pair, so for a promise: {calibrate}"
