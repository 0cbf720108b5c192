"""The commands as a user and a scheduler see them: words, streams, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hybrid_batch import __version__, pipeline
from hybrid_batch.cli import NOT_PROVED, app
from hybrid_batch.config import load_config
from hybrid_batch.core.errors import HybridBatchError, SparkError
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.ledger import Ledger
from hybrid_batch.spark.source import plan_input
from tests.support.jobs import job_document, questions, save, write_jsonl
from tests.support.local_runs import LocalRun, a_finished_run
from tests.support.paper_router import make_paper_router

ROOT = Path(__file__).parents[2]
MAIN = "from hybrid_batch.cli import main; main()"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    rows = write_jsonl(tmp_path / "in" / "questions.jsonl", questions(30))
    document = job_document(rows, str(tmp_path / "out"), make_paper_router(tmp_path / "router"))
    return Path(save(document, tmp_path))


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def process(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


def test_version() -> None:
    assert call("version") == (0, f"hybrid-batch {__version__}\n", "")


def test_check_explains_and_finds(job: Path) -> None:
    code, out, err = call("check", job, "--limit", 5, "--set", "sampling.seed=7")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert "the first 5 rows of jsonl" in words
    assert "the 40 % of the queries with the highest scores go to small" in words
    assert "seed 7" in words
    assert "router paper, 4 files" in words
    assert words.endswith("Ready to run.")


def test_check_of_what_cannot_work_exits_with_2(job: Path) -> None:
    code, out, _ = call("check", job, "--set", "router.path=/no/router")
    assert code == 2
    assert "Not ready: 1 thing to mend." in out


def test_a_wrong_configuration_is_one_sentence_and_2(job: Path) -> None:
    code, out, err = call("run", job, "--set", "policy.small_share=4")
    assert (code, out) == (2, "")
    assert (
        err
        == "error: --set policy.small_share: policy.small_share: 4 is not allowed; allowed is a number from 0 to 1\n"
    )


def test_a_wrong_date_or_limit_is_refused_like_any_value(job: Path) -> None:
    assert "run.date: 'yesterday' is not allowed" in call("run", job, "--date", "yesterday")[2]
    assert "input.limit: 0 is not allowed" in call("run", job, "--limit", 0)[2]


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(job: Path) -> None:
    code, out, err = call("run", job, "--dry-run", "--date", "2026-11-23")
    assert (code, out) == (0, "")
    assert "would start run test-2026-11-23-" in err
    assert "note: tiers: small and large are the same model" in err
    assert not (job.parent / "out" / "runs").exists()


def test_a_run_that_cannot_work_stops_before_anything_starts(job: Path) -> None:
    code, _, err = call("run", job, "--set", "input.path=/nowhere")
    assert code == 2
    assert err.splitlines()[-1] == "error: input.path: no query file at /nowhere"


def test_status_of_nothing(tmp_path: Path) -> None:
    code, _, err = call("status", tmp_path)
    assert code == 2
    assert "no run here" in err


def test_verify_is_0_for_a_whole_run_and_5_for_a_broken_one(tmp_path: Path) -> None:
    run = a_finished_run(tmp_path, 24)
    code, out, err = call("verify", tmp_path / "out")
    assert code == 0
    assert out.startswith(f"Run {run.layout.run_id} is finished.")
    assert out.endswith("Proved.\n")
    assert f"run {run.layout.run_id}: " in err
    broken = Path(run.layout.results(run.routing.shards[0]))
    broken.unlink()
    code, out, _ = call("verify", run.layout.root)
    assert code == NOT_PROVED
    assert "results: results/tier=small/shard-000000.parquet: is missing" in out
    assert "Not proved: 1 problem." in out
    assert call("verify", tmp_path / "nothing")[0] == 2


def test_a_watched_status_ends_at_one_interruption(tmp_path: Path) -> None:
    run = LocalRun(tmp_path, 24).plan().score().route()
    command = [sys.executable, "-c", MAIN, "status", run.layout.root, "--watch", "--every", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline().startswith("generate small: 0 of ")
        watcher.send_signal(signal.SIGINT)
        out, err = watcher.communicate(timeout=60)
    assert watcher.returncode == 130
    assert "is unfinished." in out
    assert "Traceback" not in err


def test_a_watched_status_of_a_finished_run_is_its_status(tmp_path: Path) -> None:
    run = a_finished_run(tmp_path, 24)
    code, out, err = call("status", tmp_path / "out", "--watch")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].endswith(", finished")
    assert out.splitlines()[1:] == call("status", run.layout.root)[1].splitlines()
    assert "--every" in call("status", run.layout.root, "--every", "0")[2]


def test_missing_arguments_exit_with_2() -> None:
    assert call("run")[0] == 2
    assert call("check", "--bogus")[0] == 2


def test_spark_properties_are_what_java_reads(job: Path) -> None:
    code, out, _ = call("spark-properties", job, "/log", "--dry-run", "--set", r"spark.conf={a.b: 'x: y\z = 1'}")
    assert code == 0
    assert "spark.master=local[2,4]" in out.splitlines()
    assert r"a.b=x\:\ y\\z\ \=\ 1" in out.splitlines()


def test_spark_properties_of_a_retry_are_those_of_its_run(job: Path) -> None:
    config = load_config(job, ["spark.conf={a.b: 'x'}"])
    plan = pipeline.draft_plan(config, plan_input(config.input.to_spec()))
    ledger = Ledger(RunLayout.of(config.run.output, plan.run_id))
    ledger.commit_plan(plan)
    assert call("spark-properties", ledger.layout.root, "/log", "--retry")[0] == 2
    ledger.commit_manifest({})
    given = ("--retry", "--errors", "timeout", "--dry-run", "--set", "spark.master=local[3]")
    code, out, _ = call("spark-properties", ledger.layout.root, "/log", *given)
    assert code == 0
    assert {"a.b=x", "spark.master=local[3,4]"} <= set(out.splitlines())


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'pyspark', 'torch', 'pyarrow', 'pydantic', 'numpy', 'boto3', 'matplotlib', 'yaml'}"
    code = f"""
import sys
from hybrid_batch.cli import main
try:
    main(["--help"])
except SystemExit as end:
    print(end.code, sorted({heavy} & set(sys.modules)))
"""
    assert process(code).stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize("error", [HybridBatchError, *HybridBatchError.__subclasses__(), SparkError])
def test_every_error_ends_with_its_own_exit_code(error: type[HybridBatchError]) -> None:
    code = f"""
import typer
from hybrid_batch.cli.base import errors_told
from hybrid_batch.core.errors import *
app = typer.Typer()
@app.command()
def fail():
    with errors_told():
        raise {error.__name__}("the cause\\nmore of it")
app()
"""
    done = process(code)
    assert done.returncode == error.exit_code
    assert done.stderr == "error: the cause\nmore of it\n"


def test_a_traceback_is_shown_only_when_asked_for(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"
    quiet = process(MAIN, "check", absent)
    assert (quiet.returncode, quiet.stderr) == (2, f"error: {absent}: cannot be read: No such file or directory\n")
    assert "Traceback" in process(MAIN, "check", absent, HYBRID_BATCH_DEBUG="1").stderr


@pytest.mark.parametrize(("name", "exit_code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interruption_says_how_to_go_on(name: str, exit_code: int) -> None:
    code = f"""
import os, signal, time, typer
from hybrid_batch.cli.base import errors_told
app = typer.Typer()
@app.command()
def wait():
    with errors_told():
        os.kill(os.getpid(), signal.{name})
        time.sleep(60)
app()
"""
    done = process(code)
    assert done.returncode == exit_code
    assert done.stderr == "interrupted; run the same command to resume\n"


def test_the_spark_submit_entry_point_is_the_run_command(job: Path) -> None:
    command = [sys.executable, str(ROOT / "jobs" / "run_batch.py"), str(job), "--dry-run"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0
    assert "would start run test-" in done.stderr


def test_submit_refuses_before_spark_starts(tmp_path: Path) -> None:
    def submit(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HYBRID_BATCH_LOG_DIR": str(tmp_path), "PYSPARK_DRIVER_PYTHON": sys.executable}
        command = [str(ROOT / "submit.sh"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    assert submit("--help").stdout.startswith("usage: ./submit.sh [--label | --retry] CONFIG")
    assert submit().returncode == 2
    done = submit("--retry", str(tmp_path), "--", "--errors", "timeout")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}: no run here; give the folder of a run")
    done = submit("absent.yaml", "--master", "local[1]")
    assert done.returncode == 2
    assert done.stderr == "error: absent.yaml: cannot be read: No such file or directory\n"
