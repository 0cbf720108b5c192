"""The job on real parts: real questions, the demo's router, two real models on vLLM, through the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import duckdb
import pytest
import yaml

from hybrid_batch.demo.prepare import prepare
from tests.support.driver import Driver, left_behind
from tests.support.shared_data import shared_data

DEMO = Path(__file__).resolve().parents[2] / "conf" / "demo.yaml"
QUESTIONS, PART = 1319, 8


@pytest.mark.vllm
@pytest.mark.spark
@pytest.mark.timeout(900)
def test_gsm8k_is_routed_whole_and_answered_in_part_by_both_models(tmp_path: Path):
    source = shared_data("routellm/gsm8k_responses.csv")
    prepare(tmp_path / "prepared")
    config = {
        "base": str(DEMO),
        "run": {"name": "gsm8k", "output": str(tmp_path / "out")},
        "input": {"path": str(source), "format": "csv", "columns": {"id": None, "prompt": "prompt"}, "keep": []},
        "sampling": {"max_tokens": 24},
        "shards": {"rows": PART},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(config))
    driver = Driver(tmp_path / "job.yaml", tmp_path / "log", "--shards", "1")
    assert driver.process.wait() == 0, driver.output

    run = next((tmp_path / "out" / "runs").iterdir())
    routed = duckdb.sql(f"select tier, count(*) from '{run}/routed/*/shard-*.parquet' group by tier").fetchall()
    assert sum(rows for _, rows in routed) == QUESTIONS
    assert dict(routed)["small"] == int(QUESTIONS * 0.40)

    asked = {f"{source.name}:{row}": line["prompt"] for row, line in enumerate(csv.DictReader(source.open()))}
    answers = duckdb.sql(f"select * from '{run}/results/*/*.parquet'").to_df()
    assert set(answers["query_id"]) <= set(asked)
    assert set(answers["model"]) == {"smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"}
    assert answers["error_kind"].isna().all()
    assert (answers["completion_tokens"].between(1, 24)).all()
    assert (answers["prompt_tokens"] > 20).all()
    assert answers["text"].str.strip().ne("").all()
    assert left_behind(driver) == []
