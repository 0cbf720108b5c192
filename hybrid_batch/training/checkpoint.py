"""Where an interrupted fine-tuning goes on: weights and optimizer as safetensors, the rest as JSON.

::

    checkpoint.json               written last and atomically: step, history, best, hashes of both files below
    state-STEP.safetensors        weights that are trained, and the optimizer's tensors
    best-STEP.safetensors         the weights of the best evaluation so far
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.router_card import file_record

FILE: Final = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """What lies on disk.  ``fields`` are plain values, ``tensors`` by name; ``best`` is None before an evaluation."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, Any]
    best: Mapping[str, Any] | None


def save_checkpoint(folder: Path, fingerprint: str, found: Checkpoint) -> None:
    """Replace the checkpoint in ``folder``; whoever is killed in the middle leaves the old one."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    step = int(found.fields["step"])
    names = {"state": f"state-{step}.safetensors"}
    save_file(_owned(found.tensors), folder / names["state"])
    if found.best is not None:
        names["best"] = f"best-{int(found.fields['best_step'])}.safetensors"
        if not _is_kept(folder, names["best"]):
            save_file(_owned(found.best), folder / names["best"])
    records = {name: asdict(file_record(folder / name)) for name in names.values()}
    _replace(
        folder / FILE, {"fingerprint": fingerprint, "fields": dict(found.fields), "names": names, "files": records}
    )
    for old in folder.glob("*.safetensors"):
        if old.name not in records and old.name.startswith(("state-", "best-")):
            old.unlink()


def load_checkpoint(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint in ``folder``; None if there is none, if it is of another training, or if it is damaged."""
    document = _document(folder)
    if document is None or document.get("fingerprint") != fingerprint:
        return None
    for name, record in document["files"].items():
        if not (folder / name).is_file() or asdict(file_record(folder / name)) != record:
            return None
    from safetensors.torch import load_file

    names = document["names"]
    best = load_file(folder / names["best"]) if "best" in names else None
    return Checkpoint(document["fields"], load_file(folder / names["state"]), best)


def clear(folder: Path) -> None:
    """Remove a checkpoint that is not continued."""
    for old in (folder / FILE, *folder.glob("state-*.safetensors"), *folder.glob("best-*.safetensors")):
        old.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace ``path`` by ``value`` as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, value)


def read_json(path: Path) -> Mapping[str, Any] | None:
    """The object in ``path``, None if there is no file or it holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _document(folder: Path) -> Mapping[str, Any] | None:
    found = read_json(folder / FILE)
    return found if found is not None and {"fingerprint", "fields", "names", "files"} <= set(found) else None


def _is_kept(folder: Path, name: str) -> bool:
    """Whether the checkpoint on disk speaks of ``name``: the best weights are written once."""
    found = _document(folder)
    return found is not None and name in found["files"] and (folder / name).is_file()


def _owned(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _replace(path: Path, value: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(value), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error}; training keeps its checkpoints there") from error
