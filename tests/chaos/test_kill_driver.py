"""Whatever ends the driver, the same command finishes the run, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kill_driver import FAULTS, strike

EXIT_CODES = {"Ctrl-C": 130, "kill -TERM driver": 143, "kill -9 driver": -9}


@pytest.mark.chaos
@pytest.mark.spark
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_whose_driver_ends_is_finished_by_the_same_command(fault: str, tmp_path: Path):
    end = strike(fault, tmp_path)

    assert end.exit_code == EXIT_CODES[fault]
    assert end.left_behind == 0
    assert (end.lost, end.doubled, end.touched) == (0, 0, 0)
    assert end.kept >= 8
    if fault != "kill -9 driver":
        assert end.shown == "interrupted; run the same command to resume"
