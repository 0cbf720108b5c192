"""What is found before a model is loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hybrid_batch.calibrations import ALL_TO_LARGE
from hybrid_batch.config import JobConfig, parse_config
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.routing import Thresholds
from hybrid_batch.preflight import Finding, gpus_here, preflight, readable_bytes, require_ready, runs_here
from hybrid_batch.promise import calibration_of, policy_of
from tests.support.calibrated import calibrate_by
from tests.support.jobs import job_document, questions, write_jsonl, write_parquet
from tests.support.paper_router import make_paper_router

VLLM_ON_CPU = {"model": "org/model", "gpus": 0, "usd_per_engine_hour": "1"}


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    rows = write_jsonl(tmp_path / "in" / "questions.jsonl", questions(30))
    return job_document(rows, str(tmp_path / "out"), make_paper_router(tmp_path / "router"))


def found(document: dict[str, Any], level: str) -> dict[str, str]:
    return {finding.field: finding.message for finding in preflight(parse_config(document)) if finding.level == level}


def test_a_sound_configuration_has_only_good_findings(document: dict[str, Any]) -> None:
    document["tiers"]["large"]["model"] = "another"
    findings = preflight(parse_config(document))
    assert {finding.level for finding in findings} == {"ok"}
    told = {finding.field: finding.message for finding in findings}
    assert told["input.path"].startswith("1 file, ")
    assert told["router.path"] == "router paper, 4 files, reads 128 tokens"
    assert told["router.backend"] == "torch where there is a GPU, else torch: it is not exported"
    assert require_ready(parse_config(document)) == []


def test_a_backend_that_needs_an_export_is_refused_without_one(document: dict[str, Any]) -> None:
    document["router"]["backend"] = "onnx-int8"
    assert "is not exported as int8; run: hybrid-batch export" in found(document, "error")["router.path"]


def test_the_limit_makes_rows_known(document: dict[str, Any]) -> None:
    document["input"]["limit"] = 10
    assert found(document, "ok")["input.path"].endswith(", 10 rows")


def test_a_missing_input_and_router_are_found_together(document: dict[str, Any]) -> None:
    document["input"]["path"] = "/nowhere/at/all"
    document["router"]["path"] = "/no/router"
    errors = found(document, "error")
    assert errors["input.path"] == "no query file at /nowhere/at/all"
    assert "router.json" in errors["router.path"]
    with pytest.raises(ConfigError) as caught:
        require_ready(parse_config(document))
    assert str(caught.value).startswith("2 things stand in the way:\n  input.path: no query file at /nowhere/at/all\n")


def test_a_single_error_is_told_by_itself(document: dict[str, Any]) -> None:
    document["input"]["path"] = "/nowhere/at/all"
    with pytest.raises(ConfigError, match=r"^input\.path: no query file at /nowhere/at/all$"):
        require_ready(parse_config(document))


def test_a_missing_column_is_found(document: dict[str, Any]) -> None:
    document["input"]["keep"] = ["region"]
    assert "there is no column 'region'" in found(document, "error")["input"]


def test_a_damaged_router_is_found(document: dict[str, Any]) -> None:
    (Path(document["router"]["path"]) / "head.safetensors").write_text("other")
    assert "head.safetensors" in found(document, "error")["router.path"]


def test_an_output_that_cannot_be_written_is_found(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    document["run"]["output"] = str(tmp_path / "file")
    assert any(field.startswith("run.output") for field in found(document, "error"))


@pytest.mark.parametrize(
    ("policy", "field", "said"),
    [
        ({"small_share": 0}, "policy.small_share", "0: every query goes to the large model"),
        ({"small_share": 1}, "policy.small_share", "1: every query goes to the small model"),
        ({"threshold": 0}, "policy.threshold", "0: every scored query goes to the small model"),
        ({"threshold": 1}, "policy.threshold", "1: only a score of exactly 1 goes to the small model"),
    ],
)
def test_a_policy_that_needs_no_router_is_worth_a_word(
    document: dict[str, Any], policy: dict[str, float], field: str, said: str
) -> None:
    document["policy"] = policy
    assert found(document, "warn")[field] == said


def test_prices_and_models_that_tell_nothing_are_worth_a_word(document: dict[str, Any]) -> None:
    del document["tiers"]["large"]["usd_per_engine_hour"]
    warnings = found(document, "warn")
    assert "has no price" in warnings["tiers.large"]
    assert warnings["tiers"] == "small and large are the same model, fake-model"


def test_an_answer_as_long_as_the_window_leaves_no_room(document: dict[str, Any]) -> None:
    document["tiers"]["small"]["max_model_len"] = 8
    assert "leaves no room for a prompt" in found(document, "error")["tiers.small.max_model_len"]


def test_a_model_folder_must_be_one(document: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    document["tiers"]["small"]["model"] = str(folder)
    assert "there is no folder" in found(document, "error")["tiers.small.model"]
    folder.mkdir()
    assert "holds no config.json" in found(document, "error")["tiers.small.model"]
    (folder / "config.json").write_text("{}")
    assert "holds no *.safetensors" in found(document, "error")["tiers.small.model"]
    (folder / "model.safetensors").write_text("")
    assert found(document, "ok")["tiers.small.model"] == f"model folder {folder}"


def test_what_executors_elsewhere_need_may_be_missing_here(document: dict[str, Any]) -> None:
    document["spark"]["master"] = "spark://elsewhere:7077"
    document["tiers"]["small"]["model"] = "/only/there"
    assert "there is no folder" in found(document, "warn")["tiers.small.model"]
    assert found(document, "error") == {}


def test_a_server_interpreter_without_vllm_is_found(document: dict[str, Any], tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    document["tiers"]["small"] = {**VLLM_ON_CPU, "python": str(bare)}
    assert found(document, "error")["tiers.small.python"] == f"vLLM is not installed in {bare}"
    document["tiers"]["small"]["python"] = "/no/such/python"
    assert "no program that can be run" in found(document, "error")["tiers.small.python"]


def test_more_gpus_than_there_are_is_found(document: dict[str, Any]) -> None:
    document["tiers"]["small"] = {"model": "org/model", "gpus": gpus_here() + 1, "usd_per_gpu_hour": "1"}
    assert "gpus: 0 runs on the CPU" in found(document, "error")["tiers.small.gpus"]


def test_the_key_of_an_endpoint_must_be_set(document: dict[str, Any]) -> None:
    endpoint = {"endpoint": "http://host/v1", "model": "big", "api_key_env": "HYBRID_BATCH_NO_SUCH_KEY"}
    document["tiers"]["large"] = endpoint
    assert found(document, "error")["tiers.large.api_key_env"].endswith("HYBRID_BATCH_NO_SUCH_KEY is not set")
    document["tiers"]["large"] = {**endpoint, "api_key_env": "PATH"}
    assert "PATH is set here" in found(document, "ok")["tiers.large.api_key_env"]
    document["tiers"]["large"] = {"endpoint": "http://host/v1", "model": "big"}
    assert "without a key" in found(document, "ok")["tiers.large.endpoint"]


def test_trusting_remote_code_is_worth_a_word(document: dict[str, Any]) -> None:
    document["tiers"]["small"]["trust_remote_code"] = True
    assert "code that comes with the model" in found(document, "warn")["tiers.small.trust_remote_code"]
    [warning, _] = require_ready(parse_config(document))
    assert isinstance(warning, Finding)


def test_where_executors_run(document: dict[str, Any]) -> None:
    def here(master: str | None) -> bool:
        config: JobConfig = parse_config({**document, "spark": {"master": master}})
        return runs_here(config)

    assert here("local[2]")
    assert here(None)
    assert not here("spark://host:7077")


def test_sizes_are_readable() -> None:
    assert [readable_bytes(size) for size in (0, 999, 1_000, 1_319_000)] == ["0 bytes", "999 bytes", "1.0 kB", "1.3 MB"]


def test_a_promise_takes_the_threshold_that_was_calibrated_for_it(document: dict[str, Any]) -> None:
    from hybrid_batch.calibrations import ALL_TO_LARGE, Record, Threshold, store
    from hybrid_batch.promise import policy_of
    from hybrid_batch.routers import router_fingerprint

    document["policy"] = {"max_drop_pct": 1.0}
    config = parse_config(document)
    path = config.router.path
    [finding] = [one for one in preflight(config) if one.field == "policy.max_drop_pct"]
    assert finding.level == "error"
    assert f"hybrid-batch calibrate {path} LABELS --max-drop 1 --confidence 0.95" in finding.message

    def calibrated(threshold: Threshold) -> None:
        goal = {"max_drop_pct": 1.0, "confidence": 0.95}
        fixed = {"labels": "l", "labels_source": "l", "rows": 500, "method": "m", "created": "now"}
        store(path, Record(goal=goal, router=router_fingerprint(path), overall=threshold, **fixed))

    calibrated(Threshold(612_345, rows=500, share=0.3, drop_pct=0.2, upper_drop_pct=0.9))
    [finding] = [one for one in preflight(config) if one.field == "policy.max_drop_pct"]
    assert (finding.level, policy_of(config).threshold) == ("ok", 0.612345)  # type: ignore[union-attr]
    assert "calibrated on 500 queries: threshold 0.612345, about 30% to small" in finding.message
    calibrated(Threshold(ALL_TO_LARGE, rows=500, share=0.0, drop_pct=0.0, kept=False, rows_needed=900))
    [finding] = [one for one in preflight(config) if one.field == "policy.max_drop_pct"]
    assert (finding.level, policy_of(config).threshold > 1) == ("warn", True)  # type: ignore[union-attr]
    assert "could not be promised: every query goes to large" in finding.message


def test_a_promise_for_each_group_says_which_could_not_be_kept(document: dict[str, Any]) -> None:
    router = document["router"]["path"]
    document["policy"] = {"max_drop_pct": 1.0, "by": "tenant"}
    command = f"hybrid-batch calibrate {router} LABELS --max-drop 1 --confidence 0.95 --by tenant"
    told = found(document, "error")["policy.max_drop_pct"]
    assert "not calibrated for at most 1 % drop with 95 % confidence, per tenant" in told
    assert told.endswith(command)
    policy = Thresholds(ALL_TO_LARGE, "tenant", {"t0": 1, "t1": 2})

    record = calibrate_by("tenant", router, policy.groups)
    assert found(document, "ok")["policy.max_drop_pct"].endswith(": 2 groups; queries of any other go to large")
    assert policy_of(parse_config(document)) == policy
    assert calibration_of(parse_config(document)) == record

    calibrate_by("tenant", router, {"t0": 1} | {f"g{number:02d}": ALL_TO_LARGE for number in range(12)})
    told = found(document, "warn")["policy.max_drop_pct"]
    assert "12 of 13 groups could not be promised and go to large: g00, g01, " in told
    assert told.endswith(f"g09 and 2 more; with more labels: {command}")
    calibrate_by("tenant", router, {"t0": ALL_TO_LARGE})
    assert "could not be promised: every query goes to large" in found(document, "warn")["policy.max_drop_pct"]


def test_a_calibration_must_have_been_told_the_tasks_that_the_job_tells(document: dict[str, Any]) -> None:
    router = Path(document["router"]["path"])
    document["policy"] = {"max_drop_pct": 1.0, "by": "tenant"}
    document["input"]["columns"]["task"] = "tenant"
    calibrate_by("tenant", router, {"t0": 1})
    assert "learned no tasks" in found(document, "warn")["input.columns.task"]
    assert "policy.max_drop_pct" in found(document, "ok")

    card = json.loads((router / "router.json").read_text())
    card["tasks"], card["members"][0]["parts"] = ["t0", "t1"], "tasks"
    (router / "router.json").write_text(json.dumps(card))
    assert found(document, "error")["policy.max_drop_pct"].endswith(" --by tenant --tasks")
    calibrate_by("tenant", router, {"t0": 1})
    assert "without the tasks of the queries" in found(document, "error")["policy.max_drop_pct"]
    calibrate_by("tenant", router, {"t0": 1}, with_tasks=True)
    assert found(document, "error") == {}
    assert found(document, "ok")["input.columns.task"].startswith("told to the router, which knows 2 tasks")
    del document["input"]["columns"]["task"]
    assert "with the tasks of the queries" in found(document, "error")["policy.max_drop_pct"]


def test_a_column_of_numbers_names_no_group_and_no_task(document: dict[str, Any], tmp_path: Path) -> None:
    rows = [{**row, "size": 0.5, "level": 3} for row in questions(10)]
    document["input"] |= {"path": str(write_parquet(tmp_path / "q.parquet", rows)), "format": "parquet"}
    document["input"]["columns"]["task"] = "level"
    document["input"]["keep"] = ["size"]
    document["policy"] = {"max_drop_pct": 1.0, "by": "size"}
    calibrate_by("size", document["router"]["path"], {"0.5": 1})
    message = "column 'size' is double, allowed is text, integer or boolean"
    assert found(document, "error") == {"policy.by": message}
