"""The benchmark of generation from end to end, on a few prompts: that it runs, and says what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.generating_engines import Turn, engine_kwargs, recipe_of
from benchmarks.generating_failing import failing_row
from benchmarks.generating_peer import PeerFailedError
from benchmarks.generating_rows import (
    LEAST_TOKENS,
    MOST_QUESTION_TOKENS,
    MOST_TOKENS,
    PREFIX_TOKENS,
    Texts,
    duplicates,
    mixed,
    read_rows,
    with_prefixes,
    write_rows,
)
from hybrid_batch.demo.models import ensure_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts(ensure_model("smollm2-135m-instruct"))


def test_rows_are_the_same_each_time_and_ask_for_answers_of_mixed_length(texts: Texts, tmp_path: Path) -> None:
    rows = mixed(texts, 60)
    assert rows == mixed(texts, 60)
    assert read_rows(str(write_rows(rows, tmp_path / "rows.json"))) == rows
    assert len({row.prompt for row in rows}) == 60
    assert {LEAST_TOKENS <= row.max_tokens <= MOST_TOKENS for row in rows} == {True}
    assert len({row.max_tokens for row in rows}) > 10


def test_a_share_of_the_requests_is_asked_again(texts: Texts) -> None:
    rows = duplicates(texts, 50)
    assert len({row.query_id for row in rows}) == 50
    assert len({(row.prompt, row.max_tokens) for row in rows}) == len({row.prompt for row in rows}) <= 30


def test_each_question_follows_one_of_so_many_documents(texts: Texts) -> None:
    rows = with_prefixes(texts, 40, 8)
    documents = {row.prompt[:600] for row in rows}
    assert len(documents) == 8
    assert [row.prompt for row in rows] != sorted(row.prompt for row in rows)
    lengths = [len(texts.ids(row.prompt)) for row in rows]
    # A text that is cut and read again may have a token more or less.
    assert PREFIX_TOKENS - 5 < min(lengths) <= max(lengths) < PREFIX_TOKENS + MOST_QUESTION_TOKENS + 10


def test_more_documents_than_the_texts_make_are_refused(texts: Texts) -> None:
    with pytest.raises(ValueError, match="lower --kv-blocks"):
        with_prefixes(texts, 10, 100_000)


def test_flags_are_the_servers_with_their_types() -> None:
    kwargs = engine_kwargs(recipe_of(Path("/models/one"), 4, 16))
    assert (kwargs["max_num_seqs"], kwargs["num_gpu_blocks_override"]) == (4, 16)
    assert kwargs["enforce_eager"] is True
    assert (kwargs["dtype"], kwargs["model"]) == ("bfloat16", "/models/one")


def test_a_failing_row_is_counted_as_failed_or_with_all_others_as_lost() -> None:
    def ends() -> Turn:
        raise PeerFailedError("one bad row")

    alone = failing_row(lambda: Turn(1.0, {"a": "yes", "b": None}, 3, errors={"context_overflow": 1}), 2)
    assert alone == {"answered": 1, "failed": 1, "lost": 0, "error": "context_overflow"}
    assert failing_row(ends, 2) == {"answered": 0, "failed": 0, "lost": 2, "error": "one bad row"}


@pytest.mark.vllm
@pytest.mark.spark
def test_the_stage_is_compared_with_the_bare_engine(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "benchmarks.generating", "--cases", "duplicates", "--prompts", "12", "--rounds", "1",
        "--shard-rows", "6", "--max-num-seqs", "8", "--peer", "none", "--cores", "1",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["duplicates_vs_engine"] > 0
    assert set(found["rows_per_s"]["duplicates"]) == {"LLM.chat", "hybrid-batch"}
    assert 0 <= found["differ"]["duplicates"]["hybrid-batch"] <= 12
    figures = json.loads((tmp_path / "out" / "bench-generate" / "figures.json").read_text())
    case = figures["cases"]["duplicates"]
    assert case["rows"] == 12
    assert case["hybrid-batch"]["tokens"] > 12
    assert case["hybrid-batch"]["errors"] == {}
