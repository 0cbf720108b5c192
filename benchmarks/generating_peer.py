"""The peer: Ray Data LLM, in an environment of its own that finds vLLM in the project's.

Every turn is a process of its own, as a job is.  Settings that it takes to run on a CPU: a placement group without a
GPU, no metrics of the engine, and more of Ray's cores than there are, because each of its stages reserves one.
``python -m benchmarks.generating_peer ROWS KWARGS BATCH go-on`` answers the rows, and says what came out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.generating_engines import ROOT, Turn, engine_kwargs, environment, known
from benchmarks.generating_rows import Row, read_rows
from hybrid_batch.engines.base import ServerRecipe

NAME: Final = "Ray Data LLM"
_RAY_CORES = 8


class PeerFailedError(RuntimeError):
    """The peer's process ended without an answer; the message is its last line that names an error."""


def run_peer(python: Path, recipe: ServerRecipe, rows: Path, log: Path, *, go_on: bool = False) -> Turn:
    """Answer the rows in the file ``rows``, in batches that fill the engine.

    With ``go_on`` an error is the row's alone.  Raises ``PeerFailedError``.
    """
    more = [rows, json.dumps(engine_kwargs(recipe)), recipe.max_num_seqs, *(["go-on"] if go_on else [])]
    command = [python.absolute(), "-m", "benchmarks.generating_peer", *more]
    env = environment(recipe) | {"RAY_USAGE_STATS_ENABLED": "0"}
    with log.open("ab") as lines:
        place = lines.tell()
        began = time.perf_counter()
        done = subprocess.run(
            [str(part) for part in command], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=lines,
            check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - began
    if done.returncode or not done.stdout:
        raise PeerFailedError(_cause(log.read_bytes()[place:].decode(errors="replace")))
    found = json.loads(done.stdout)
    return Turn(**found, start_seconds=seconds - found["seconds"])


def _cause(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "Error" in line]
    return lines[-1] if lines else "no message"


def _before(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "query_id": row["query_id"],
        "messages": [{"role": "user", "content": row["prompt"]}],
        "sampling_params": {"temperature": 0.0, "max_tokens": row["max_tokens"]},
    }


def _after(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "query_id": row["query_id"],
        "text": row.get("generated_text"),
        "tokens": row.get("num_generated_tokens") or 0,
        "taken": row.get("time_taken_llm") or 0.0,
        "done": time.time(),
    }


def _answered(rows: Sequence[Row], kwargs: dict[str, Any], batch: int, go_on: bool) -> list[dict[str, Any]]:
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    ray.init(num_cpus=max(_RAY_CORES, os.cpu_count() or 1), include_dashboard=False, log_to_driver=True)
    config = vLLMEngineProcessorConfig(
        model_source=kwargs.pop("model"),
        engine_kwargs=kwargs,
        batch_size=batch,
        should_continue_on_error=go_on,
        concurrency=1,
        log_engine_metrics=False,
        placement_group_config={"bundles": [{"CPU": 1}]},
    )
    processor = build_processor(config, preprocess=_before, postprocess=_after)
    items = [{"query_id": row.query_id, "prompt": row.prompt, "max_tokens": row.max_tokens} for row in rows]
    found: list[dict[str, Any]] = processor(ray.data.from_items(items)).take_all()
    ray.shutdown()
    return found


def _turn(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row that failed comes back without what :func:`_after` gives, its id too, and with its error."""
    answered = [row for row in found if row.get("done") is not None]
    failed = [row for row in found if row.get("done") is None]
    texts = {row["query_id"]: row["text"] for row in answered}
    return {
        "seconds": max(row["done"] for row in answered) - min(row["done"] - row["taken"] for row in answered),
        "answers": texts | {row.get("query_id") or f"failed-{place}": None for place, row in enumerate(failed)},
        "tokens": sum(row["tokens"] for row in answered),
        "errors": Counter(row.get("__inference_error__") or "no message" for row in failed),
    }


def main(rows: str, kwargs: str, batch: str, *go_on: str) -> None:
    """Answer ``rows``; the time that counts goes from the first request to the last answer."""
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        found = _answered(read_rows(rows), known(json.loads(kwargs)), int(batch), bool(go_on))
        print(json.dumps(_turn(found)), file=channel)


if __name__ == "__main__":
    main(*sys.argv[1:])
