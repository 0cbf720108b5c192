"""Real routing data that lies beside the project, never in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "HYBRID_BATCH_TEST_DATA"
_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


def shared_data(name: str) -> Path:
    """The file or folder ``name`` of the data; skips the test where there is none, and says where it was looked for."""
    path = Path(os.environ.get(VARIABLE, _BESIDE)) / name
    if not path.exists():
        pytest.skip(f"no {path}; set {VARIABLE} to the folder that holds {name}")
    return path
