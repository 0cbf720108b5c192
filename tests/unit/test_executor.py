"""What executors leave on a machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hybrid_batch.spark.executor import LEFTOVER_SECONDS, sweep


def test_only_old_homes_of_ended_executors_are_removed(tmp_path: Path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    old, young, alive = (tmp_path / f"executor-{pid}-{n}" for n, pid in enumerate([ended.pid, ended.pid, os.getpid()]))
    for home in (old, young, alive):
        home.mkdir()
        (home / "state.json").write_text("{}")
    for home in (old, alive):
        past = home.stat().st_mtime - LEFTOVER_SECONDS - 60
        os.utime(home, (past, past))
    sweep(tmp_path)

    assert sorted(tmp_path.iterdir()) == sorted([young, alive])
