"""A trained router as a folder: heads, encoder, and a card that says how it was made and how good it is."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.head import save_head
from hybrid_batch.engines.router_card import CARD, ENCODER, ENCODER_FILES, FORMAT, file_record, read_card
from hybrid_batch.storage import is_remote, join, normalise, open_store
from hybrid_batch.training.fit import TASKS, Fitted

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "added_tokens.json")


def check_encoder(folder: Path) -> None:
    """Raise ``ConfigError`` if ``folder`` lacks a file that an encoder needs."""
    for name in ENCODER_FILES:
        if not (folder / name).is_file():
            raise ConfigError(
                f"encoder.model: {folder} has no {name}; needed are {', '.join(ENCODER_FILES)}: a text encoder saved "
                "with safetensors and its fast tokenizer"
            )


def check_free(output: str, *, force: bool) -> None:
    """Raise ``ConfigError`` if another router lies at ``output`` and ``force`` is not given."""
    place = normalise(output)
    if not force and open_store(place).stat(join(place, CARD)) is not None:
        raise ConfigError(f"router.output: {place} holds a router already; name another folder, or give --force")


def write_router(output: str, encoder: Path, fitted: Fitted, card: Mapping[str, Any]) -> str:
    """Write the artefact to ``output`` (local or ``s3://``), its card last -> the fingerprint of the card.

    ``card`` holds what this function cannot know; members, tasks and files are added here.
    """
    work = Path(tempfile.mkdtemp(prefix="hybrid-batch-router-"))
    try:
        _assemble(work, encoder, fitted, card)
        fingerprint = read_card(work).fingerprint
        _publish(work, normalise(output))
        return fingerprint
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _assemble(work: Path, encoder: Path, fitted: Fitted, card: Mapping[str, Any]) -> None:
    (work / ENCODER).mkdir()
    for name in (*ENCODER_FILES, *_TOKENIZER_FILES):
        if (encoder / name).is_file():
            shutil.copyfile(encoder / name, work / ENCODER / name)
    members = []
    for number, member in enumerate(fitted.members):
        name = f"members/{number}/head.safetensors"
        (work / name).parent.mkdir(parents=True)
        save_head(work / name, member.head)
        members.append({"head": name, "encoder": ENCODER, "parts": member.parts, "strength": asdict(member.strength)})
    files = sorted(path for path in work.rglob("*") if path.is_file())
    document = {
        "format": FORMAT,
        **card,
        "members": members,
        "tasks": list(fitted.tasks) if any(member.parts == TASKS for member in fitted.members) else None,
        "files": {path.relative_to(work).as_posix(): asdict(file_record(path)) for path in files},
    }
    (work / CARD).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _publish(work: Path, place: str) -> None:
    """Every file of ``work``, the card last: without a card there is no router."""
    store = open_store(place)
    store.delete(join(place, CARD))
    if not is_remote(place):
        for old in ("members", ENCODER):
            shutil.rmtree(Path(place) / old, ignore_errors=True)
    files = sorted((path for path in work.rglob("*") if path.is_file()), key=lambda path: path.name == CARD)
    for path in files:
        store.put(join(place, path.relative_to(work).as_posix()), path.read_bytes())
