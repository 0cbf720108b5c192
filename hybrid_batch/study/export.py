"""Give a router a faster form, and prove that it still scores as torch does."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from hybrid_batch.calibrations import Record, stored
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.progress import Observer
from hybrid_batch.engines.base import Backend
from hybrid_batch.engines.exports import FOLDER, GRAPH, RECORD, TOLERANCES, Agreement, Export
from hybrid_batch.engines.router_card import file_record
from hybrid_batch.labelset import LabelSet, read_labels
from hybrid_batch.routers import export_of, router_card
from hybrid_batch.storage import join, normalise, open_store
from hybrid_batch.storage.folders import local_copy
from hybrid_batch.study.agreement import compare
from hybrid_batch.study.probes import PROBES
from hybrid_batch.study.subject import require

if TYPE_CHECKING:
    from hybrid_batch.engines.router import RouterScorer

MOST_CHANGED: Final = 0.005
JUDGED_ROWS: Final = 1000
"""Queries from which on the share that changes is told from chance."""


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
    if not force and export_of(router, numbers, card) is not None:
        raise ConfigError(
            f"the router is exported as {numbers} already; --force exports it again, and then a run that began with "
            "the export that is there cannot be resumed"
        )
    calibrated = [record for record in stored(router) if record.router == card.fingerprint]
    if labels is None and calibrated:
        raise ConfigError(
            "this router is calibrated: give --labels, so that the tiers at its thresholds can be compared"
        )
    queries = None if labels is None else read_labels(labels)
    with tempfile.TemporaryDirectory(prefix="hybrid-batch-export-") as temporary:
        folder = local_copy(router, Path(temporary) / "router")
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        work = folder / FOLDER / numbers
        record, agreement = _made(folder, work, numbers, queries, calibrated, observer)
        require_agreement_of(record, agreement)
        record = replace(record, largest=agreement.largest)
        (work / RECORD).write_bytes(record.to_json())
        place, size = _publish(work, join(normalise(router), FOLDER, numbers))
    return Exported(place, record, size, agreement, time.monotonic() - began)


def _made(
    folder: Path, work: Path, numbers: str, queries: LabelSet | None, calibrated: Sequence[Record], observer: Observer
) -> tuple[Export, Agreement]:
    """Export the router in ``folder`` to ``work``, and compare it with torch."""
    from hybrid_batch.engines.router import load_router

    torch = load_router(folder, "torch-fp32", device="cpu", remember=0)
    record = _written(torch, folder, work, numbers, observer)
    texts, tasks = (PROBES, [None] * len(PROBES)) if queries is None else (queries.prompts, queries.tasks)
    observer.note(f"comparing the scores of {len(texts):,} texts with torch's")
    exported = load_router(folder, cast("Backend", f"onnx-{numbers}"), remember=0)
    return record, compare(torch, exported, texts, tasks, calibrated)


def _written(torch: RouterScorer, folder: Path, work: Path, numbers: str, observer: Observer) -> Export:
    """Write graphs and record to ``work`` -> the record."""
    from hybrid_batch.engines.onnx_export import PACKAGES, export_graph

    for name in torch.encoders:
        observer.note(f"exporting {name} as {numbers}")
        export_graph(folder / name, work / name / GRAPH, numbers)
    graphs = sorted(path for path in work.rglob("*") if path.is_file())
    record = Export(
        numbers=numbers,
        router=torch.card.fingerprint,
        tolerance=TOLERANCES[numbers],
        largest=0.0,
        probes=list(zip(PROBES, torch.score(PROBES).astype(float).tolist(), strict=True)),
        files={path.relative_to(work).as_posix(): file_record(path) for path in graphs},
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )
    (work / RECORD).write_bytes(record.to_json())
    return record


def require_agreement_of(record: Export, agreement: Agreement) -> None:
    """Raise ``ConfigError`` if scores or tiers differ by more than is allowed; see :func:`export`."""
    if agreement.largest > record.tolerance:
        raise ConfigError(
            f"{record.numbers}: a score differs from torch's by {agreement.largest:.6f}, allowed are "
            f"{record.tolerance}; nothing was written"
        )
    judged = [one for one in agreement.changed if one.rows >= JUDGED_ROWS and one.share > MOST_CHANGED]
    if worst := max(judged, key=lambda one: one.share, default=None):
        raise ConfigError(
            f"{worst.share:.2%} of {worst.rows:,} queries change their tier at the threshold {worst.threshold:.6f} "
            f"({worst.what}), allowed are {MOST_CHANGED:.1%}; nothing was written"
        )


def _publish(work: Path, place: str) -> tuple[str, int]:
    """Every file of ``work`` below ``place``, the record last: without it there is no export."""
    store, size = open_store(place), 0
    store.delete(join(place, RECORD))
    for path in sorted((path for path in work.rglob("*") if path.is_file()), key=lambda path: path.name == RECORD):
        store.put(join(place, path.relative_to(work).as_posix()), path.read_bytes())
        size += path.stat().st_size
    return place, size
