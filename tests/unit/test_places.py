"""Places that processes share: never more than there are, and now and then one process has them all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys, time
from pathlib import Path
from hybrid_batch.spark.places import all_of, one_of
folder, how, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
files = [folder / "0.lock", folder / "1.lock"]
spans = []
for _ in range(times):
    with (all_of if how == "all" else one_of)(files, 0.001):
        began = time.monotonic()
        time.sleep(0.003)
        spans.append([began, time.monotonic()])
print(json.dumps(spans))
"""


def together(folder: Path, *kinds: tuple[str, int]) -> list[list[list[float]]]:
    """What each process had, in seconds of a clock that all share."""
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), kind, str(times)], stdout=subprocess.PIPE)
        for kind, times in kinds
    ]
    return [json.loads(process.communicate(timeout=60)[0]) for process in started]


def overlapping(spans: list[list[float]], others: list[list[float]]) -> int:
    return sum(one[0] < other[1] and other[0] < one[1] for one in spans for other in others)


def test_no_more_have_a_place_than_there_are_and_who_wants_all_is_alone(tmp_path: Path):
    *ones, alone = together(tmp_path, ("one", 40), ("one", 40), ("one", 40), ("all", 20))
    assert [len(spans) for spans in ones] == [40, 40, 40]
    assert len(alone) == 20
    assert all(overlapping(alone, spans) == 0 for spans in ones)
    for moment in (span[0] for spans in ones for span in spans):
        assert sum(began <= moment < ended for spans in ones for began, ended in spans) <= 2
