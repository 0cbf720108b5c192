"""Write the resolved form of every file in conf/: ``python -m tests.golden.update``, then read the difference."""

from __future__ import annotations

import json
from pathlib import Path

from hybrid_batch.config import load_config
from hybrid_batch.config.labelling import load_label_config
from hybrid_batch.config.training import load_train_config

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
ENVIRONMENT = {
    "HYBRID_BATCH_BUCKET": "the-bucket",
    "HYBRID_BATCH_CACHE": "/the/cache",
    "HYBRID_BATCH_INPUT": "s3://the-bucket/queries/",
    "HYBRID_BATCH_OUTPUT": "s3://the-bucket/answers",
    "HYBRID_BATCH_ROUTER": "s3://the-bucket/router",
}
DATE = "run.date=2026-11-23"


def conf_files() -> list[Path]:
    """Every configuration that the project ships."""
    return sorted((ROOT / "conf").glob("*.yaml"))


def resolved(file: Path) -> str:
    """``file`` with every default and variable filled in, as text that a person can compare."""
    if file.stem.endswith("-train"):
        trained = load_train_config(file, [], ENVIRONMENT).model_dump(mode="json")
        return json.dumps(trained, indent=2, ensure_ascii=False) + "\n"
    load = load_label_config if file.stem.endswith("-label") else load_config
    config = load(file, [DATE], ENVIRONMENT)
    return json.dumps(config.redacted(), indent=2, ensure_ascii=False) + "\n"


def golden(file: Path) -> Path:
    """Where the resolved form of ``file`` is kept."""
    return FOLDER / f"{file.stem}.json"


if __name__ == "__main__":
    for conf in conf_files():
        golden(conf).write_text(resolved(conf), encoding="utf-8")
