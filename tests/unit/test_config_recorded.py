"""The configuration that a plan recorded, and what may be laid over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybrid_batch.config import AnswerConfig, JobConfig, load_config
from hybrid_batch.config.recorded import recorded_config
from hybrid_batch.core.errors import ConfigError
from tests.golden.update import DATE, ENVIRONMENT, conf_files
from tests.support.jobs import job_document, load

RUNS = [file for file in conf_files() if not file.stem.endswith(("-label", "-train"))]


def record_of(config: JobConfig) -> dict[str, Any]:
    """As it lies in a plan."""
    found: dict[str, Any] = json.loads(json.dumps(config.redacted()))
    return found


def a_job(folder: Path, **tier: Any) -> JobConfig:
    document = job_document(folder / "q.jsonl", str(folder / "out"), folder / "router")
    document["tiers"]["small"] |= tier
    return load(document, folder)


def answers_part(config: AnswerConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in AnswerConfig.model_fields}


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_what_a_plan_recorded_is_what_the_file_said(file: Path) -> None:
    config = load_config(file, [DATE], ENVIRONMENT)
    found = recorded_config(record_of(config), "plan.json", output=config.run.output)
    assert answers_part(found) == answers_part(config)


def test_overrides_and_the_output_are_laid_over_it(tmp_path: Path) -> None:
    config = a_job(tmp_path)
    overrides = ["sampling.max_tokens=99", "tiers.small.usd_per_engine_hour=0.30", "prompt.system=${WORDS}"]
    found = recorded_config(
        record_of(config), "plan.json", overrides, output="/elsewhere", environ={"WORDS": "Be brief."}
    )
    assert (found.sampling.max_tokens, found.run.output) == (99, "/elsewhere")
    assert found.prompt.system == "Be brief."
    assert found.tiers.large == config.tiers.large


def test_text_of_the_record_is_not_read_as_a_variable(tmp_path: Path) -> None:
    record = record_of(a_job(tmp_path))
    record["prompt"]["system"] = "Write ${NAME} where the name goes."
    assert recorded_config(record, "plan.json", output="/o", environ={}).prompt.system == record["prompt"]["system"]


@pytest.mark.parametrize("key", ["input.limit", "run.name", "run.output", "router.path", "policy.threshold", "nothing"])
def test_what_decides_the_rows_cannot_be_changed(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--set {key}: cannot be changed .*allowed are tiers, prompt, sampling"):
        recorded_config(record_of(a_job(tmp_path)), "plan.json", [f"{key}=1"], output="/o")


def test_a_hidden_value_is_asked_for_and_taken_from_either_place(tmp_path: Path) -> None:
    config = a_job(tmp_path, env={"HF_TOKEN": "hunter2", "OMP_NUM_THREADS": "4"})
    record = record_of(config)
    given = ["tiers.small.env.HF_TOKEN=${HF_TOKEN}"]
    with pytest.raises(ConfigError) as caught:
        recorded_config(record, "plan.json", given, output="/o", environ={"HF_TOKEN": "hunter2"})
    message = str(caught.value)
    assert message.startswith("plan.json: tiers.small.env.OMP_NUM_THREADS: is hidden in the record of the run; ")
    assert message.endswith(
        "by --config, or a variable of the environment by --set 'tiers.small.env.OMP_NUM_THREADS=${VARIABLE}'"
    )
    assert "HF_TOKEN" not in message
    given.append("tiers.small.env.OMP_NUM_THREADS=4")
    tiers = recorded_config(record, "plan.json", given, output="/o", environ={"HF_TOKEN": "hunter2"}).tiers
    assert tiers.small == config.tiers.small
    shown = config.model_dump(mode="json")
    assert recorded_config(record, "plan.json", output="/o", shown=shown).tiers.small == config.tiers.small


def test_a_wrong_value_is_told_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--set sampling.max_tokens: sampling.max_tokens: 0 is not allowed"):
        recorded_config(record_of(a_job(tmp_path)), "plan.json", ["sampling.max_tokens=0"], output="/o")


def test_a_record_of_another_version_names_itself(tmp_path: Path) -> None:
    record = record_of(a_job(tmp_path))
    record["tiers"]["small"]["most_seqs"] = 3
    with pytest.raises(ConfigError, match=r"^s3://b/plan.json: tiers.small.most_seqs: unknown key"):
        recorded_config(record, "s3://b/plan.json", output="/o")
