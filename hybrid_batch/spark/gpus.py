"""Which device a task's scorer computes on, and how many workers of a machine use one GPU at once."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from hybrid_batch.engines.base import Scorer
from hybrid_batch.spark.places import one_of

CPU: Final = "cpu"

SLOT_POLL_SECONDS: Final = 0.01
"""How often a waiting worker looks whether a GPU is free; a batch takes some tens of these."""

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

AMD_DRIVER: Final = Path("/dev/kfd")
_DRIVERS: Final = (Path("/dev/nvidiactl"), AMD_DRIVER, Path("/dev/dxg"))
"""What the drivers of NVIDIA, AMD and Windows' Linux put there."""


def choose_device(addresses: Sequence[str], visible: int, partition: int, listed: Sequence[str] = ()) -> str:
    """The device of a task, ``cuda:N`` or ``cpu``.

    ``addresses`` are the GPUs that Spark gave the task, ``visible`` is the number of devices that CUDA shows in this
    process, and ``listed`` what ``CUDA_VISIBLE_DEVICES`` says of them.  Where Spark gave GPUs the task stays on those;
    where it gave none, partitions are spread over the devices; without a device it is the CPU.
    """
    if not visible:
        return CPU
    if not addresses:
        return f"cuda:{partition % visible}"
    own = partition % len(addresses)
    if set(addresses) <= set(listed):
        return f"cuda:{listed.index(addresses[own])}"
    if all(address.isdecimal() and int(address) < visible for address in addresses):
        return f"cuda:{int(addresses[own])}"
    # The cluster shows the task its own GPUs alone, and CUDA counts those from 0.
    return f"cuda:{own % visible}"


def task_device() -> str:
    """The device of the Spark task that runs here; outside a task as in its first partition."""
    if addresses := _task_addresses():
        return choose_device(addresses, visible_gpus(), _partition(), listed_gpus())
    return _unassigned_device()


@lru_cache(maxsize=1)
def _unassigned_device() -> str:
    """The device of a worker to which Spark gave no GPU.

    Its first task chooses and later ones stay: a worker that followed its partitions would load a model on each GPU.
    """
    return choose_device((), visible_gpus(), _partition())


def _task_addresses() -> list[str]:
    from pyspark import TaskContext

    context = TaskContext.get()
    given = context.resources().get("gpu") if context is not None else None
    return list(given.addresses) if given is not None else []


def _partition() -> int:
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.partitionId() if context is not None else 0


def has_gpu() -> bool:
    """Whether this machine seems to have a GPU; torch, which knows, takes seconds to load."""
    return any(driver.exists() for driver in _DRIVERS)


def visible_gpus() -> int:
    """The number of devices that CUDA shows in this process; 0 without torch, which is not loaded to find that out."""
    if importlib.util.find_spec("torch") is None:
        return 0
    import torch

    count: int = torch.cuda.device_count()
    return count


def listed_gpus() -> list[str]:
    """The devices that ``CUDA_VISIBLE_DEVICES`` names, in CUDA's order; empty where it is not set."""
    return [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]


@contextmanager
def gpu_slot(device: str, models_per_gpu: int, folder: Path) -> Iterator[None]:
    """Hold one of the ``models_per_gpu`` places on ``device`` for the length of the block, and wait for it if need be.

    Workers that pass the same ``folder`` share the places.  A worker that dies gives its place back.  The CPU has no
    places: there the block runs at once.  Raises ``ValueError`` for fewer than one place.
    """
    if models_per_gpu < 1:
        raise ValueError(f"models_per_gpu is {models_per_gpu}, allowed is at least 1")
    if device == CPU:
        yield
        return
    name = _physical(device)
    with one_of([folder / f"gpu-{name}-{place}.lock" for place in range(models_per_gpu)], SLOT_POLL_SECONDS):
        yield


def _physical(device: str) -> str:
    """``device`` by the name that it has for all processes: ``cuda:0`` is another GPU where other ones are visible."""
    number, listed = int(device.partition(":")[2] or 0), listed_gpus()
    return listed[number].replace("/", "-") if number < len(listed) else str(number)


@dataclass(frozen=True)
class SharedGpuScorer:
    """``scorer``, which computes on ``device`` while it holds one of that GPU's places; see :func:`gpu_slot`.

    The place is held for one batch, not for the task: of two scorers in one query, the one that reads the other's rows
    would otherwise wait for a place that the other never gives back.
    """

    scorer: Scorer
    device: str
    models_per_gpu: int
    folder: Path

    @property
    def told(self) -> str:
        return self.scorer.told

    def prepare(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> Any:
        return self.scorer.prepare(texts, tasks)

    def scores(self, prepared: Any) -> np.ndarray:
        with gpu_slot(self.device, self.models_per_gpu, self.folder):
            return self.scorer.scores(prepared)
