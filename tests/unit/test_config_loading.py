"""Files that build on files, environment variables, and values from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hybrid_batch.config import EndpointTier, JobConfig, ServerTier, load_config
from hybrid_batch.core.errors import ConfigError

JOB: dict[str, Any] = {
    "run": {"name": "night", "output": "${OUT:-/tmp/out}/{date}", "date": "2026-11-23"},
    "input": {"path": "${IN}", "format": "jsonl", "columns": {"id": "id", "prompt": "question"}},
    "router": {"path": "router"},
    "policy": {"threshold": 0.5},
    "tiers": {"small": {"model": "org/small", "gpus": 2, "usd_per_gpu_hour": "1.20"}, "large": {"model": "org/large"}},
}
ENVIRONMENT = {"IN": "queries", "HOME": "/home/someone"}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write(tmp_path / "job.yaml", JOB)


def write(file: Path, data: object) -> Path:
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return file


def load(file: Path, *overrides: str) -> JobConfig:
    return load_config(file, overrides, ENVIRONMENT)


def refusal(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, *overrides)
    return str(caught.value)


def test_variables_defaults_and_the_date_are_filled_in(job: Path) -> None:
    config = load(job)
    assert config.input.path == "queries"
    assert config.run.output == "/tmp/out/2026-11-23"


def test_an_empty_variable_takes_its_default_as_in_a_shell(job: Path) -> None:
    assert load_config(job, (), {**ENVIRONMENT, "OUT": ""}).run.output == "/tmp/out/2026-11-23"
    assert load_config(job, (), {**ENVIRONMENT, "OUT": "/data"}).run.output == "/data/2026-11-23"


def test_an_unset_variable_names_field_and_variable(job: Path) -> None:
    with pytest.raises(ConfigError, match=r"job\.yaml: input\.path: the environment variable IN is not set"):
        load_config(job, (), {})


def test_an_unquoted_date_is_a_date(job: Path) -> None:
    write(job, yaml.safe_dump(JOB).replace("'2026-11-23'", "2026-11-24"))
    assert load(job).run.date == "2026-11-24"


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("sampling.max_tokens=64", ("sampling", "max_tokens"), 64),
        ("run.date=2026-12-01", ("run", "date"), "2026-12-01"),
        ("input.keep=[tenant, task]", ("input", "keep"), ("tenant", "task")),
        ("run.name=a=b", ("run", "name"), None),
        ("prompt.system=Answer: in one word", ("prompt", "system"), None),
        ('prompt.system="Answer: in one word"', ("prompt", "system"), "Answer: in one word"),
    ],
)
def test_overrides_are_yaml(job: Path, override: str, field: tuple[str, str], value: object) -> None:
    if value is None:
        assert f"--set {override.partition('=')[0]}" in refusal(job, override)
    else:
        assert getattr(getattr(load(job, override), field[0]), field[1]) == value


def test_a_price_from_the_command_line_needs_no_quotes(job: Path) -> None:
    small = load(job, "tiers.small.usd_per_gpu_hour=2.40").tiers.small
    assert isinstance(small, ServerTier)
    assert str(small.usd_per_gpu_hour) == "2.40"


@pytest.mark.parametrize("override", ["sampling", "=3", "sampling..x=3", "input.keep=[a"])
def test_an_override_that_cannot_be_read_is_refused(job: Path, override: str) -> None:
    assert refusal(job, override).startswith("--set ")


def test_an_unknown_override_names_the_nearest_key_and_the_option(job: Path) -> None:
    told = refusal(job, "sampling.max_tokns=64")
    assert told.startswith("--set sampling.max_tokns: sampling.max_tokns: unknown key; did you mean max_tokens?")


def test_a_later_choice_replaces_an_earlier_one(job: Path) -> None:
    config = load(job, "policy.small_share=0.4", "tiers.small.usd_per_engine_hour=1", "input.columns.messages=turns")
    assert config.policy.threshold is None
    assert config.policy.small_share == 0.4
    assert isinstance(config.tiers.small, ServerTier)
    assert config.tiers.small.usd_per_gpu_hour is None
    assert config.input.columns.prompt is None
    assert config.input.columns.id == "id"


def test_a_tier_can_be_moved_to_an_endpoint_and_back(job: Path) -> None:
    moved = load(job, "tiers.small.endpoint=http://host:8000/v1/")
    assert isinstance(moved.tiers.small, EndpointTier)
    assert moved.tiers.small.endpoint == "http://host:8000/v1"
    back = load(job, "tiers.small.endpoint=http://host:8000/v1/", "tiers.small.server=fake")
    assert isinstance(back.tiers.small, ServerTier)


def test_an_overlay_says_only_what_differs(job: Path) -> None:
    write(job.parent / "overlay.yaml", {"base": "job.yaml", "sampling": {"seed": 3}, "run": {"name": "other"}})
    top = write(job.parent / "top.yaml", {"base": "overlay.yaml", "sampling": {"max_tokens": 9}})
    config = load(top)
    assert (config.run.name, config.run.date) == ("other", "2026-11-23")
    assert (config.sampling.seed, config.sampling.max_tokens) == (3, 9)


def test_a_message_names_the_file_that_gave_the_value(job: Path) -> None:
    overlay = write(job.parent / "overlay.yaml", {"base": "job.yaml", "sampling": {"top_p": 7}})
    assert refusal(overlay).startswith(f"{overlay}: sampling.top_p: 7 is not allowed")
    write(job, {**JOB, "shards": {"rows": 0}})
    assert f"{job}: shards.rows: 0 is not allowed" in refusal(overlay)


def test_files_that_build_on_each_other_in_a_circle_are_refused(job: Path) -> None:
    write(job, {"base": "job.yaml"})
    assert "build on each other in a circle" in refusal(job)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "is not valid YAML: line 1"),
        ("a: 1\na: 2\n", "line 2: the key 'a' stands there twice"),
        ("run:\n  name: x\n  name: y\n", "line 3: the key 'name' stands there twice"),
        ("- 1", "holds no mapping"),
        ("", "holds no mapping"),
        ("base: 3", "base: 3 is not allowed"),
        ("base: absent.yaml", "absent.yaml: cannot be read: No such file or directory"),
        ("a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(write(tmp_path / "x.yaml", text))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    assert "it is not UTF-8 text" in refusal(tmp_path / "x.yaml")
