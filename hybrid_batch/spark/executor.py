"""What lives longer than a task on an executor: the router in its Python worker, the engine beside it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import psutil

from hybrid_batch.core.errors import ConfigError, EngineError
from hybrid_batch.engines.base import (
    Backend,
    EndpointRecipe,
    EngineHandle,
    EngineRecipe,
    Generator,
    RouterRecipe,
    Scorer,
    ServerRecipe,
)
from hybrid_batch.engines.endpoint import open_endpoint
from hybrid_batch.engines.processes import ProcessId
from hybrid_batch.routers import AUTO, require_planned
from hybrid_batch.spark.gpus import CPU, SharedGpuScorer, has_gpu, task_device, visible_gpus
from hybrid_batch.spark.places import all_of, one_of
from hybrid_batch.storage import is_remote, normalise
from hybrid_batch.storage.folders import local_copy

if TYPE_CHECKING:
    from hybrid_batch.engines.engine_metrics import Sampler
    from hybrid_batch.engines.router import RouterScorer

_log = logging.getLogger(__name__)

_RAYON: Final = "RAYON_NUM_THREADS"

ROUTERS: Final = 2
"""Routers that a Python worker holds at once."""

TASKS_PER_ENGINE: Final = 2
"""Tasks that feed one engine: the next shard flows while the tail of the last one drains."""

SLOT_POLL_SECONDS: Final = 0.1

LEFTOVER_SECONDS: Final = 3600
"""Age from which the home of an ended executor is removed."""

LOCAL_RETRY_BUDGET_S: Final = 60.0
"""How long a task waits for an overloaded engine of its own."""


def owner() -> psutil.Process:
    """The process whose end is the executor's end: its Java process; outside Spark, the parent."""
    process = psutil.Process()
    for ancestor in process.parents():
        if ancestor.name().startswith("java"):
            return ancestor
    return process.parent() or process


def executor_home() -> Path:
    """A private folder of this executor, the same for all its Python workers."""
    process = owner()
    home = scratch() / f"executor-{process.pid}-{round(ProcessId.of(process.pid).created * 100)}"
    if not home.is_dir():
        home.mkdir(mode=0o700, exist_ok=True)
        sweep(home.parent)
    return home


def sweep(folder: Path) -> None:
    """Remove homes of executors that ended long ago; what a supervisor still tidies up is younger."""
    for home in folder.glob("executor-*-*"):
        ended = not psutil.pid_exists(int(home.name.split("-")[1]))
        if ended and time.time() - home.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(home, ignore_errors=True)


def scratch() -> Path:
    """A private folder of this user on this machine."""
    folder = Path(tempfile.gettempdir()) / f"hybrid-batch-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to another user; remove it, or set TMPDIR to a folder of your own")
    return folder


def router(recipe: RouterRecipe) -> RouterScorer:
    """The router that ``recipe`` names, loaded once for each Python worker and device.

    With the backend ``auto``, an export that cannot be used here is passed over, and the scorer says so.
    Raises ``ConfigError`` if the card, or the export, is not the one that ``recipe`` was made of.
    """
    backend = _backend(recipe)
    return _loaded(recipe, backend, _device(backend))


def scorer(recipe: RouterRecipe) -> Scorer:
    """The :func:`router` of ``recipe`` for a task; on a GPU it waits for its turn, as the card says how many share."""
    loaded = router(recipe)
    if loaded.device == CPU:
        return loaded
    return SharedGpuScorer(loaded, loaded.device, loaded.card.models_per_gpu, scratch())


@lru_cache(maxsize=ROUTERS)
def _loaded(recipe: RouterRecipe, backend: Backend, device: str) -> RouterScorer:
    folder = _router_folder(recipe)
    try:
        return _load(recipe, folder, backend, device)
    except (ConfigError, EngineError) as error:
        if recipe.backend != AUTO or backend == "torch":
            raise
        remark = f"{backend} was not used: {error}"
        _log.warning("router %s: %s", recipe.path, remark)
        loaded = _load(recipe, folder, "torch", device)
        loaded.remark = remark
        return loaded


def _load(recipe: RouterRecipe, folder: Path, backend: Backend, device: str) -> RouterScorer:
    from hybrid_batch.engines.router import load_router

    threads = recipe.threads or task_cpus()
    with _tokenizer_threads(threads if device == CPU else None):
        loaded = load_router(folder, backend, threads=threads, device=device, remember=recipe.remember)
        loaded.prepare(["the tokenizer makes its threads", "when it gets two texts"])
    return loaded


@contextmanager
def _tokenizer_threads(threads: int | None) -> Iterator[None]:
    """Bound the threads that the tokenizer makes at its first work: every core has a worker of its own.

    An engine that this worker starts later must not inherit the bound.
    """
    if threads is None or _RAYON in os.environ:
        yield
        return
    os.environ[_RAYON] = str(threads)
    try:
        yield
    finally:
        del os.environ[_RAYON]


def _device(backend: Backend) -> str:
    return task_device() if backend.startswith("torch") else CPU


def _router_folder(recipe: RouterRecipe) -> Path:
    if not is_remote(recipe.path):
        folder = Path(normalise(recipe.path))
        require_planned(folder, recipe)
        return folder
    export = f"-{recipe.export.sha256[:16]}" if recipe.export else ""
    place = scratch() / f"router-{recipe.fingerprint}{export}"
    return local_copy(recipe.path, place, partial(require_planned, recipe=recipe))


def _backend(recipe: RouterRecipe) -> Backend:
    """What computes the scores on this machine."""
    if recipe.backend != AUTO:
        return recipe.backend
    if recipe.export is None or (has_gpu() and visible_gpus()):
        return "torch"
    return cast("Backend", f"onnx-{recipe.export.numbers}")


def task_cpus() -> int | None:
    """Cores of the Spark task that this is part of, None outside Spark."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return None if context is None else int(context.cpus())


def drop_router() -> None:
    """Free the router's memory in this Python worker: on a GPU the engine needs it."""
    _loaded.cache_clear()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def leased(recipe: EngineRecipe, log_folder: str | None, *, alone: bool = False) -> Iterator[EngineHandle]:
    """The engine that answers ``recipe`` here: found, started or remote, and kept up for the length of the block.

    With ``alone`` set, no other task uses an engine of this executor meanwhile.
    """
    if isinstance(recipe, EndpointRecipe):
        yield open_endpoint(recipe)
        return
    from hybrid_batch.engines.vllm_server import attached

    home = executor_home()
    with _slot(home, alone), attached(recipe, home, owner().pid, Path(log_folder or Path.cwd())) as engine:
        yield engine


def _slot(home: Path, alone: bool) -> AbstractContextManager[None]:
    """Wait until fewer than :data:`TASKS_PER_ENGINE` tasks feed the engine: an executor may run many tasks at once,
    and requests that only wait in the engine's queue would run into their deadline there."""
    places = [home / f"slot-{number}.lock" for number in range(TASKS_PER_ENGINE)]
    return all_of(places, SLOT_POLL_SECONDS) if alone else one_of(places, SLOT_POLL_SECONDS)


def discard(engine: EngineHandle) -> None:
    """End an engine that stopped answering, so that the next :func:`leased` starts a new one."""
    from hybrid_batch.engines.vllm_server import discard as end

    if engine.is_local:
        end(engine, executor_home())


def client(recipe: EngineRecipe, engine: EngineHandle) -> Generator:
    """A client that fills this task's window of ``engine``."""
    from hybrid_batch.engines.chat_client import ChatClient

    budget = recipe.retry_budget_s if isinstance(recipe, EndpointRecipe) else LOCAL_RETRY_BUDGET_S
    return ChatClient(
        engine, concurrency=window(recipe), request_timeout_s=recipe.request_timeout_s, retry_budget_s=budget
    )


def sampler(engine: EngineHandle) -> Sampler:
    """Who looks at the load of ``engine`` while it is used."""
    from hybrid_batch.engines.engine_metrics import Sampler

    return Sampler(engine)


def window(recipe: EngineRecipe) -> int:
    """Requests that one task keeps under way.

    Each of the tasks of an engine may fill it alone: near the end only one is left.
    """
    return (recipe.window or recipe.max_num_seqs) if isinstance(recipe, ServerRecipe) else recipe.concurrency
