"""Exported forms of a router: which lie beside it, whether they are whole, whether they still say what torch says.

An export is a folder ``exports/{numbers}/`` in a router's folder::

    export.json                what it is made of, SHA-256 of its files, and the scores that it must reproduce
    {encoder}/model.onnx       the graph of each encoder; heads and tokenizers are the router's own

It is not part of the router's card, so a router keeps its identity when it is exported; ``export.json`` is bound to
the card by its fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.router_card import FileRecord, file_record

FOLDER: Final = "exports"
RECORD: Final = "export.json"
GRAPH: Final = "model.onnx"
FORMAT: Final = "hybrid-batch-export/1"
TOLERANCES: Final[Mapping[str, float]] = {"int8": 0.02, "fp32": 0.00002}
"""Numbers that a router can be exported in, the fastest first, and how far a score may lie from torch's in fp32."""


@dataclass(frozen=True)
class Export:
    """What ``export.json`` says.

    ``router`` is the fingerprint of the card, ``largest`` the largest distance to torch's scores that was found, and
    ``probes`` are texts with the score that torch gave each.
    """

    numbers: str
    router: str
    tolerance: float
    largest: float
    probes: Sequence[tuple[str, float]]
    files: Mapping[str, FileRecord]
    versions: Mapping[str, str]

    def to_json(self) -> bytes:
        """As it is written; :func:`read_export` is the inverse."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Changed:
    """The ``share`` (in [0, 1]) of ``rows`` queries whose tier changes at ``threshold``, which ``what`` needs."""

    what: str
    threshold: float
    share: float
    rows: int


@dataclass(frozen=True)
class Agreement:
    """How the scores of ``rows`` queries differ from torch's.

    ``speed`` is queries per second against torch's on this machine, None where too few were scored to tell.
    """

    rows: int
    mean: float
    largest: float
    speed: float | None
    changed: tuple[Changed, ...]


def read_export(content: bytes, where: str) -> Export:
    """The record in ``content``.  Raises ``ConfigError`` naming ``where`` if it is none of this version."""
    try:
        document: dict[str, Any] = json.loads(content)
        found = document.pop("format", None)
        if found != FORMAT:
            raise ConfigError(f"{where}: format is {found!r}, expected {FORMAT!r}; export the router again")
        document["files"] = {name: FileRecord(**record) for name, record in document["files"].items()}
        document["probes"] = [(str(text), float(score)) for text, score in document["probes"]]
        export = Export(**document)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigError(f"{where}: is damaged ({error}); export the router again") from error
    if export.numbers not in TOLERANCES:
        raise ConfigError(f"{where}: numbers is {export.numbers!r}, allowed are {', '.join(TOLERANCES)}")
    return export


def not_exported(router: str, numbers: str) -> str:
    """What to tell whoever asks for an export of the router at ``router`` that is not there."""
    return f"router {router}: is not exported as {numbers}; run: hybrid-batch export {router} --numbers {numbers}"


def load_export(router: Path, numbers: str, fingerprint: str) -> Export:
    """The record of the export of the router in folder ``router``, its files checked (size and SHA-256).

    Raises ``ConfigError`` if there is none, if it was made of another card, or if a file was changed.
    """
    folder = router / FOLDER / numbers
    if not (folder / RECORD).is_file():
        raise ConfigError(not_exported(str(router), numbers))
    export = read_export((folder / RECORD).read_bytes(), str(folder / RECORD))
    if export.router != fingerprint:
        raise ConfigError(f"{folder}: was made of another version of this router; export it again")
    for name, expected in export.files.items():
        path = folder / name
        if not path.is_file() or file_record(path) != expected:
            raise ConfigError(f"{path}: is missing or was changed; export the router again")
    return export


def require_agreement(export: Export, score: Callable[[Sequence[str]], np.ndarray], where: str) -> None:
    """Raise ``ConfigError`` if ``score``, here and now, is further from torch's scores than the tolerance."""
    found = np.asarray(score([text for text, _ in export.probes]), dtype=np.float64)
    distances = np.abs(found - [expected for _, expected in export.probes])
    worst = int(np.argmax(distances))
    if not distances[worst] <= export.tolerance:
        text, expected = export.probes[worst]
        raise ConfigError(
            f"{where}: scores differ from torch's by up to {distances[worst]:.6f}, allowed are {export.tolerance}: "
            f"{found[worst]:.6f} instead of {expected:.6f} for {text[:40]!r}; export the router again on this kind of "
            "processor, or set router.backend: torch"
        )
