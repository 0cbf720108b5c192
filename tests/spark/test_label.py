"""A labelling on real Spark: the sample, several answers of both models, their qualities, and what a restart does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from hybrid_batch import labelling, pipeline
from hybrid_batch.config.labelling import load_label_config
from hybrid_batch.core.errors import ConfigError, InputError, RowErrorRateError
from hybrid_batch.core.proof import OK
from hybrid_batch.engines.fake_answers import VOCABULARY
from hybrid_batch.labelling import Labelled
from hybrid_batch.labelset import read_labels
from hybrid_batch.verification import verify
from tests.support.jobs import Recorder, job_document, questions, write_jsonl

ROWS, SAMPLE, ANSWERS = 120, 40, 3

Label = Callable[..., tuple[Labelled, Recorder]]


def asked(rows: int = ROWS) -> list[dict[str, Any]]:
    """Questions whose reference is one word of the fake engine's language."""
    return [
        {**row, "wanted": VOCABULARY[number % len(VOCABULARY)], "how": "contains"}
        for number, row in enumerate(questions(rows))
    ]


def label_document(path: Path, output: str) -> dict[str, Any]:
    """The small model has room for few words, so both models answer differently."""
    document = job_document(path, output, Path("unused"))
    del document["router"], document["policy"]
    document["input"] |= {"keep": [], "columns": {"id": "query_id", "prompt": "prompt", "task": "tenant"}}
    document["tiers"]["small"]["max_model_len"] = 26
    document["sampling"] = {"max_tokens": 20}
    document["labels"] = {
        "sample": SAMPLE,
        "answers": ANSWERS,
        "reference": "wanted",
        "scorer": {"kind": "contains"},
    }
    return document


def run_label(document: dict[str, Any], folder: Path, *overrides: str) -> tuple[Labelled, Recorder]:
    path = folder / "label.yaml"
    path.write_text(yaml.safe_dump(document))
    recorder = Recorder()
    return labelling.label(load_label_config(path, overrides), recorder), recorder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Labelled, Recorder, dict[str, Any]]:
    """One labelling for the tests that only look, or only judge again."""
    folder = tmp_path_factory.mktemp("labelled")
    document = label_document(write_jsonl(folder / "in" / "q.jsonl", asked()), str(folder / "out"))
    return *run_label(document, folder), document


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    return label_document(write_jsonl(tmp_path / "in" / "q.jsonl", asked()), str(tmp_path / "out"))


@pytest.fixture
def label(tmp_path: Path) -> Label:
    return lambda document, *overrides: run_label(document, tmp_path, *overrides)


def rows_of(done: Labelled) -> dict[str, dict[str, Any]]:
    return {row["query_id"]: row for row in pq.read_table(done.url).to_pylist()}


def test_every_sampled_query_gets_the_qualities_of_all_answers(finished):
    done, recorder, _ = finished
    by_id = {row["query_id"]: row for row in asked()}
    rows = rows_of(done)

    assert len(rows) == SAMPLE == done.queries
    assert not rows.keys() & {"q000007", "q000009"}  # null and blank
    for name, row in rows.items():
        assert (row["prompt"], row["task"]) == (by_id[name]["prompt"], by_id[name]["tenant"])
        for tier in ("small", "large"):
            texts = row[f"text_{tier}"]
            assert len(texts) == ANSWERS
            assert row[f"q_{tier}"] == [float(by_id[name]["wanted"] in text.split()) for text in texts]
        assert all(large.startswith(small) for small, large in zip(row["text_small"], row["text_large"], strict=True))
    # Each answer has a seed of its own, so the answers to one query differ.
    assert all(len(set(row["text_large"])) > 1 for row in rows.values())
    found = read_labels(done.url)
    assert 0 < found.qualities.mean_small.mean() < found.qualities.mean_large.mean()
    assert recorder.seen[-1].done_rows == recorder.seen[-1].total_rows == SAMPLE * ANSWERS


def test_the_costs_are_those_of_all_answers(finished):
    done, _, _ = finished
    results = pq.read_table(f"{done.layout.root}/results")
    assert {cost.tier: cost.usage.rows for cost in done.costs} == dict.fromkeys(("small", "large"), SAMPLE * ANSWERS)
    assert sum(cost.usage.completion_tokens for cost in done.costs) == sum(results["completion_tokens"].to_pylist())
    assert all(cost.usd > 0 for cost in done.costs)


def test_a_labelling_is_proved_like_a_run(finished, tmp_path):
    root = tmp_path / "runs" / finished[0].layout.run_id
    shutil.copytree(finished[0].layout.root, root)
    proof = verify(str(root), Recorder())
    assert {check.level for check in proof.checks} == {OK}, proof
    told = {check.name: check.told for check in proof.checks}
    asked_for = SAMPLE * ANSWERS
    assert told["scored table"].startswith(f"{asked_for} ids in ")
    assert told["routed shards"].endswith(f" = ids of the scored table; small {asked_for}, large {asked_for}")

    shards = sorted((root / "routed" / "tier=large").iterdir())
    shards[0].write_bytes(shards[1].read_bytes())
    found = {check.name: check.problems for check in verify(str(root), Recorder()).checks if check.problems}
    assert found.keys() == {"routed shards", "results"}
    lost, extra = found["routed shards"][0], found["routed shards"][-1]
    assert " is not in the routed shards as often as here: scored/part-0000" in lost
    assert " is not in the scored table as often as here: routed/tier=large/" in extra


def test_the_sample_depends_on_ids_alone(finished, document, label, tmp_path):
    first = rows_of(finished[0])
    shuffled = asked()[::-1]
    for number in range(3):
        write_jsonl(tmp_path / "parts" / f"{number}.jsonl", shuffled[number::3])
    other = {**document, "input": {**document["input"], "path": str(tmp_path / "parts")}}
    second = rows_of(label(other, "input.rows_per_split=7", f"run.output={tmp_path / 'other'}")[0])
    assert second == first

    smaller = rows_of(label(document, "labels.sample=10", f"run.output={tmp_path / 'smaller'}")[0])
    assert len(smaller) == 10
    assert smaller.keys() < first.keys()


def test_a_labelling_with_holes_is_filled_and_answers_are_kept(document, label):
    done, _ = label(document)
    root = Path(done.layout.root)
    whole = rows_of(done)
    for name in (
        "manifest.json",
        "results/tier=small/shard-000001.parquet",
        "receipts/tier=small/shard-000001.json",
        "routed/tier=large/shard-000000.parquet",
        f"judged/{Path(done.url).stem}/part-00001.parquet",
        f"labels/{Path(done.url).name}",
    ):
        (root / name).unlink()
    kept = {path: path.stat().st_mtime_ns for path in (root / "results").rglob("*.parquet")}
    state = pipeline.status(str(root))
    again, _ = label(document)

    assert rows_of(again) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (state.state, state.labelling) == ("unfinished", True)
    assert {stage.name: (stage.done_rows, stage.planned_rows) for stage in state.stages} == {
        "sample": (SAMPLE, SAMPLE),
        "generate small": (SAMPLE * ANSWERS - 18, SAMPLE * ANSWERS),
        "generate large": (SAMPLE * ANSWERS, SAMPLE * ANSWERS),
    }


def test_the_same_command_again_does_nothing(finished, label):
    done, _, document = finished
    before = {path: path.stat().st_mtime_ns for path in Path(done.layout.root).rglob("*") if path.is_file()}
    again, recorder = label(document)
    assert again.already_there
    assert {path: path.stat().st_mtime_ns for path in Path(done.layout.root).rglob("*") if path.is_file()} == before
    assert recorder.seen == []


def test_another_scorer_judges_the_same_answers(finished, label):
    done, _, document = finished
    other, recorder = label(document, "labels.scorer.kind=token_f1")
    assert other.layout == done.layout
    assert other.url != done.url
    assert recorder.seen == []  # no model was asked
    assert not any(quality == 1.0 for row in rows_of(other).values() for quality in row["q_large"])


def test_the_mark_comes_with_the_first_labels(document, label):
    with pytest.raises(ConfigError, match="returned None for query"):
        label(document, "labels.scorer.kind=tests.support.scorers:speechless")
    (root,) = Path(document["run"]["output"]).glob("runs/*")
    assert (root / "manifest.json").exists()
    assert not (root / "results" / "_SUCCESS").exists()
    label(document)
    assert (root / "results" / "_SUCCESS").exists()


def test_each_row_may_name_its_scorer(document, label, tmp_path):
    rows = [{**row, "how": "exact" if number % 2 else "contains"} for number, row in enumerate(asked())]
    document["input"]["path"] = str(write_jsonl(tmp_path / "in" / "mixed.jsonl", rows))
    document["labels"]["scorer"] = {"kind": "by_row", "column": "how"}
    found = rows_of(label(document)[0])
    how = {row["query_id"]: row["how"] for row in rows}
    exact = [quality for name, row in found.items() if how[name] == "exact" for quality in row["q_large"]]
    loose = [quality for name, row in found.items() if how[name] == "contains" for quality in row["q_large"]]
    assert sum(exact) < sum(loose)


def test_a_users_function_judges(finished, label):
    done, _, document = finished
    judged, recorder = label(document, "labels.scorer.kind=tests.support.scorers:length")
    assert judged.layout == done.layout
    assert recorder.seen == []
    rows = rows_of(judged)
    for row in rows.values():
        assert row["q_small"] == [len(text) / 1000 for text in row["text_small"]]


def test_answers_that_failed_leave_no_label_and_are_counted(document, label, tmp_path):
    long = [{**row, "prompt": " ".join(["word"] * 40)} if number < 60 else row for number, row in enumerate(asked())]
    document["input"]["path"] = str(write_jsonl(tmp_path / "in" / "long.jsonl", long))
    done, _ = label(document)
    overflown = {row["query_id"] for row in long if row["prompt"] and len(row["prompt"].split()) == 40}
    assert done.manifest["errors"].keys() == {"context_overflow"}
    assert done.queries == SAMPLE
    assert len(done.labels) == 24
    assert not overflown & set(done.labels.query_ids)
    with pytest.raises(RowErrorRateError, match=r"16 of 40 queries have no label \(40.0%\).*context_overflow"):
        labelling.check_label_rate(done, 0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "nothing"}, "there is no column 'nothing'"),
        ({"reference": None}, "reference"),
        ({"scorer": {"kind": "vibes"}}, "vibes"),
        ({"answers": 3, "temperature": 0}, "the same answer 3 times"),
        ({"sample": 0}, "a whole number of queries from 1 to 100,000"),
        ({"scorer": {"kind": "exact", "column": "how"}}, "belongs to kind: by_row"),
        ({"scorer": {"kind": "rouge_l", "options": {"stem": True}}}, "stem"),
        ({"reference": "score"}, "the results have a column of that name"),
    ],
)
def test_what_cannot_work_is_refused_before_any_model_is_loaded(document, label, change, message):
    document["labels"] |= change
    with pytest.raises((ConfigError, InputError), match=message):
        label(document)
    assert not list(Path(document["run"]["output"]).glob("runs/*/results"))


def test_what_a_dry_run_says(document, tmp_path):
    path = tmp_path / "label.yaml"
    path.write_text(yaml.safe_dump(document))
    recorder = Recorder()
    labelling.dry_run(load_label_config(path), recorder)
    assert recorder.notes[-2:] == [
        f"would take {SAMPLE} queries of 1 files, {ANSWERS} answers each",
        f"would start {recorder.notes[-1].split()[2]} in {document['run']['output']}/runs/"
        f"{recorder.notes[-1].split()[2]}",
    ]
    assert not (tmp_path / "out" / "runs").exists()


def test_labels_have_the_columns_of_the_table(finished):
    done, _, _ = finished
    schema = pq.read_schema(done.url)
    assert pa.types.is_list(schema.field("q_small").type)
    assert schema.names == ["query_id", "prompt", "task", "q_small", "q_large", "text_small", "text_large"]
