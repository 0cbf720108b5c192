"""The bare engine: ``LLM.chat`` with everything in one call, in a process of its own that waits between its turns.

``python -m benchmarks.generating_raw KWARGS`` reads the path of a file of rows, answers them, says what came out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.generating_engines import ROOT, Turn, engine_kwargs, environment, known
from benchmarks.generating_rows import read_rows
from hybrid_batch.engines.base import ServerRecipe


class RawEngine:
    """``LLM`` in another process.  What it prints goes to ``log``."""

    def __init__(self, recipe: ServerRecipe, log: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.generating_raw", json.dumps(engine_kwargs(recipe))]
        with log.open("ab") as lines:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment(recipe), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=lines,
            )  # fmt: skip
        self._log = log
        self.start_seconds: float = self._read()["seconds"]

    def run(self, rows: Path) -> Turn:
        """Answer the rows in the file ``rows`` with an empty prefix cache."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{rows}\n")
        self._process.stdin.flush()
        return Turn(**self._read())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"LLM.chat ended with {self._process.wait()}; its log is {self._log}")
        found: dict[str, Any] = json.loads(line)
        return found


def _turn(llm: Any, path: str) -> dict[str, Any]:
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    rows = read_rows(path)
    chats = [row.messages for row in rows]
    sampling = [SamplingParams(temperature=0.0, max_tokens=row.max_tokens) for row in rows]
    llm.reset_prefix_cache()
    began = time.perf_counter()
    try:
        outputs = llm.chat(chats, sampling, use_tqdm=False)
    except VLLMValidationError as error:  # one row that the engine refuses
        print(error, file=sys.stderr)
        return {"seconds": time.perf_counter() - began, "answers": {}, "tokens": 0, "errors": {str(error): 1}}
    seconds = time.perf_counter() - began
    answers = {row.query_id: output.outputs[0].text for row, output in zip(rows, outputs, strict=True)}
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return {"seconds": seconds, "answers": answers, "tokens": tokens}


def main(kwargs: str) -> None:
    """Serve turns until the input ends."""
    # vLLM logs to the standard output: that becomes the log, and what is said here has a channel of its own.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        began = time.perf_counter()
        from vllm import LLM

        llm = LLM(**known(json.loads(kwargs)))
        print(json.dumps({"seconds": time.perf_counter() - began}), file=channel, flush=True)
        for line in sys.stdin:
            print(json.dumps(_turn(llm, line.strip())), file=channel, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
