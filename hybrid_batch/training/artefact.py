"""A trained router as a folder: heads, encoders, and a card that says how it was made and how good it is."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.exports import FOLDER as EXPORTS
from hybrid_batch.engines.head import MixtureHead, save_head
from hybrid_batch.engines.router_card import CARD, ENCODER, ENCODER_FILES, FORMAT, file_record, read_card
from hybrid_batch.engines.surface import VERSION as SURFACE
from hybrid_batch.storage import is_remote, join, normalise, open_store
from hybrid_batch.training.fit import TASKS

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "added_tokens.json")


@dataclass(frozen=True)
class RouterMember:
    """One head on the encoder in a folder of this machine.

    ``parts`` says what the parts of the head are; ``told`` is what the card says of this member beside that.
    """

    parts: str
    head: MixtureHead
    encoder: Path
    told: Mapping[str, Any]


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


def write_router(output: str, members: Sequence[RouterMember], tasks: Sequence[str], card: Mapping[str, Any]) -> str:
    """Write the artefact to ``output`` (local or ``s3://``), its card last -> the fingerprint of the card.

    ``tasks`` are the parts of heads of tasks.  ``card`` holds what this function cannot know; members, tasks and files
    are added here.
    """
    work = Path(tempfile.mkdtemp(prefix="hybrid-batch-router-"))
    try:
        _assemble(work, members, tasks, card)
        fingerprint = read_card(work).fingerprint
        _publish(work, normalise(output))
        return fingerprint
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _assemble(work: Path, members: Sequence[RouterMember], tasks: Sequence[str], card: Mapping[str, Any]) -> None:
    encoders = {
        source: ENCODER if not number else f"{ENCODER}-{number}"
        for number, source in enumerate(dict.fromkeys(member.encoder for member in members))
    }
    for source, name in encoders.items():
        _copy_encoder(source, work / name)
    listed = []
    for number, member in enumerate(members):
        head = f"members/{number}/head.safetensors"
        (work / head).parent.mkdir(parents=True)
        save_head(work / head, member.head)
        surface = {"surface": SURFACE} if member.head.scale is not None else {}
        listed.append(
            {"head": head, "encoder": encoders[member.encoder], "parts": member.parts, **surface, **member.told}
        )
    files = sorted(path for path in work.rglob("*") if path.is_file())
    document = {
        "format": FORMAT,
        **card,
        "members": listed,
        "tasks": list(tasks) if any(member.parts == TASKS for member in members) else None,
        "files": {path.relative_to(work).as_posix(): asdict(file_record(path)) for path in files},
    }
    (work / CARD).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _copy_encoder(source: Path, folder: Path) -> None:
    folder.mkdir()
    for name in (*ENCODER_FILES, *_TOKENIZER_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _publish(work: Path, place: str) -> None:
    """Every file of ``work``, the card last: without a card there is no router."""
    store = open_store(place)
    store.delete(join(place, CARD))
    ours = (f"{place}/members/", f"{place}/{ENCODER}/", f"{place}/{ENCODER}-", f"{place}/{EXPORTS}/")
    for old in store.list(place):
        if old.url.startswith(ours):
            store.delete(old.url)
    if not is_remote(place):
        for folder in (Path(place) / "members", Path(place) / EXPORTS, *Path(place).glob(f"{ENCODER}*")):
            shutil.rmtree(folder, ignore_errors=True)
    files = sorted((path for path in work.rglob("*") if path.is_file()), key=lambda path: path.name == CARD)
    for path in files:
        store.put(join(place, path.relative_to(work).as_posix()), path.read_bytes())
