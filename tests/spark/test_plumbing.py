"""The benchmark of the plumbing, small: every row comes through, and the last line has every figure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    folder = tmp_path_factory.mktemp("plumbing")
    command = [sys.executable, "-m", "benchmarks.plumbing", "--rows", "20000", "40000", "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), folder


def test_the_last_line_has_the_figures_of_both_sizes(told: tuple[list[str], Path]):
    figures = json.loads(told[0][-1])
    for size in ("20k", "40k"):
        for name in ("rows_per_s", "peak_rss_mb", "route_rows_per_s", "raw_rows_per_s", "score_core_us_per_row"):
            assert figures[f"{name}_{size}"] > 0
        kinds = [figures[f"peak_{kind}_mb_{size}"] for kind in ("driver", "jvm", "workers")]
        assert min(kinds) > 0
        assert max(kinds) <= figures[f"peak_rss_mb_{size}"] <= sum(kinds) + 2
    assert figures["bytes_20k"] < figures["bytes_40k"]


def test_every_row_came_to_a_shard_and_nothing_is_left_behind(told: tuple[list[str], Path]):
    lines, folder = told
    assert "rows out: 20,000 told, 20,000 scored, 20,000 routed" in lines
    assert "rows out: 40,000 told, 40,000 scored, 40,000 routed" in lines
    # One part, the borders of the shards, and shards of at most a thousand rows of one tier each.
    assert json.loads(lines[-1])["objects"] in (42, 43)
    assert not list(folder.iterdir())
