"""Which files count as input."""

from __future__ import annotations

import pytest

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.spark.source import plan_input
from tests.support.inputs import column, read, spec_of, write

LINE = '{"id": "%s", "prompt": "x"}\n'


def test_markers_hidden_files_and_temporary_folders_are_no_input(tmp_path):
    folder = tmp_path / "_in" / "date=2026-11-23"
    write(folder / "part-0.jsonl", LINE % "a")
    write(folder / "deep" / "part-1.jsonl", LINE % "b")
    for name in ("_SUCCESS", "_committed_1", ".part-0.jsonl.crc", "_temporary/0/part-9.jsonl", ".hidden/part-9.jsonl"):
        write(folder / name, "no query")
    spec = spec_of(folder, "jsonl")
    assert column(read(spec), "query_id") == ["b", "a"]
    assert [file.url for file in plan_input(spec).files] == [
        str(folder / "deep/part-1.jsonl"),
        str(folder / "part-0.jsonl"),
    ]


def test_a_file_named_by_itself_is_read_whatever_its_name(tmp_path):
    assert column(read(spec_of(write(tmp_path / "_q.jsonl", LINE % "a"))), "query_id") == ["a"]


@pytest.mark.parametrize("made", [[], ["_SUCCESS"], [".hidden.jsonl"]])
def test_a_place_without_query_files_is_refused(tmp_path, made):
    for name in made:
        write(tmp_path / "in" / name, "x")
    with pytest.raises(InputError, match=rf"^input\.path: no query file at {tmp_path}/in$"):
        plan_input(spec_of(tmp_path / "in", "jsonl"))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_of_no_bytes_is_refused_by_name(tmp_path, suffix):
    write(tmp_path / "in" / f"a.{suffix}", "")
    with pytest.raises(InputError, match=rf"a\.{suffix}: the file is empty \(0 bytes\)"):
        plan_input(spec_of(tmp_path / "in", suffix))


def test_a_file_of_blank_lines_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"q\.jsonl: the file has only blank lines"):
        plan_input(spec_of(write(tmp_path / "q.jsonl", "\n  \n")))


def test_every_text_file_is_looked_at_before_anything_starts(tmp_path):
    for number in range(40):
        write(tmp_path / "in" / f"{number:02d}.csv", "id,prompt\na,x\n" if number != 33 else "id,query\na,x\n")
    with pytest.raises(InputError, match=r"33\.csv: there is no column 'prompt'"):
        plan_input(spec_of(tmp_path / "in", "csv"))


def test_the_etag_changes_with_the_content(tmp_path):
    path = write(tmp_path / "q.jsonl", LINE % "a")
    before = plan_input(spec_of(path)).files
    write(path, LINE % "ab")
    after = plan_input(spec_of(path)).files
    assert before[0].url == after[0].url
    assert before[0].etag != after[0].etag


def test_a_place_that_no_store_holds_is_a_mistake_of_the_configuration(tmp_path):
    with pytest.raises(ConfigError, match="s3a"):
        plan_input(spec_of(tmp_path, "jsonl").__class__(path="s3a://b/x", format="jsonl", prompt_column="p"))
