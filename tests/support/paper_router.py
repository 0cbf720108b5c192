"""A router that is valid on paper: a true card over files that hold no model.  Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path

from hybrid_batch.engines.router_card import CARD, FORMAT, file_record

NEEDED = ("head.safetensors", "encoder/config.json", "encoder/model.safetensors", "encoder/tokenizer.json")
MEMBERS = [{"head": "head.safetensors", "encoder": "encoder"}]


def make_paper_router(folder: Path) -> Path:
    """Write the artefact to ``folder`` -> ``folder``."""
    for name in NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    records = {name: file_record(folder / name) for name in NEEDED}
    card = {
        "format": FORMAT,
        "name": "paper",
        "label_kind": "det",
        "encoder": {"pooling": "mean", "normalize": True, "max_length": 128, "dim": 32},
        "members": MEMBERS,
        "files": {name: {"sha256": record.sha256, "bytes": record.bytes} for name, record in records.items()},
    }
    (folder / CARD).write_text(json.dumps(card))
    return folder
