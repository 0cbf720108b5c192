"""What makes two runs the same run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.identity import identity_of, versions
from hybrid_batch.routers import router_fingerprint
from hybrid_batch.spark.source import plan_input
from tests.support.calibrated import calibrate_by
from tests.support.jobs import job_document, load, questions, write_parquet
from tests.support.paper_router import make_paper_router


@pytest.fixture
def setting(tmp_path) -> dict:
    path = write_parquet(tmp_path / "in" / "q.parquet", questions(12))
    make_paper_router(tmp_path / "router")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    document = job_document(path, str(tmp_path / "out"), tmp_path / "router")
    for tier in ("small", "large"):
        document["tiers"][tier] |= {"model": str(model), "server": "vllm", "engine_args": {}}
    return {"document": document, "folder": tmp_path}


def identify(setting: dict, *overrides: str) -> str:
    config = load(setting["document"], setting["folder"], overrides)
    return fingerprint(identity_of(config, plan_input(config.input.to_spec())))


@pytest.mark.parametrize(
    "override",
    [
        "tiers.small.usd_per_engine_hour=9.99",
        "spark.master=local[7]",
        "spark.conf={spark.ui.enabled: 'true'}",
        "shards.rows=3",
        "run.output=/elsewhere",
        "run.log_dir=/var/log",
        "run.max_error_rate=0.5",
        "input.rows_per_split=3",
        "input.bytes_per_split=999",
        "tiers.small.max_num_seqs=3",
    ],
)
def test_what_changes_no_answer_changes_no_identity(setting, override):
    assert identify(setting, override) == identify(setting)


@pytest.mark.parametrize(
    "override",
    [
        "policy.small_share=0.41",
        "policy.threshold=0.4",
        "sampling.max_tokens=9",
        "sampling.seed=1",
        "sampling.temperature=0.1",
        "sampling.min_tokens=0",
        "prompt.system=Be brief.",
        "input.limit=5",
        "input.max_prompt_bytes=99",
        "input.keep=[]",
        "input.columns.task=tenant",
        "tiers.large.model=org/other",
        "tiers.large.dtype=float16",
        "tiers.large.max_model_len=77",
        "tiers.large.engine_args={enforce_eager: true}",
    ],
)
def test_what_may_change_an_answer_changes_the_identity(setting, override):
    assert identify(setting, override) != identify(setting)


def test_what_an_endpoint_is_not_sent_is_part_of_the_identity_and_the_name_of_the_bound_is_not(setting):
    setting["document"]["tiers"]["large"] = {"endpoint": "https://host/v1", "model": "big"}
    before = identify(setting)
    assert identify(setting, "tiers.large.unsent=[]") == before
    assert identify(setting, "tiers.large.max_tokens_field=max_completion_tokens") == before
    unsent = identify(setting, "tiers.large.unsent=[top_p, temperature]")
    assert unsent != before
    assert identify(setting, "tiers.large.unsent=[temperature, top_p]") == unsent


@pytest.mark.parametrize("name", ["in/q.parquet", "model/config.json", "model/model.safetensors", "router/router.json"])
def test_another_file_is_another_run(setting, name):
    before = identify(setting)
    path = Path(setting["folder"]) / name
    if name.endswith("q.parquet"):
        write_parquet(path, questions(13))
    elif name.startswith("router"):
        path.write_text(path.read_text().replace('"paper"', '"other"'))
    else:
        path.write_bytes(path.read_bytes() + b" ")
    assert identify(setting) != before


def test_another_threshold_of_any_group_is_another_run(setting):
    setting["document"]["policy"] = {"max_drop_pct": 1.0, "by": "tenant"}
    path = setting["document"]["router"]["path"]

    def calibrated(**thresholds: int) -> str:
        calibrate_by("tenant", path, thresholds)
        return identify(setting)

    before = calibrated(t0=500_000, t1=700_000)
    assert calibrated(t1=700_000, t0=500_000) == before
    assert len({before, calibrated(t0=500_000, t1=700_001), calibrated(t0=500_000), calibrated()}) == 4


def test_the_task_is_kept_whether_or_not_it_is_named_twice(setting):
    folder, task = setting["folder"], "input.columns.task=tenant"
    spec = load(setting["document"], folder, [task, "input.keep=[]"]).input.to_spec()
    assert (spec.keep, spec.task_column) == (("tenant",), "tenant")
    assert identify(setting, task, "input.keep=[]") == identify(setting, task)


def test_a_hidden_file_beside_the_model_is_none_of_it(setting):
    before = identify(setting)
    (Path(setting["folder"]) / "model" / ".cache").write_text("x")
    assert identify(setting) == before


def test_where_ids_are_made_from_places_the_folder_counts_and_else_it_does_not(setting):
    folder = Path(setting["folder"]) / "in"
    write_parquet(folder / "day" / "q.parquet", questions(12))
    (folder / "q.parquet").unlink()
    above, below = f"input.path={folder}", f"input.path={folder}/day"
    assert identify(setting, above) == identify(setting, below)
    setting["document"]["input"]["columns"].pop("id")
    assert identify(setting, above) != identify(setting, below)
    assert identify(setting, above) == identify(setting, above + "/")


def test_a_folder_that_is_no_router_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"router\.path: .*nothing holds no router\.json"):
        router_fingerprint(str(tmp_path / "nothing"))


def test_a_run_is_recorded_with_the_versions_that_made_it():
    found = versions()
    assert {"hybrid-batch", "python", "pyarrow"} <= set(found)
    assert all(isinstance(version, str) and version for version in found.values())
