"""How the input is cut, packed and compressed changes nothing about a run."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hybrid_batch import pipeline
from hybrid_batch.core.errors import InputError
from tests.support.jobs import questions, results_of, write_jsonl

ROWS = 60


@pytest.fixture
def unnamed(document, tmp_path):
    """A job whose queries have no ids, in two files, with blank lines between the rows."""
    lines = [json.dumps(row) + "\n" + "\n" * (number % 3) for number, row in enumerate(questions(ROWS))]
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "a.jsonl").write_text("".join(lines[:45]))
    (tmp_path / "night" / "b.jsonl").write_text("".join(lines[45:]))
    document["input"] |= {"path": str(tmp_path / "night"), "columns": {"prompt": "prompt"}}
    return document


def scored(outcome) -> list[dict]:
    parts = sorted(Path(outcome.layout.scored_folder).iterdir())
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def test_rows_keep_their_places_when_a_text_file_is_cut(unnamed, run_job, tmp_path):
    found = {}
    for name, rows_per_split in (("whole", 1000), ("cut", 8)):
        unnamed["input"]["rows_per_split"] = rows_per_split
        unnamed["run"]["output"] = str(tmp_path / f"out-{name}")
        outcome, _ = run_job(unnamed)
        found[name] = outcome
    expected = [f"a.jsonl:{n}" for n in range(45)] + [f"b.jsonl:{n}" for n in range(15)]
    assert [row["query_id"] for row in scored(found["cut"])] == expected
    assert [row["source_row"] for row in scored(found["cut"])] == [*range(45), *range(15)]
    assert scored(found["cut"]) == scored(found["whole"])
    assert len(list(Path(found["whole"].layout.scored_folder).iterdir())) == 1
    assert len(list(Path(found["cut"].layout.scored_folder).iterdir())) > 5

    # What is missing is read again at the same places, counted again.
    part = Path(found["cut"].layout.scored(3))
    before = pq.read_table(part)
    part.unlink()
    Path(found["cut"].layout.manifest).unlink()
    run_job(unnamed)
    assert pq.read_table(part).equals(before)
    assert pipeline.status(found["cut"].layout.root).state == "finished"


def test_compressed_files_are_read(document, run_job, tmp_path):
    plain = write_jsonl(tmp_path / "plain.jsonl", questions(ROWS)).read_bytes()
    packed = tmp_path / "night.jsonl.gz"
    packed.write_bytes(gzip.compress(plain[:1000]) + gzip.compress(plain[1000:]))
    document["input"]["path"] = str(packed)
    outcome, _ = run_job(document)
    assert sorted(results_of(outcome.layout.root)["query_id"].to_pylist()) == [f"q{n:06d}" for n in range(ROWS)]


def test_a_doubled_id_is_found_across_files_and_cuts_with_both_places(document, run_job, tmp_path):
    rows = questions(ROWS)
    rows[57]["query_id"] = rows[40]["query_id"]
    for name, own in (("a", rows[:20]), ("b", rows[20:])):
        write_jsonl(tmp_path / "night" / f"{name}.jsonl", own)
    document["input"] |= {"path": str(tmp_path / "night"), "rows_per_split": 7}
    with pytest.raises(
        InputError, match=r"1 ids stand .*night/b\.jsonl row 20 and .*night/b\.jsonl row 37 \(rows count"
    ):
        run_job(document)


def test_a_broken_line_behind_many_cuts_has_its_number(document, run_job, tmp_path):
    path = write_jsonl(tmp_path / "broken.jsonl", questions(ROWS))
    path.write_text(path.read_text() + "\n\n{broken}\n")
    document["input"] |= {"path": str(path), "rows_per_split": 7}
    document["run"]["output"] = str(tmp_path / "never")
    with pytest.raises(InputError, match=r"broken\.jsonl, line 63: not JSON"):
        run_job(document)
    assert not list((tmp_path / "never").rglob("part-*"))
