"""What a router artefact says of itself, and whether its files are the ones it speaks of.  Needs no torch.

An artefact of the format ``hybrid-batch-router/1`` is a folder::

    router.json          the card: format, training, honest metrics, SHA-256 and size of every other file
    head.safetensors     weight [1, dim] and bias [1] of a linear head
    encoder/             config.json, model.safetensors and tokenizer files of the text encoder
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hybrid_batch.core.errors import ConfigError

FORMAT = "hybrid-batch-router/1"
CARD, HEAD, ENCODER = "router.json", "head.safetensors", "encoder"
NEEDED = (HEAD, f"{ENCODER}/config.json", f"{ENCODER}/model.safetensors", f"{ENCODER}/tokenizer.json")
_SUFFIXES = (".json", ".safetensors", ".txt")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (lower-case hex) of one file of an artefact."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class RouterCard:
    """A valid card.  ``document`` is all of router.json; ``fingerprint`` (SHA-256) names the whole artefact,

    because the card holds the hash of every other file.  ``dim`` is the encoder's width, ``max_length`` the number
    of tokens it reads of a query.
    """

    name: str
    label_kind: str
    dim: int
    max_length: int
    files: Mapping[str, FileRecord]
    document: Mapping[str, Any]
    fingerprint: str


def read_card(source: bytes | str | Path) -> RouterCard:
    """The card in ``source``: the bytes of a router.json, or an artefact folder on this machine.

    Of a folder every file is checked too (size and SHA-256).  Raises ``ConfigError`` naming the file or field,
    what was expected and what was found.
    """
    if isinstance(source, bytes):
        return _parse(source, CARD)
    folder = Path(source)
    try:
        content = (folder / CARD).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"router {folder}: no {CARD} there; expected a folder in format {FORMAT}") from error
    card = _parse(content, str(folder / CARD))
    _check_files(folder, card)
    return card


def file_record(path: Path) -> FileRecord:
    """Size and SHA-256 of the file at ``path``."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileRecord(digest, path.stat().st_size)


def _parse(content: bytes, where: str) -> RouterCard:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON ({error})") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise ConfigError(f"{where}: format is {found!r}, expected {FORMAT!r}")
    _require(document, where, "encoder.pooling", "mean")
    _require(document, where, "encoder.normalize", True)
    _require(document, where, "head.kind", "linear")
    return RouterCard(
        name=_typed(document, where, "name", str),
        label_kind=_typed(document, where, "label_kind", str),
        dim=_positive(document, where, "encoder.dim"),
        max_length=_positive(document, where, "encoder.max_length"),
        files=_files(document, where),
        document=document,
        fingerprint=hashlib.sha256(content).hexdigest(),
    )


def _files(document: dict[str, Any], where: str) -> dict[str, FileRecord]:
    listed = _typed(document, where, "files", dict)
    missing = [name for name in NEEDED if name not in listed]
    if missing:
        raise ConfigError(f"{where}: files lacks {', '.join(missing)}; needed are {', '.join(NEEDED)}")
    return {name: _file(name, record, where) for name, record in listed.items()}


def _file(name: str, record: Any, where: str) -> FileRecord:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ConfigError(f"{where}: files names {name!r}; allowed are paths inside the folder")
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"{where}: files names {name!r}; allowed endings are {', '.join(_SUFFIXES)}")
    sha256, size = (record.get("sha256"), record.get("bytes")) if isinstance(record, dict) else (None, None)
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256) or not isinstance(size, int):
        raise ConfigError(f"{where}: files[{name!r}] is {record!r}, expected sha256 (64 hex digits) and bytes")
    return FileRecord(sha256, size)


def _check_files(folder: Path, card: RouterCard) -> None:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    strange = sorted(present - set(card.files) - {CARD})
    if strange:
        raise ConfigError(f"router {folder}: {strange[0]} is not listed in {CARD}; remove it")
    for name, expected in card.files.items():
        if name not in present:
            raise ConfigError(f"router {folder}: {name} is missing, expected {expected.bytes} bytes")
        found = file_record(folder / name)
        if found != expected:
            raise ConfigError(f"router {folder}: {name} was changed: expected {expected}, found {found}")


def _value(document: dict[str, Any], dotted: str) -> Any:
    value: Any = document
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _require(document: dict[str, Any], where: str, dotted: str, allowed: object) -> None:
    found = _value(document, dotted)
    if found != allowed:
        raise ConfigError(f"{where}: {dotted} is {found!r}, allowed is {allowed!r}")


def _typed(document: dict[str, Any], where: str, dotted: str, kind: type) -> Any:
    found = _value(document, dotted)
    if not isinstance(found, kind):
        raise ConfigError(f"{where}: {dotted} is {found!r}, expected a {kind.__name__}")
    return found


def _positive(document: dict[str, Any], where: str, dotted: str) -> int:
    found = _value(document, dotted)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ConfigError(f"{where}: {dotted} is {found!r}, expected a whole number of at least 1")
    return found
