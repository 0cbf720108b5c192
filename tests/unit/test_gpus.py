"""Which GPU a scorer uses, and how many workers use one at once, proved with processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

from hybrid_batch.spark.gpus import SharedGpuScorer, choose_device, gpu_slot, visible_gpus

HOLDER = """
import sys
from pathlib import Path
from hybrid_batch.spark.gpus import gpu_slot

device, places, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
with gpu_slot(device, places, folder):
    print("in", flush=True)
    sys.stdin.readline()
print("out", flush=True)
"""

COUNTER = """
import sys
import time
from pathlib import Path
from hybrid_batch.spark.gpus import gpu_slot

folder, name = Path(sys.argv[2]), sys.argv[3]
for _ in range(20):
    with gpu_slot("cuda:0", int(sys.argv[1]), folder):
        mark = folder / f"{name}.inside"
        mark.touch()
        time.sleep(0.002)
        print(len(list(folder.glob("*.inside"))))
        mark.unlink()
"""

ENDS_S = 60.0
"""Seconds after which a process that should have gone on is broken."""


@pytest.mark.parametrize(
    ("addresses", "visible", "partition", "device"),
    [
        ([], 0, 0, "cpu"),
        (["0"], 0, 0, "cpu"),  # Spark gave a GPU, and this torch has no CUDA
        (["3"], 4, 7, "cuda:3"),
        (["1", "3"], 4, 0, "cuda:1"),
        (["1", "3"], 4, 1, "cuda:3"),
        (["3"], 1, 5, "cuda:0"),
        (["4", "5"], 2, 0, "cuda:0"),
        (["4", "5"], 2, 1, "cuda:1"),
        (["1", "2"], 2, 0, "cuda:0"),  # 2 is not visible, so both are counted from 0
        (["1", "2"], 2, 1, "cuda:1"),
        (["GPU-5f9c", "GPU-77aa"], 2, 1, "cuda:1"),
        ([], 1, 9, "cuda:0"),
        ([], 4, 9, "cuda:1"),
    ],
)
def test_a_task_stays_on_its_gpus_and_is_spread_where_it_has_none(addresses, visible, partition, device):
    assert choose_device(addresses, visible, partition) == device


@pytest.mark.parametrize(
    ("addresses", "listed", "device"),
    [
        (["3"], ["2", "3"], "cuda:1"),
        (["GPU-77aa"], ["GPU-5f9c", "GPU-77aa"], "cuda:1"),
        (["1"], ["2", "3"], "cuda:1"),  # an address of which the list says nothing
    ],
)
def test_a_list_of_visible_devices_says_where_an_address_is(addresses, listed, device):
    assert choose_device(addresses, len(listed), 0, listed) == device


def test_partitions_without_resources_use_all_devices_alike():
    chosen = [choose_device([], 3, partition) for partition in range(30)]
    assert {device: chosen.count(device) for device in chosen} == {"cuda:0": 10, "cuda:1": 10, "cuda:2": 10}


def test_a_machine_without_torch_has_no_gpu_and_loads_nothing_to_say_so(tmp_path):
    code = "import sys; from hybrid_batch.spark.gpus import visible_gpus; print(visible_gpus(), 'torch' in sys.modules)"
    site = [path for path in sys.path if path.endswith("site-packages")]
    without = _without_torch(tmp_path / "site", Path(site[0]))
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {[str(without), str(Path.cwd())]!r}; {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["0", "False"], done.stderr


def _without_torch(folder: Path, site: Path) -> Path:
    folder.mkdir()
    for path in site.iterdir():
        if path.name != "torch":
            (folder / path.name).symlink_to(path)
    return folder


def test_torch_is_asked_where_it_is_installed():
    import torch

    assert visible_gpus() == torch.cuda.device_count()


def holder(device: str, places: int, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """A process that holds a place on ``device`` until it reads a line."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, device, str(places), str(folder)],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def leave(process: subprocess.Popen[str]) -> None:
    out, _ = process.communicate("\n", timeout=ENDS_S)
    assert out.split()[-1:] == ["out"]


def held(folder: Path) -> list[str]:
    """The places in ``folder`` that somebody holds."""
    taken = []
    for path in sorted(folder.glob("*.lock")):
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            taken.append(path.stem)
        else:
            lock.release()
    return taken


@pytest.mark.parametrize("places", [1, 2])
def test_no_more_workers_than_allowed_are_on_a_gpu(places, tmp_path):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTER, str(places), str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    seen = [int(count) for worker in workers for count in worker.communicate(timeout=ENDS_S)[0].split()]

    assert len(seen) == 4 * 20
    assert max(seen) == places


def test_a_worker_that_waits_goes_on_when_the_place_is_free(tmp_path):
    first, other = holder("cuda:0", 1, tmp_path), holder("cuda:1", 1, tmp_path)
    assert [_said(first), _said(other)] == ["in", "in"]
    second = holder("cuda:0", 1, tmp_path)
    assert held(tmp_path) == ["gpu-0-0", "gpu-1-0"]
    leave(first)
    assert _said(second) == "in"
    leave(other)
    assert held(tmp_path) == ["gpu-0-0"]
    leave(second)


def test_a_router_of_which_two_fit_is_on_a_gpu_twice(tmp_path):
    both = [holder("cuda:0", 2, tmp_path) for _ in range(2)]

    assert [_said(process) for process in both] == ["in", "in"]
    assert held(tmp_path) == ["gpu-0-0", "gpu-0-1"]
    for process in both:
        leave(process)


def test_the_cpu_has_no_places(tmp_path):
    with gpu_slot("cpu", 1, tmp_path), gpu_slot("cpu", 1, tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_gpu_is_known_by_its_name_where_processes_see_other_ones(tmp_path):
    process = holder("cuda:0", 1, tmp_path, CUDA_VISIBLE_DEVICES="GPU-77aa,GPU-5f9c")

    assert _said(process) == "in"
    assert held(tmp_path) == ["gpu-GPU-77aa-0"]
    leave(process)


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_worker_that_is_killed_gives_its_place_back(tmp_path):
    process = holder("cuda:0", 1, tmp_path)
    assert _said(process) == "in"
    assert held(tmp_path) == ["gpu-0-0"]
    process.kill()
    process.communicate(timeout=ENDS_S)

    assert held(tmp_path) == []


def test_an_error_gives_the_place_back(tmp_path):
    with pytest.raises(RuntimeError, match="in the block"), gpu_slot("cuda:0", 1, tmp_path):
        raise RuntimeError("in the block")
    assert held(tmp_path) == []


def test_a_gpu_has_at_least_one_place(tmp_path):
    with pytest.raises(ValueError, match="models_per_gpu is 0, allowed is at least 1"), gpu_slot("cpu", 0, tmp_path):
        pass


class Lengths:
    """A scorer that says how long its texts are, and keeps which places were held at each step."""

    told = "lengths"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.held: list[list[str]] = []

    def prepare(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> Sequence[str]:
        self.held.append(held(self._folder))
        return texts

    def scores(self, prepared: Sequence[str]) -> np.ndarray:
        self.held.append(held(self._folder))
        return np.array([len(text) / 10 for text in prepared])


def test_a_shared_scorer_holds_a_place_while_it_scores_and_at_no_other_time(tmp_path):
    inner = Lengths(tmp_path)
    scorer = SharedGpuScorer(inner, "cuda:0", 1, tmp_path)

    assert scorer.scores(scorer.prepare(["a", "abc"])).tolist() == [0.1, 0.3]
    assert inner.held == [[], ["gpu-0-0"]]
    assert held(tmp_path) == []
    assert scorer.told == "lengths"


def test_scorers_that_share_a_gpu_and_read_each_other_do_not_wait_for_ever(tmp_path):
    one, two = (SharedGpuScorer(Lengths(tmp_path), "cuda:0", 1, tmp_path) for _ in range(2))
    through_one = (texts for texts in (["a"], ["abc"]) if one.scores(one.prepare(texts)).size)

    assert [two.scores(two.prepare(texts)).tolist() for texts in through_one] == [[0.1], [0.3]]
