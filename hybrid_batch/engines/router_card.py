"""What a router artefact says of itself, and whether its files are the ones it speaks of.  Needs no torch.

An artefact of the format ``hybrid-batch-router/1`` is a folder::

    router.json          the card: format, training, honest metrics, SHA-256 and size of every other file
    head.safetensors     gate and experts of a head (see :mod:`hybrid_batch.engines.head`); one for each member
    encoder/             config.json, model.safetensors and tokenizer files of a text encoder; members may share one

The card's ``members`` say which head sits on which encoder, and whether it reads the surface of a text too; the score
is the mean of theirs.  ``calibrations.json`` and ``exports/``, which come later, may lie beside them.
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
from hybrid_batch.engines.surface import VERSION as SURFACE
from hybrid_batch.engines.tokens import TRUNCATIONS, Truncation

FORMAT = "hybrid-batch-router/1"
CARD, HEAD, ENCODER = "router.json", "head.safetensors", "encoder"
ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json")
ADDED_LATER = ("calibrations.json", "exports/")
"""What may lie in the folder without being listed: it is bound to the card by the card's fingerprint."""
_SUFFIXES = (".json", ".safetensors", ".txt")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (lower-case hex) of one file of an artefact."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Member:
    """One of the routers whose scores are averaged: its head file and encoder folder, relative to the artefact.

    ``knows_tasks`` says whether the parts of its head are the card's tasks, ``surface`` whether it reads the numbers of
    :mod:`hybrid_batch.engines.surface` behind the encoder's vector.
    """

    head: str
    encoder: str
    knows_tasks: bool
    surface: bool = False


@dataclass(frozen=True)
class RouterCard:
    """A valid card.

    ``document`` is all of router.json; ``fingerprint`` (SHA-256) names the whole artefact, because the card holds the
    hash of every other file.  ``dim`` is the encoders' width, ``max_length`` the number of tokens they read of a query,
    and ``truncation`` says which ones of a longer query.  ``models_per_gpu`` workers may use one GPU at once.
    ``tasks`` are the tasks it was trained with, empty where there were none.
    """

    name: str
    label_kind: str
    dim: int
    max_length: int
    truncation: Truncation
    models_per_gpu: int
    members: tuple[Member, ...]
    tasks: tuple[str, ...]
    files: Mapping[str, FileRecord]
    document: Mapping[str, Any]
    fingerprint: str

    @property
    def reads_tasks(self) -> bool:
        """Whether the router can make use of the task of a query."""
        return any(member.knows_tasks for member in self.members)


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
    files = _files(document, where)
    return RouterCard(
        name=_typed(document, where, "name", str),
        label_kind=_typed(document, where, "label_kind", str),
        dim=_positive(document, where, "encoder.dim"),
        max_length=_positive(document, where, "encoder.max_length"),
        truncation=_truncation(document, where),
        models_per_gpu=_positive(document, where, "encoder.models_per_gpu", 1),
        members=_members(document, where, files),
        tasks=_tasks(document, where),
        files=files,
        document=document,
        fingerprint=hashlib.sha256(content).hexdigest(),
    )


def _files(document: dict[str, Any], where: str) -> dict[str, FileRecord]:
    listed = _typed(document, where, "files", dict)
    return {name: _file(name, record, where) for name, record in listed.items()}


def _members(document: dict[str, Any], where: str, files: Mapping[str, FileRecord]) -> tuple[Member, ...]:
    listed = _typed(document, where, "members", list)
    if not listed:
        raise ConfigError(f"{where}: members is empty, expected at least one")
    return tuple(_member(value, f"{where}: members[{number}]", files) for number, value in enumerate(listed))


def _member(value: Any, where: str, files: Mapping[str, FileRecord]) -> Member:
    given = value if isinstance(value, dict) else {}
    head, encoder = given.get("head"), given.get("encoder")
    if not isinstance(head, str) or not isinstance(encoder, str):
        raise ConfigError(f"{where} is {value!r}, expected head (a file) and encoder (a folder)")
    needed = [head, *(f"{encoder}/{name}" for name in ENCODER_FILES)]
    if missing := [name for name in needed if name not in files]:
        raise ConfigError(f"{where}: files lacks {', '.join(missing)}; needed are {', '.join(needed)}")
    # Numbers that were made another way mean something else, so their version is part of the format.
    if (surface := given.get("surface")) not in (None, SURFACE):
        raise ConfigError(f"{where}: surface is {surface!r}, allowed is none or {SURFACE!r}, the one of this version")
    return Member(head, encoder, given.get("parts") == "tasks", surface is not None)


def _tasks(document: dict[str, Any], where: str) -> tuple[str, ...]:
    found = document.get("tasks") or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"{where}: tasks is {found!r}, expected a list of names")
    return tuple(found)


def _truncation(document: dict[str, Any], where: str) -> Truncation:
    found = _value(document, "encoder.truncation") or "head"
    if found not in TRUNCATIONS:
        raise ConfigError(f"{where}: encoder.truncation is {found!r}, allowed are {', '.join(TRUNCATIONS)}")
    truncation: Truncation = found
    return truncation


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
    strange = sorted(name for name in present - set(card.files) - {CARD} if not name.startswith(ADDED_LATER))
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


def _positive(document: dict[str, Any], where: str, dotted: str, default: int | None = None) -> int:
    found = default if (value := _value(document, dotted)) is None else value
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ConfigError(f"{where}: {dotted} is {found!r}, expected a whole number of at least 1")
    return found
