"""Routers exported for real: three kinds of encoder, the scores of each form, and what happens to damaged ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hybrid_batch.calibrations import Record, Threshold
from hybrid_batch.cli import app
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.routing import GRID
from hybrid_batch.engines.base import Backend
from hybrid_batch.engines.exports import FOLDER, GRAPH, RECORD, TOLERANCES, Agreement, Changed, Export
from hybrid_batch.engines.head import save_head
from hybrid_batch.engines.router import load_router
from hybrid_batch.engines.router_card import CARD, ENCODER, FORMAT, HEAD, file_record
from hybrid_batch.routers import router_recipe
from hybrid_batch.spark.executor import router as loaded
from hybrid_batch.study.agreement import compare, share_changed, share_threshold
from hybrid_batch.study.export import export, require_agreement_of
from hybrid_batch.study.probes import PROBES
from hybrid_batch.tables import LABELS
from tests.support.heads import linear_head
from tests.support.jobs import Recorder
from tests.support.tiny_encoders import DIM, make_tiny_encoder
from tests.support.tiny_router import make_tiny_router

KINDS = ("bert", "roberta", "deberta-v2")
WORDS = ["add word1", "spell hard word2 word3 word9", "", "word4 " * 90, "nothing of it is known", "hard"]


def make_router(folder: Path, kind: str) -> Path:
    make_tiny_encoder(folder / ENCODER, kind)
    save_head(folder / HEAD, linear_head(np.random.default_rng(0).normal(size=(1, DIM)) * 3, 0.0))
    files = {path.relative_to(folder).as_posix(): file_record(path) for path in folder.rglob("*") if path.is_file()}
    document = {
        "format": FORMAT,
        "name": kind,
        "label_kind": "det",
        "encoder": {"pooling": "mean", "normalize": True, "max_length": 48, "dim": DIM},
        "members": [{"head": HEAD, "encoder": ENCODER}],
        "files": {name: vars(record) for name, record in files.items()},
    }
    (folder / CARD).write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module", params=KINDS)
def router(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny router of each kind, exported in all numbers."""
    folder = make_router(tmp_path_factory.mktemp("router") / request.param, request.param)
    for numbers in TOLERANCES:
        export(str(folder), numbers, Recorder())
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny router with a real tokenizer, exported as int8; tests copy it before they change it."""
    folder = make_tiny_router(tmp_path_factory.mktemp("router") / "tiny")
    export(str(folder), "int8", Recorder())
    return folder


@pytest.mark.parametrize(("backend", "tolerance"), [("onnx-fp32", 1e-5), ("onnx-int8", 0.02), ("torch-bf16", 0.03)])
def test_every_form_scores_as_torch_does(router: Path, backend: Backend, tolerance: float) -> None:
    reference = load_router(router, "torch", device="cpu").score(WORDS)
    scores = load_router(router, backend, threads=1, device="cpu").score(WORDS)
    assert len(np.unique(reference)) > 3
    assert np.abs(scores - reference).max() <= tolerance


@pytest.mark.parametrize("backend", ["torch", "torch-bf16", "onnx-fp32", "onnx-int8"])
def test_a_score_hangs_on_its_text_alone_in_every_form(router: Path, backend: Backend) -> None:
    texts = [*WORDS, *(" ".join(["word1", "hard", "easy"] * number) for number in range(1, 30))]
    whole = load_router(router, backend, device="cpu", remember=0).score(texts)
    again = load_router(router, backend, threads=1, device="cpu", remember=0)
    order = np.random.default_rng(1).permutation(len(texts))
    assert np.array_equal(again.score([texts[place] for place in order]), whole[order])
    alone = [again.score([text])[0] for text in texts]
    assert np.array_equal(np.array(alone), whole)


def test_the_record_says_what_it_was_made_of(exported: Path) -> None:
    record = json.loads((exported / FOLDER / "int8" / RECORD).read_text())
    assert record["numbers"] == "int8"
    assert record["router"] == load_router(exported).card.fingerprint
    assert record["files"].keys() == {f"{ENCODER}/{GRAPH}"}
    assert [text for text, _ in record["probes"]] == list(PROBES)
    assert 0 < record["largest"] <= record["tolerance"] == 0.02
    assert record["versions"].keys() == {"torch", "transformers", "onnx", "onnxscript", "onnxruntime"}


def test_an_exported_router_is_loaded_without_torch(exported: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom hybrid_batch.engines.router import load_router\n"
        f"print(load_router(Path({str(exported)!r}), 'onnx-int8').score(['Hi']))\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_threads_of_a_worker_are_those_that_it_was_given_and_no_engine_inherits_that(exported: Path) -> None:
    many = 40
    code = (
        "import os, psutil\nfrom dataclasses import replace\n"
        "from hybrid_batch.routers import router_recipe\nfrom hybrid_batch.spark.executor import router\n"
        "before = psutil.Process().num_threads()\n"
        f"router(replace(router_recipe({str(exported)!r}), threads={many}))\n"
        "print(psutil.Process().num_threads() - before)\nassert 'RAYON_NUM_THREADS' not in os.environ"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2 * many - 1  # the tokenizer's, and those of the graph beside its own


def test_auto_takes_the_fastest_export_that_is_there(exported: Path, tmp_path: Path) -> None:
    plain = make_tiny_router(tmp_path / "plain")
    assert router_recipe(str(plain)).export is None
    assert loaded(router_recipe(str(plain))).told == "torch fp32 on cpu"
    recipe = router_recipe(str(exported))
    assert recipe.export is not None
    assert recipe.export.numbers == "int8"
    assert loaded(recipe).told == "onnx int8 on cpu"


def test_auto_passes_over_an_export_that_disagrees_and_says_so(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "router"))
    place = folder / FOLDER / "int8" / RECORD
    record = json.loads(place.read_text())
    record["probes"][3][1] += 0.1
    place.write_text(json.dumps(record))
    scorer = loaded(router_recipe(str(folder)))
    assert scorer.told.startswith("torch fp32 on cpu (onnx-int8 was not used: ")
    assert "scores differ from torch's by up to 0.1" in scorer.told
    assert np.array_equal(scorer.score(["Hi"]), load_router(exported).score(["Hi"]))
    with pytest.raises(ConfigError, match="scores differ from torch's"):
        loaded(router_recipe(str(folder), "onnx-int8"))


def test_auto_does_not_take_an_export_of_another_version(exported: Path, tmp_path: Path) -> None:
    folder = make_tiny_router(tmp_path / "router", seed=1)
    shutil.copytree(exported / FOLDER, folder / FOLDER)
    assert router_recipe(str(folder)).export is None
    with pytest.raises(ConfigError, match=r"is not exported as int8; run: hybrid-batch export .* --numbers int8"):
        router_recipe(str(folder), "onnx-int8")


def test_a_graph_that_is_none_is_told(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "router"))
    graph = folder / FOLDER / "int8" / ENCODER / GRAPH
    graph.write_bytes(b"no graph")
    place = folder / FOLDER / "int8" / RECORD
    record = json.loads(place.read_text())
    record["files"] = {f"{ENCODER}/{GRAPH}": vars(file_record(graph))}
    place.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"model\.onnx: ONNX Runtime cannot load it"):
        load_router(folder, "onnx-int8")


def test_the_command_exports_beside_the_router_and_says_how_near_the_scores_are(tmp_path: Path) -> None:
    folder = make_tiny_router(tmp_path / "router")
    result = CliRunner().invoke(app, ["export", str(folder), "--numbers", "fp32"])
    assert result.exit_code == 0, result.output
    assert f"Exported  {folder}/exports/fp32" in result.output
    assert "allowed are 2e-05" in result.output
    assert (folder / FOLDER / "fp32" / ENCODER / GRAPH).is_file()
    assert load_router(folder, "onnx-fp32").told == "onnx fp32 on cpu"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labels table of 150 different queries."""
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    prompts = [f"What follows from {number} and {number * 37 % 101}?" * (1 + number % 3) for number in range(150)]
    rows = [
        {"query_id": str(number), "prompt": prompt, "q_small": [float(number % 2)], "q_large": [1.0]}
        for number, prompt in enumerate(prompts)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=LABELS), path)
    return path


def test_with_labels_the_command_says_which_tiers_change_and_how_fast_it_is(tmp_path: Path, labels: Path) -> None:
    folder = make_tiny_router(tmp_path / "router")
    calibrated = CliRunner().invoke(app, ["calibrate", str(folder), str(labels), "--small-share", "0.3"])
    assert calibrated.exit_code == 0, calibrated.output
    without = CliRunner().invoke(app, ["export", str(folder)])
    assert without.exit_code == 2
    assert "this router is calibrated: give --labels" in without.stderr
    result = CliRunner().invoke(app, ["export", str(folder), "--labels", str(labels)])
    assert result.exit_code == 0, result.output
    assert "150 texts" in result.output
    assert "times that of torch" in result.output
    asked = [line.split("%")[0] for line in result.output.splitlines() if " % to the small model" in line]
    assert [text.strip() for text in asked] == ["30", "20", "40", "60"]
    again = CliRunner().invoke(app, ["export", str(folder), "--labels", str(labels)])
    assert again.exit_code == 2
    assert "is exported as int8 already; --force exports it again" in again.stderr


def part(threshold_micros: int) -> Threshold:
    return Threshold(threshold_micros, rows=1, share=0.5, drop_pct=0.0)


def test_tiers_are_compared_at_every_calibrated_threshold_on_the_rows_that_it_is_for(exported: Path) -> None:
    texts = [f"word {number} and some more" for number in range(40)]
    tasks = ["a", "b", None, "b"] * 10
    fixed = {"labels": "l", "labels_source": "s", "rows": 1, "method": "m", "created": "now"}
    plain = Record({"small_share": 0.5}, "f", overall=part(400_000), **fixed)
    groups = {"a": part(300_000), "b": part(500_000), "nobody": part(1)}
    grouped = Record(
        {"max_drop_pct": 1.0, "confidence": 0.9}, "f", overall=part(GRID + 1), by="task", groups=groups,
        with_tasks=True, **fixed,
    )  # fmt: skip
    torch, onnx = (load_router(exported, backend, device="cpu", remember=0) for backend in ("torch", "onnx-int8"))
    found = compare(torch, onnx, texts, tasks, [plain, grouped])
    assert [(one.what, one.threshold, one.rows) for one in found.changed] == [
        ("50 % to the small model", 0.4, 40),
        ("at most 1 % drop with 90 % confidence, per task: a", 0.3, 10),
        ("at most 1 % drop with 90 % confidence, per task: b", 0.5, 20),
        *(
            (f"{share} % to the small model", found.changed[3 + place].threshold, 40)
            for place, share in enumerate((20, 40, 60))
        ),
    ]
    first, second = torch.score(texts), onnx.score(texts)
    assert found.largest == pytest.approx(float(np.abs(first.astype(float) - second).max()), abs=1e-6)
    expected = np.mean((first >= np.float32(0.4)) != (second >= np.float32(0.4)))
    assert found.changed[0].share == pytest.approx(expected)


def test_scores_that_differ_put_queries_into_other_tiers() -> None:
    one, other = np.array([100, 500, 500, 900]), np.array([100, 499, 501, 901])
    assert share_changed(one, other, 500) == 0.25
    assert share_changed(one, one, 500) == 0.0
    assert share_threshold(one, 0.5) == 900  # equal scores stay together


def test_an_export_that_differs_too_much_is_not_written() -> None:
    record = Export("int8", "f", 0.02, 0.0, [], {}, {})
    most = (Changed("a", 0.5, 0.004, 5000), Changed("b", 0.7, 0.006, 1000), Changed("c", 0.1, 0.9, 999))
    require_agreement_of(record, Agreement(5000, 0.0, 0.02, 1.0, (most[0], most[2])))
    with pytest.raises(ConfigError, match=r"0\.60% of 1,000 queries change .* 0\.700000 \(b\)"):
        require_agreement_of(record, Agreement(5000, 0.0, 0.02, 1.0, most))
    with pytest.raises(ConfigError, match=r"a score differs from torch's by 0\.020001"):
        require_agreement_of(record, Agreement(5000, 0.0, 0.020001, 1.0, ()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{router}", "--numbers", "int4"], "numbers is 'int4', allowed are int8, fp32"),
        (["{router}/nothing"], "holds no router.json"),
    ],
)
def test_the_command_refuses_what_it_cannot_export(exported: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["export", *(text.format(router=exported) for text in arguments)])
    assert result.exit_code == 2
    assert message in result.stderr
