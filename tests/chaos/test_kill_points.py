"""A few of the kills that ``make chaos-kills`` does by the hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kill_diary import Diary, Kill, figures
from tests.chaos.kill_points import Plan, play


@pytest.mark.chaos
@pytest.mark.spark
def test_a_run_that_is_killed_at_random_moments_loses_and_doubles_nothing(tmp_path: Path):
    events = list(play(Plan(shards=200, longest_s=10.0, seed=1), 4, tmp_path))

    found = figures(Diary(tmp_path))
    assert sum(isinstance(event, Kill) for event in events) == found["kills"] == 4
    assert (found["lost"], found["doubled"], found["rewritten"]) == (0, 0, 0)
    assert found["rows"] == 400 * found["runs"]
    assert found["token_overhead"] >= 1
