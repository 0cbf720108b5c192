"""Which runs stand in the way of a start, and which do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid_batch import pipeline
from hybrid_batch.conflicts import require_same_input
from hybrid_batch.core.errors import RunConflictError
from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import Plan, run_id
from hybrid_batch.ledger import Ledger
from hybrid_batch.spark.source import plan_input
from tests.support.jobs import job_document, load, questions, write_jsonl
from tests.support.paper_router import make_paper_router


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The plan of a first start on two files."""
    folder = tmp_path_factory.mktemp("drafted")
    for name in ("a", "b"):
        write_jsonl(folder / "in" / f"{name}.jsonl", questions(12))
    document = job_document(folder / "in" / "a.jsonl", str(folder / "out"), make_paper_router(folder / "router"))
    document["input"]["path"] = str(folder / "in")
    config = load(document, folder)
    return pipeline.draft_plan(config, plan_input(config.input.to_spec()))


def changed(
    plan: Plan, *, name: str = "test", date: str | None = None, at: str = "2026-01-01", **identity: Any
) -> Plan:
    found = {**plan.identity, **identity}
    return replace(
        plan, identity=found, fingerprint=fingerprint(found), run_id=run_id(name, date, found), created_at=at
    )


def other_input(plan: Plan, size: int, **more: Any) -> Plan:
    (url, _, etag), *rest = plan.identity["files"]
    return changed(plan, files=[[url, size, etag], *rest], **more)


def begun(output: Path, plan: Plan, *, finished: bool = False) -> Ledger:
    ledger = Ledger(RunLayout.of(str(output), plan.run_id))
    ledger.commit_plan(plan)
    if finished:
        ledger.commit_manifest({})
    return ledger


def test_nothing_stands_in_the_way_of_the_first_run(tmp_path: Path, drafted: Plan) -> None:
    require_same_input(str(tmp_path / "out"), drafted)


def test_an_unfinished_run_with_other_input_does(tmp_path: Path, drafted: Plan) -> None:
    ledger = begun(tmp_path, other_input(drafted, 1))
    with pytest.raises(RunConflictError, match=rf"^{ledger.layout.root}: this run is unfinished.*\(2026-01-01\)"):
        require_same_input(f"file://{tmp_path}/", drafted)


def test_what_is_no_conflict(tmp_path: Path, drafted: Plan) -> None:
    size = 1
    for plan, finished in [
        (changed(drafted), False),  # the same run
        (other_input(drafted, size), True),
        (other_input(drafted, size, limit=5), False),  # other in more than its input
        (changed(drafted, sampling={}), False),
        (other_input(drafted, size, name="test-retry"), False),
        (other_input(drafted, size, name="tests"), False),
        (other_input(drafted, size, date="2026-11-23"), False),
    ]:
        begun(tmp_path, plan, finished=finished)
    unreadable = Ledger(RunLayout.of(str(tmp_path), "test-0123456789ab"))
    Path(unreadable.layout.root).mkdir(parents=True)
    Path(unreadable.layout.plan).write_text("{}")
    (tmp_path / "runs" / "test-abcdefabcdef").mkdir()
    require_same_input(str(tmp_path), drafted)


@pytest.mark.parametrize("dates", [("2026-11-23", "2026-11-24"), (None, None)])
def test_a_night_that_was_left_stands_in_the_way_of_the_next_unless_nights_have_dates(
    tmp_path: Path, drafted: Plan, dates: tuple[str | None, str | None]
) -> None:
    begun(tmp_path, other_input(drafted, 1, date=dates[0]))
    following = other_input(drafted, 2, date=dates[1])
    if dates[0] == dates[1]:
        with pytest.raises(RunConflictError, match="size 1 -> 2 bytes"):
            require_same_input(str(tmp_path), following)
    else:
        require_same_input(str(tmp_path), following)


@pytest.mark.parametrize(("at", "stands"), [("2026-01-02", False), ("2025-12-31", True)])
def test_a_run_like_it_that_began_later_and_is_finished_ends_the_conflict(
    tmp_path: Path, drafted: Plan, at: str, stands: bool
) -> None:
    begun(tmp_path, other_input(drafted, 1))
    begun(tmp_path, other_input(drafted, 2, at=at), finished=True)
    if stands:
        with pytest.raises(RunConflictError):
            require_same_input(str(tmp_path), drafted)
    else:
        require_same_input(str(tmp_path), drafted)


def test_of_several_the_newest_is_told(tmp_path: Path, drafted: Plan) -> None:
    begun(tmp_path, other_input(drafted, 1, at="2026-01-01"))
    newest = begun(tmp_path, other_input(drafted, 2, at="2026-01-05"))
    begun(tmp_path, other_input(drafted, 3, at="2026-01-03"))
    with pytest.raises(RunConflictError) as caught:
        require_same_input(str(tmp_path), drafted)
    assert newest.layout.root in str(caught.value)
    assert "size 2 -> " in str(caught.value)
