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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession

from benchmarks.routing_sets import folder as data_folder
from benchmarks.scoring_queries import found_queries
from benchmarks.scoring_rivals import Crew, Rival, best_bare, predict_udf, run_udf
from hybrid_batch.core.inputs import InputSpec
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.routing import GRID, to_micros
from hybrid_batch.demo.artefact import assemble_router
from hybrid_batch.engines.base import Backend
from hybrid_batch.engines.router import load_router
from hybrid_batch.engines.router_card import read_card
from hybrid_batch.engines.surface import surface_features
from hybrid_batch.parquet import batches_to_parquet
from hybrid_batch.routers import router_recipe
from hybrid_batch.spark import executor, jobs, tasks
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.readers import read_split
from hybrid_batch.spark.session import spark_session
from hybrid_batch.spark.source import plan_input
from hybrid_batch.stages.score import score_batches
from hybrid_batch.study.agreement import share_changed, share_threshold
from hybrid_batch.study.export import export
from hybrid_batch.tables import SCORED

OUTPUT = Path("out/bench-score")
DEMO_SHARE = 0.40
SPLITS_PER_CORE = 4
BATCHES = (8, 16, 32, 64, 128)
SAMPLE, WARM_ROWS = 300, 64
OURS: tuple[Backend, ...] = ("torch-fp32", "torch-bf16", "onnx-int8")
REFERENCE: Backend = "torch-fp32"
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
        scorer = partial(executor.scorer, replace(recipe, remember=0))
        listed = Listed.of(plan.files, plan.splits)
        task = tasks.ScoreTask(layout=layout, splits=plan.splits, spec=spec, kept=(), scorer=scorer, listed=listed)
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


@dataclass(frozen=True)
class Contestant:
    """``run`` gives the seconds for all queries, ``warm`` those of a few; ``end`` frees what it holds."""

    run: Callable[[], float]
    start_seconds: float | None = None
    warm: Callable[[], float] | None = None
    end: Callable[[], None] | None = None


def _compare(stage: Stage, asked: argparse.Namespace, count: int) -> None:
    contestants = _contestants(stage, asked, count)
    started = {name: one.start_seconds for name, one in contestants.items() if one.start_seconds is not None}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    scores: dict[str, np.ndarray] = {}
    for turn in range(asked.rounds):
        names = list(contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if (warm := contestants[name].warm) is not None:
                # Workers that have waited for a minute are gone: their start is no part of a turn.
                started.setdefault(name, warm())
                warm()
            seconds[name].append(contestants[name].run())
            if name in OURS:
                scores[name] = stage.scores()
        told = ", ".join(f"{name} {values[-1]:.1f} s" for name, values in seconds.items())
        print(f"round {turn + 1} of {asked.rounds}: {told}", flush=True)
    for one in contestants.values():
        if one.end is not None:
            one.end()
    _report(stage, count, seconds, started, scores)


def _contestants(stage: Stage, asked: argparse.Namespace, count: int) -> dict[str, Contestant]:
    card = read_card((stage.router / "router.json").read_bytes())
    (member,) = card.members
    encoder, tokens = stage.router / member.encoder, card.max_length
    texts = pq.read_table(stage.queries)["prompt"].to_pylist()
    sample = _written(texts[:: max(1, count // SAMPLE)], stage.work / "sample.parquet")
    batch, threads = best_bare(encoder, sample, tokens, asked.batches, range(1, asked.cores + 1))
    tried = f"of {tuple(asked.batches)} and 1 to {asked.cores}"
    print(f"bare encoder: fastest with {batch} queries a batch and {threads} threads, {tried}")
    shares = [_written(texts[core :: asked.cores], stage.work / f"share-{core}.parquet") for core in range(asked.cores)]
    rivals: dict[str, Rival | Crew] = {
        BARE: Rival("bare", encoder, stage.queries, tokens, batch, threads),
        CREW: Crew([Rival("bare", encoder, share, tokens, batch, 1) for share in shares]),
        SENTENCES: Rival("sentence-transformers", encoder, stage.queries, tokens),
    }
    udf = predict_udf(encoder, stage.router / member.head, tokens, member.surface)
    few = replace(stage, queries=sample)
    return {
        **{name: Contestant(rival.run, rival.start_seconds, end=rival.close) for name, rival in rivals.items()},
        UDF: Contestant(partial(run_udf, udf, _cached(stage), stage.work / "udf"), None, _warm_udf(udf, few)),
        **{backend: Contestant(partial(stage.run, backend), None, partial(few.run, backend)) for backend in OURS},
    }


def _cached(stage: Stage) -> DataFrame:
    """The queries in Spark's memory, a partition for each core."""
    frame = stage.spark.read.parquet(str(stage.queries)).repartition(stage.cores).cache()
    frame.count()
    return frame


def _warm_udf(udf: Callable[..., Column], few: Stage) -> Callable[[], float]:
    frame = _cached(few).limit(WARM_ROWS).repartition(few.cores)
    return partial(run_udf, udf, frame, few.work / "udf")


def _report(
    stage: Stage,
    count: int,
    seconds: Mapping[str, list[float]],
    started: Mapping[str, float],
    scores: Mapping[str, np.ndarray],
) -> None:
    micros = {name: to_micros(values) for name, values in scores.items()}
    threshold = share_threshold(micros[REFERENCE], DEMO_SHARE)
    flips = {name: share_changed(values, micros[REFERENCE], threshold) for name, values in micros.items()}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = min(OURS, key=lambda name: medians[name])
    print(f"\n{'':<24}{'queries/s':>10}{'seconds':>10}{'spread':>16}{'start-up':>10}{'tiers changed':>15}")
    for name, values in seconds.items():
        speed = f"{count / medians[name]:>10.0f}{medians[name]:>10.1f}"
        spread = f"{min(values):.1f} to {max(values):.1f}"
        changed = f"{flips[name]:.2%}" if name in flips else ""
        print(f"{name:<24}{speed}{spread:>16}{started[name]:>10.1f}{changed:>15}")
    print("\nWhere one worker's time goes (one thread, without Spark):")
    for backend in (REFERENCE, fastest):
        steps = _steps(stage, backend)
        shares = (f"{name} {value / sum(steps.values()):.1%}" for name, value in steps.items())
        print(f"  {backend:<12}" + ", ".join(shares))
    found = {
        **_ratios(seconds, fastest),
        "tier_flips": round(flips[fastest], 5),
        "largest_difference": round(float(np.abs(micros[fastest] - micros[REFERENCE]).max()) / GRID, 6),
        "threshold": threshold / GRID,
        "queries": count,
        "rounds": len(seconds[BARE]),
        "queries_per_s": {name: round(count / value, 1) for name, value in medians.items()},
    }
    (OUTPUT / "figures.json").write_text(json.dumps({**found, "seconds": seconds}, indent=1))
    print("\n" + json.dumps(found))


def _ratios(seconds: Mapping[str, list[float]], fastest: str) -> dict[str, float | str]:
    """Of the speeds, turn by turn: what slows the machine down in one turn slows both."""

    def ratio(ours: str, theirs: str) -> float:
        return round(statistics.median(b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True)), 3)

    return {
        "vs_bare": ratio(REFERENCE, BARE),
        "vs_bare_on_each_core": ratio(REFERENCE, CREW),
        "vs_sentence_transformers": ratio(REFERENCE, SENTENCES),
        "vs_predict_batch_udf": ratio(REFERENCE, UDF),
        "fastest": fastest,
        "fastest_vs_sentence_transformers": ratio(fastest, SENTENCES),
        "fastest_vs_bare": ratio(fastest, BARE),
    }


def _steps(stage: Stage, backend: Backend) -> dict[str, float]:
    """Seconds of each step for the queries of one task, one after the other."""
    spec = stage.spec(stage.queries)
    split = plan_input(spec).splits[0]
    router = load_router(stage.router, backend, threads=1, device="cpu", remember=0)
    (encoder,) = router.encoders.values()
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - began

    with step("read and guard"):
        batches = list(read_split(split, spec, ()))
    texts = [text for batch in batches for text in batch["prompt"].to_pylist()]
    with step("tokens"):
        prepared = encoder.prepare(texts)
    with step("surface"):
        surface = surface_features(texts)
    with step("encoder"):
        vectors = encoder.vectors(prepared)
    with step("heads"):
        for _, head in router.heads:
            head.score(vectors, None, surface)
    scored = list(score_batches(batches, router, SCORED))
    with step("write"):
        batches_to_parquet(scored, SCORED)
    return seconds


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
