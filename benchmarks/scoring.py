"""`make bench-score`: the score stage beside the bare encoder, sentence-transformers and Spark's predict_batch_udf.

All of them read the same queries with the same encoder, in turn, several times; the medians are compared.  The figures
go to ``out/bench-score``, and the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks.routing_sets import folder as data_folder
from benchmarks.scoring_queries import found_queries
from benchmarks.scoring_rivals import Crew, Rival, best_bare, predict_udf, run_udf
from hybrid_batch.core.inputs import InputSpec
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.routing import ScoreHistogram, SmallSharePolicy, assign_tiers, decide, to_micros
from hybrid_batch.demo.artefact import assemble_router
from hybrid_batch.engines.base import Backend
from hybrid_batch.engines.router_card import read_card
from hybrid_batch.routers import router_recipe
from hybrid_batch.spark import executor, jobs, tasks
from hybrid_batch.spark.readers import read_split
from hybrid_batch.spark.session import spark_session
from hybrid_batch.spark.source import plan_input
from hybrid_batch.stages.route import count_scores
from hybrid_batch.study.export import export
from hybrid_batch.tables import SCORED

OUTPUT = Path("out/bench-score")
DEMO_SHARE = 0.40
SPLITS_PER_CORE = 4
BATCHES = (8, 16, 32, 64, 128)
SAMPLE, WARM_ROWS = 300, 64
OURS: tuple[Backend, ...] = ("torch-fp32", "torch-bf16", "onnx-int8")
BARE, CREW, SENTENCES, UDF = "bare encoder", "bare, one for each core", "sentence-transformers", "predict_batch_udf"


@dataclass(frozen=True)
class Stage:
    """Our score stage on the queries in the file ``queries``, below ``work``."""

    spark: SparkSession
    router: Path
    queries: Path
    cores: int
    work: Path

    def run(self, backend: Backend) -> float:
        """Seconds for all queries, as the job scores them: read, scored, committed."""
        spec = self.spec(self.queries)
        plan = plan_input(spec)
        layout = RunLayout(str(self.work / "run"))
        shutil.rmtree(layout.root, ignore_errors=True)
        recipe = router_recipe(str(self.router), backend)
        # A worker must not remember the scores of the turn before.
        scorer = partial(executor.scorer, type(recipe)(**{**vars(recipe), "remember": 0}))
        task = tasks.ScoreTask(layout=layout, splits=plan.splits, spec=spec, kept=(), scorer=scorer)
        began = time.perf_counter()
        jobs.score(self.spark, task, range(len(plan.splits)))
        return time.perf_counter() - began

    def scores(self) -> np.ndarray:
        """The scores of the last turn, in the order of the queries."""
        return np.asarray(pq.read_table(f"{self.work}/run/scored").sort_by("query_id")["score"])

    def spec(self, queries: Path) -> InputSpec:
        rows = pq.read_metadata(queries).num_rows
        return InputSpec(
            path=str(queries), format="parquet", id_column="query_id", prompt_column="prompt",
            rows_per_split=-(-rows // (SPLITS_PER_CORE * self.cores)),
        )  # fmt: skip


def main() -> None:
    asked = _arguments()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="bench-score-") as temporary:
        work = Path(temporary)
        texts, source = found_queries(data_folder(), asked.queries)
        print(f"{len(texts):,} different queries: {source}")
        queries = _written(texts, work / "queries.parquet")
        router = Path(shutil.copytree(asked.router or assemble_router(), work / "router"))
        for numbers in ("fp32", "int8"):
            export(str(router), numbers, _Silent(), force=True)
        spark_log = OUTPUT / "spark.log"
        master = f"local[{asked.cores}]"
        with spark_session(app_name="bench-score", master=master, conf={}, log_file=spark_log.absolute()) as spark:
            stage = Stage(spark, router, queries, asked.cores, work)
            _compare(stage, asked, len(texts))


class _Silent:
    def note(self, message: str) -> None: ...

    def progress(self, progress: object) -> None: ...


def _compare(stage: Stage, asked: argparse.Namespace, count: int) -> None:
    card = read_card((stage.router / "router.json").read_bytes())
    (member,) = card.members
    encoder, tokens = stage.router / member.encoder, card.max_length
    texts = pq.read_table(stage.queries)["prompt"].to_pylist()
    sample = _written(texts[:: max(1, count // SAMPLE)], stage.work / "sample.parquet")
    threads_tried = range(1, asked.cores + 1)
    batch, threads = best_bare(encoder, sample, tokens, asked.batches, threads_tried)
    print(f"bare encoder: fastest with {batch} queries a batch and {threads} threads, of {asked.batches} and 1 to "
          f"{asked.cores}")  # fmt: skip
    shares = [_written(texts[core :: asked.cores], stage.work / f"share-{core}.parquet") for core in range(asked.cores)]
    rivals = {
        BARE: Rival("bare", encoder, stage.queries, tokens, batch, threads),
        CREW: Crew([Rival("bare", encoder, share, tokens, batch, 1) for share in shares]),
        SENTENCES: Rival("sentence-transformers", encoder, stage.queries, tokens),
    }
    frames = [stage.spark.read.parquet(str(path)).repartition(asked.cores).cache() for path in (sample, stage.queries)]
    for frame in frames:
        frame.count()
    udf, output = predict_udf(encoder, stage.router / member.head, tokens, member.surface), stage.work / "udf"
    few = Stage(stage.spark, stage.router, sample, stage.cores, stage.work)
    contestants: dict[str, Callable[[], float]] = {
        **{name: rival.run for name, rival in rivals.items()},
        UDF: lambda: run_udf(udf, frames[1], output),
        **{backend: partial(stage.run, backend) for backend in OURS},
    }
    # Workers that have waited for a minute are gone: their start is no part of a turn.
    warm: dict[str, Callable[[], float]] = {
        UDF: lambda: run_udf(udf, frames[0].limit(WARM_ROWS).repartition(asked.cores), output),
        **{backend: partial(few.run, backend) for backend in OURS},
    }
    started: dict[str, float] = {name: rival.start_seconds for name, rival in rivals.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    scores: dict[str, np.ndarray] = {}
    for turn in range(asked.rounds):
        names = list(contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name in warm:
                started.setdefault(name, warm[name]())
                warm[name]()
            seconds[name].append(contestants[name]())
            if name in OURS:
                scores[name] = stage.scores()
        print(f"round {turn + 1} of {asked.rounds}: {_turn(seconds)}", flush=True)
    for rival in rivals.values():
        rival.close()
    _report(stage, count, seconds, started, scores)


def _turn(seconds: Mapping[str, list[float]]) -> str:
    return ", ".join(f"{name} {values[-1]:.1f} s" for name, values in seconds.items())


def _report(
    stage: Stage,
    count: int,
    seconds: Mapping[str, list[float]],
    started: Mapping[str, float],
    scores: Mapping[str, np.ndarray],
) -> None:
    micros = {name: to_micros(values) for name, values in scores.items()}
    threshold = _demo_threshold(scores["torch-fp32"])
    tiers = {name: assign_tiers(values, threshold) for name, values in micros.items()}
    flips = {name: float(np.mean(values != tiers["torch-fp32"])) for name, values in tiers.items()}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = min(OURS, key=lambda name: medians[name])
    print(f"\n{'':<24}{'queries/s':>10}{'seconds':>10}{'spread':>16}{'start-up':>10}{'tiers changed':>15}")
    for name, values in seconds.items():
        speed = f"{count / medians[name]:>10.0f}{medians[name]:>10.1f}"
        spread = f"{min(values):.1f} to {max(values):.1f}"
        changed = f"{flips[name]:.2%}" if name in flips else ""
        print(f"{name:<24}{speed}{spread:>16}{started[name]:>10.1f}{changed:>15}")
    _say_what_limits(stage, fastest)

    def ratio(ours: str, theirs: str) -> float:
        """Of the speeds, turn by turn: what slows the machine down in one turn slows both."""
        return round(statistics.median(b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True)), 3)

    found = {
        "vs_bare": ratio("torch-fp32", BARE),
        "vs_bare_on_each_core": ratio("torch-fp32", CREW),
        "vs_sentence_transformers": ratio("torch-fp32", SENTENCES),
        "vs_predict_batch_udf": ratio("torch-fp32", UDF),
        "fastest": fastest,
        "fastest_vs_sentence_transformers": ratio(fastest, SENTENCES),
        "fastest_vs_bare": ratio(fastest, BARE),
        "tier_flips": round(flips[fastest], 5),
        "largest_difference": round(float(np.abs(scores[fastest] - scores["torch-fp32"]).max()), 6),
        "threshold": threshold / 1e6,
        "queries": count,
        "rounds": len(seconds[BARE]),
        "queries_per_s": {name: round(count / value, 1) for name, value in medians.items()},
    }
    (OUTPUT / "figures.json").write_text(json.dumps({**found, "seconds": seconds}, indent=1))
    print("\n" + json.dumps(found))


def _demo_threshold(scores: np.ndarray) -> int:
    """The threshold that the demo's policy takes for these scores in fp32."""
    rows = pa.RecordBatch.from_pydict({"score": scores, "error_kind": pa.nulls(len(scores), pa.string())})
    counts = count_scores(rows, None)
    histogram = ScoreHistogram(np.asarray(counts["micros"]), np.asarray(counts["rows"]))
    return decide(SmallSharePolicy(DEMO_SHARE), histogram).threshold_micros


def _say_what_limits(stage: Stage, fastest: str) -> None:
    """Where the time of one worker goes, step by step, without Spark."""
    print("\nWhere one worker's time goes (one thread, without Spark):")
    for backend in ("torch-fp32", fastest):
        steps = _steps(stage, backend)  # type: ignore[arg-type]
        total = sum(steps.values())
        print(f"  {backend:<12}" + ", ".join(f"{name} {value / total:.1%}" for name, value in steps.items()))


def _steps(stage: Stage, backend: Backend) -> dict[str, float]:
    from hybrid_batch.engines.router import load_router
    from hybrid_batch.engines.surface import surface_features
    from hybrid_batch.parquet import batches_to_parquet
    from hybrid_batch.stages.score import score_batches

    spec = stage.spec(stage.queries)
    split = plan_input(spec).splits[0]
    router = load_router(stage.router, backend, threads=1, device="cpu", remember=0)
    (encoder,) = router.encoders.values()
    steps: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        began = time.perf_counter()
        result = work()
        steps[name] = time.perf_counter() - began
        return result

    batches: list = timed("read and guard", lambda: list(read_split(split, spec, ())))  # type: ignore[assignment]
    texts = [text for batch in batches for text in batch["prompt"].to_pylist()]
    prepared = timed("tokens", lambda: encoder.prepare(texts))
    surface = timed("surface", lambda: surface_features(texts))
    vectors = timed("encoder", lambda: encoder.vectors(prepared))  # type: ignore[arg-type]
    timed("heads", lambda: [head.score(vectors, None, surface) for _, head in router.heads])  # type: ignore[arg-type]
    scored = list(score_batches(batches, router, SCORED))
    timed("write", lambda: batches_to_parquet(scored, SCORED))
    return steps


def _written(texts: list[str], path: Path) -> Path:
    ids = [f"{number:07d}" for number in range(len(texts))]
    rows = max(1, len(texts) // 16)
    pq.write_table(pa.table({"query_id": ids, "prompt": texts}), path, row_group_size=rows)
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=3000, metavar="N", help="queries [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each [%(default)s]")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), metavar="N", help="Spark's [%(default)s]")
    parser.add_argument("--router", type=Path, metavar="FOLDER", help="router [the demo's]")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="tried for the bare encoder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
