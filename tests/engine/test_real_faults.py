"""The real vLLM killed and stopped while it answers a shard of a job: every row comes back once, and says so."""

from __future__ import annotations

import signal
from pathlib import Path

import duckdb
import psutil
import pytest

from hybrid_batch.demo.models import ensure_model
from tests.support.driver import Driver, left_behind, wait
from tests.support.jobs import job_document, save, write_jsonl
from tests.support.tiny_router import make_tiny_router

ROWS, SHARD = 96, 12
DEADLINE_S = 10.0
PATIENCE_S = 240.0


@pytest.mark.vllm
@pytest.mark.spark
@pytest.mark.timeout(900)
def test_an_engine_that_is_killed_and_one_that_hangs_lose_no_row(tmp_path: Path):
    questions = [{"query_id": f"q{n:03d}", "prompt": f"Tell a story of {n} sheep.", "tenant": "t"} for n in range(ROWS)]
    document = job_document(
        write_jsonl(tmp_path / "questions.jsonl", questions), str(tmp_path / "out"), make_tiny_router(tmp_path / "tiny")
    )
    document["policy"] = {"small_share": 1.0}
    document["sampling"] = {"max_tokens": 96}
    document["shards"] = {"rows": SHARD}
    document["tiers"]["small"] = {
        "model": str(ensure_model("smollm2-135m-instruct")),
        "gpus": 0,
        "max_model_len": 256,
        "max_num_seqs": 8,
        "request_timeout_s": DEADLINE_S,
        "usd_per_engine_hour": "0.10",
    }
    driver = Driver(save(document, tmp_path), tmp_path / "log")
    run = tmp_path / "out" / "runs"

    try:
        killed = _core_at_work(driver, run, committed=1)
        killed.kill()
        stopped = _core_at_work(driver, run, committed=len(_committed(run)) + 1)
        assert stopped.pid != killed.pid
        stopped.send_signal(signal.SIGSTOP)
        assert driver.process.wait(PATIENCE_S) == 0, driver.output
    finally:
        driver.process.kill()
        left = left_behind(driver)

    assert left == []
    results = f"'{run}/*/results/*/*.parquet'"
    answers = duckdb.sql(f"select query_id, error_kind, completion_tokens from {results}").fetchall()
    assert sorted(query_id for query_id, _, _ in answers) == [question["query_id"] for question in questions]
    assert {kind for _, kind, _ in answers} == {None}
    assert all(tokens > 0 for _, _, tokens in answers)
    receipts = f"'{run}/*/receipts/*/*.json'"
    engines = duckdb.sql(f"select distinct engine_id from {receipts} where usage.rows > 0").fetchall()
    assert len(engines) == 3


def _core_at_work(driver: Driver, runs: Path, committed: int) -> psutil.Process:
    """The engine's core process, as soon as so many shards are there and the next ones are under way."""

    found: list[psutil.Process] = []

    def ready() -> bool:
        assert driver.process.poll() is None, driver.output
        if len(_committed(runs)) >= committed:
            found[:] = _cores(driver)
        return len(found) == 1

    wait(ready, PATIENCE_S)
    return found[0]


def _committed(runs: Path) -> list[Path]:
    return list(runs.glob("*/results/*/*.parquet"))


def _cores(driver: Driver) -> list[psutil.Process]:
    return [process for process in driver.family() if "EngineCore" in _command(process)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # gone by now
        return ""
