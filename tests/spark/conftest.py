"""What the Spark tests share: one router artefact, and one Java process for all sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_batch import pipeline
from hybrid_batch.outcome import RunOutcome
from hybrid_batch.spark.session import spark_session
from tests.support.jobs import Recorder, job_document, load, questions, write_jsonl
from tests.support.tiny_router import make_tiny_router


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session")
def tiny_router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_router(tmp_path_factory.mktemp("router") / "tiny")


@pytest.fixture(scope="session", autouse=True)
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """One session for all runs, as in a notebook: a run uses the active session and leaves it open."""
    log_file = tmp_path_factory.mktemp("spark") / "spark.log"
    with spark_session(app_name="tests", master="local[2]", conf={}, log_file=log_file) as session:
        yield session


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_router: Path
) -> tuple[RunOutcome, Recorder, dict[str, Any]]:
    """One finished run for the tests that only look."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_jsonl(folder / "in" / "questions.jsonl", questions(120))
    document = job_document(path, str(folder / "out"), tiny_router)
    recorder = Recorder()
    return pipeline.run(load(document, folder), recorder), recorder, document


@pytest.fixture
def document(tmp_path: Path, tiny_router: Path) -> dict[str, Any]:
    """A job of 120 questions; tests change what they are about."""
    path = write_jsonl(tmp_path / "in" / "questions.jsonl", questions(120))
    return job_document(path, str(tmp_path / "out"), tiny_router)


@pytest.fixture
def run_job(tmp_path: Path) -> Callable[..., tuple[RunOutcome, Recorder]]:
    """Run a document to its end -> what it came back with and what its observer heard."""

    def run(document: dict[str, Any], *overrides: str) -> tuple[RunOutcome, Recorder]:
        recorder = Recorder()
        return pipeline.run(load(document, tmp_path, overrides), recorder), recorder

    return run
