"""The demo's models in the user's cache, ready to load.  ``python -m hybrid_batch.demo.models`` ensures all.

A model folder appears under its name only when it is complete; a killed fetch leaves nothing half-done.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from hybrid_batch.core.errors import ConfigError, EngineError
from hybrid_batch.demo.catalogue import CATALOGUE, DemoModel
from hybrid_batch.demo.fetch import fetch

Say = Callable[[str], None]
RECIPE = 1
"""Number of the way models are made.  A cached folder made another way is made again."""


def cache_dir(cache: Path | None = None) -> Path:
    """``cache``, or ``$HYBRID_BATCH_CACHE``, or ``~/.cache/hybrid-batch``."""
    return Path(cache or os.environ.get("HYBRID_BATCH_CACHE") or "~/.cache/hybrid-batch").expanduser().absolute()


def ensure_model(name: str, cache: Path | None = None, say: Say = print) -> Path:
    """Folder of the demo model ``name``, fetched and converted first where the cache lacks it.

    Raises ``ConfigError`` for a name outside the catalogue, ``StorageError`` if its bytes cannot be had,
    ``EngineError`` if they cannot be converted.
    """
    model = _lookup(name)
    folder = cache_dir(cache) / "models" / name
    if _is_current(model, folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{name}.lock"):
        if not _is_current(model, folder):
            _make(model, folder, say)
    return folder


def ensure_all(cache: Path | None = None, say: Say = print) -> dict[str, Path]:
    """All models of the catalogue: name -> folder."""
    return {name: ensure_model(name, cache, say) for name in CATALOGUE}


def _lookup(name: str) -> DemoModel:
    if name not in CATALOGUE:
        raise ConfigError(f"demo model {name!r} is unknown; allowed: {', '.join(sorted(CATALOGUE))}")
    return CATALOGUE[name]


def _source_sha256(model: DemoModel) -> dict[str, str]:
    return {file.filename: file.sha256 for file in model.files}


def _is_current(model: DemoModel, folder: Path) -> bool:
    try:
        card = json.loads((folder / "model.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return bool(card.get("recipe") == RECIPE and card.get("source_sha256") == _source_sha256(model))


def _make(model: DemoModel, folder: Path, say: Say) -> None:
    """Build beside the final place, then rename.  The caller holds the model's lock."""
    for leftover in folder.parent.glob(f".{model.name}.partial-*"):
        shutil.rmtree(leftover)
    work = Path(tempfile.mkdtemp(prefix=f".{model.name}.partial-", dir=folder.parent))
    try:
        source = fetch(model, work / "source", say)
        versions = _convert(model, work, say) if model.kind == "gguf" else _adopt(model, work)
        card = {"name": model.name, "recipe": RECIPE, "source": source, "licence": model.licence}
        card |= {"source_sha256": _source_sha256(model), "versions": versions}
        (work / "made" / "model.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        (work / "made").rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _adopt(model: DemoModel, work: Path) -> dict[str, str]:
    (work / "made").mkdir()
    for file in model.files:
        (work / "source" / file.filename).rename(work / "made" / file.filename)
    return {}


def _convert(model: DemoModel, work: Path, say: Say) -> dict[str, str]:
    began = time.monotonic()
    gguf = work / "source" / model.files[0].filename
    command = [sys.executable, "-m", "hybrid_batch.demo.convert", str(gguf), str(work / "made")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        env=_convert_environment(),
    )
    if done.returncode != 0:
        raise EngineError(f"{model.name}: conversion failed (exit {done.returncode}):\n{done.stderr[-4000:]}")
    say(f"{model.name}: converted to safetensors, bfloat16 ({time.monotonic() - began:.1f} s)")
    versions: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {name: str(version) for name, version in versions.items()}


def _convert_environment() -> dict[str, str]:
    """The child finds this very package, asks no hub, and draws no bars."""
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


def main() -> None:
    """Ensure all models and print where they are."""
    for name, folder in ensure_all().items():
        print(f"{name}: {folder}")


if __name__ == "__main__":
    main()
