"""Give a router a faster form, and prove that it still scores as torch does."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from hybrid_batch.calibrations import stored
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.progress import Observer
from hybrid_batch.core.routing import GRID, to_micros
from hybrid_batch.engines.base import Backend
from hybrid_batch.engines.exports import FOLDER, GRAPH, RECORD, TOLERANCES, Agreement, Changed, Export
from hybrid_batch.engines.router_card import file_record
from hybrid_batch.labelset import read_labels
from hybrid_batch.routers import AUTO, router_card, router_recipe
from hybrid_batch.storage import is_remote, join, normalise, open_store
from hybrid_batch.storage.folders import local_copy
from hybrid_batch.study.probes import PROBES
from hybrid_batch.study.subject import require

if TYPE_CHECKING:
    from hybrid_batch.engines.router import RouterScorer

SHARES: Final = (0.2, 0.4, 0.6)
"""Shares to small for whose thresholds the tiers are compared."""

MOST_CHANGED: Final = 0.005
JUDGED_ROWS: Final = 1000
"""Queries from which on the share that changes is told from chance."""

TIMED_ROWS: Final = 100
"""Queries from which on a comparison of speed says something."""


@dataclass(frozen=True)
class Exported:
    """What was written where, in ``bytes``; ``agreement`` on the probes, or on the queries that were given."""

    place: str
    export: Export
    bytes: int
    agreement: Agreement
    seconds: float


def export(
    router: str, numbers: str, observer: Observer, labels: str | None = None, *, force: bool = False
) -> Exported:
    """Export the router at ``router`` (a folder or an ``s3://`` URL) in ``numbers``, beside it.

    Its scores are compared with torch's on built-in texts, or on the prompts of the table ``labels``, which a router
    with calibrations must have.  Nothing is written, and ``ConfigError`` is raised, if scores differ by more than
    :data:`~hybrid_batch.engines.exports.TOLERANCES` allows, if more than :data:`MOST_CHANGED` of at least
    :data:`JUDGED_ROWS` queries change their tier, if there is such an export and ``force`` is not given, and where a
    package is missing.
    """
    began = time.monotonic()
    if numbers not in TOLERANCES:
        raise ConfigError(f"numbers is {numbers!r}, allowed are {', '.join(TOLERANCES)}")
    require("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
    card = router_card(router, "ROUTER")
    _require_free(router, numbers, force)
    if labels is None and any(record.router == card.fingerprint for record in stored(router)):
        raise ConfigError(
            "this router is calibrated: give --labels, so that the tiers at its thresholds can be compared"
        )
    texts = PROBES if labels is None else read_labels(labels).prompts
    with tempfile.TemporaryDirectory(prefix="hybrid-batch-export-") as temporary:
        folder = _copied(router, Path(temporary) / "router")
        work = folder / FOLDER / numbers
        record = _made(folder, work, numbers, card.fingerprint, observer)
        observer.note(f"comparing the scores of {len(texts):,} texts with torch's")
        agreement = _compared(folder, record, texts, router)
        if agreement.largest > record.tolerance:
            raise ConfigError(
                f"{numbers}: a score differs from torch's by {agreement.largest:.6f}, allowed are {record.tolerance}; "
                "nothing was written"
            )
        require_few_changed(agreement)
        record = replace(record, largest=agreement.largest)
        (work / RECORD).write_bytes(record.to_json())
        place, size = _publish(work, join(normalise(router), FOLDER, numbers))
    return Exported(place, record, size, agreement, time.monotonic() - began)


def _require_free(router: str, numbers: str, force: bool) -> None:
    recipe = router_recipe(router, AUTO, named="ROUTER", numbers=(numbers,))
    if recipe.export is not None and not force:
        raise ConfigError(
            f"the router is exported as {numbers} already; --force exports it again, and then a run that began with "
            "the export that is there cannot be resumed"
        )


def require_few_changed(agreement: Agreement) -> None:
    """Raise ``ConfigError`` if more than :data:`MOST_CHANGED` of at least :data:`JUDGED_ROWS` queries change tier."""
    worst = max(agreement.changed, key=lambda one: one.share)
    if agreement.rows >= JUDGED_ROWS and worst.share > MOST_CHANGED:
        raise ConfigError(
            f"{worst.share:.2%} of {agreement.rows:,} queries change their tier at the threshold {worst.threshold:.6f} "
            f"({worst.what}), allowed are {MOST_CHANGED:.1%}; nothing was written"
        )


def _copied(router: str, folder: Path) -> Path:
    """The router's own files in ``folder``."""
    place = normalise(router)
    if is_remote(place):
        local_copy(place, folder)
    else:
        shutil.copytree(place, folder)
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return folder


def _made(folder: Path, work: Path, numbers: str, fingerprint: str, observer: Observer) -> Export:
    """Write graphs and record to ``work`` -> the record."""
    from hybrid_batch.engines.onnx_export import PACKAGES, export_graph
    from hybrid_batch.engines.router import load_router

    scorer = load_router(folder, "torch-fp32", device="cpu")
    for name in dict.fromkeys(member.encoder for member in scorer.card.members):
        observer.note(f"exporting {name} as {numbers}")
        export_graph(folder / name, work / name / GRAPH, numbers)
    graphs = sorted(path for path in work.rglob("*") if path.is_file())
    record = Export(
        numbers=numbers,
        router=fingerprint,
        tolerance=TOLERANCES[numbers],
        largest=0.0,
        probes=list(zip(PROBES, scorer.score(PROBES).astype(float).tolist(), strict=True)),
        files={path.relative_to(work).as_posix(): file_record(path) for path in graphs},
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )
    (work / RECORD).write_bytes(record.to_json())
    return record


def _compared(folder: Path, record: Export, texts: Sequence[str], router: str) -> Agreement:
    from hybrid_batch.engines.router import load_router

    backend = cast("Backend", f"onnx-{record.numbers}")
    torch_scores, torch_seconds = _timed(load_router(folder, "torch-fp32", device="cpu", remember=0), texts)
    scores, seconds = _timed(load_router(folder, backend, remember=0), texts)
    distances = np.abs(scores - torch_scores)
    thresholds = _thresholds(torch_scores, router, record.router)
    changed = tuple(
        Changed(what, threshold, float(np.mean((scores >= threshold) != (torch_scores >= threshold))))
        for what, threshold in thresholds.items()
    )
    speed = torch_seconds / seconds if len(texts) >= TIMED_ROWS else None
    return Agreement(len(texts), float(distances.mean()), float(distances.max()), speed, changed)


def _timed(scorer: RouterScorer, texts: Sequence[str]) -> tuple[np.ndarray, float]:
    scorer.score(texts[:8])
    began = time.perf_counter()
    scores = scorer.score(texts)
    return to_micros(scores) / GRID, time.perf_counter() - began


def _thresholds(scores: np.ndarray, router: str, fingerprint: str) -> Mapping[str, float]:
    """Those of the calibrations beside the router, and those that send :data:`SHARES` of these texts to small."""
    kept = {
        " ".join(f"{name} {value}" for name, value in record.goal.items()): record.overall.threshold
        for record in stored(router)
        if record.router == fingerprint and record.by is None and record.overall.kept
    }
    shares = {f"small_share {share}": float(np.quantile(scores, 1 - share)) for share in SHARES}
    return {**kept, **shares}


def _publish(work: Path, place: str) -> tuple[str, int]:
    """Every file of ``work`` below ``place``, the record last: without it there is no export."""
    store, size = open_store(place), 0
    store.delete(join(place, RECORD))
    for path in sorted((path for path in work.rglob("*") if path.is_file()), key=lambda path: path.name == RECORD):
        store.put(join(place, path.relative_to(work).as_posix()), path.read_bytes())
        size += path.stat().st_size
    return place, size
