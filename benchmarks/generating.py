"""`make bench-generate`: the generate stage beside the bare engine, the bare server, and Ray Data LLM.

All of them answer the same prompts with the same model and the same flags of vLLM, in turn, several times, and never
two at once; ratios are taken round by round.  Nobody's prompts are in the engine's prefix cache when a turn begins: it
is emptied, which keeps the engine as warm as it is and the prompts the same, and the peer's engine is a new one each
time.  The figures go to ``out/bench-generate``, and the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pyspark.sql import SparkSession

from benchmarks import generating_rows
from benchmarks.generating_engines import BLOCK_TOKENS, MAX_MODEL_LEN, ROOT, Turn, recipe_of
from benchmarks.generating_failing import failing_row
from benchmarks.generating_ours import Ours, ask_all_at_once
from benchmarks.generating_peer import NAME as PEER
from benchmarks.generating_peer import run_peer
from benchmarks.generating_raw import RawEngine
from benchmarks.generating_rows import PREFIX_TOKENS, Row, Texts, write_rows
from hybrid_batch.demo.models import ensure_model
from hybrid_batch.spark.session import spark_session

OUTPUT: Final = Path("out/bench-generate")
MODEL: Final = "smollm2-135m-instruct"
RAW, SERVER, OURS = "LLM.chat", "server, all at once", "hybrid-batch"
PATIENT_PEER: Final = f"{PEER}, should_continue_on_error"
CASES: Final = ("mixed", "duplicates", "prefixes", "failing")
OVERFLOW: Final = 4
"""How many times the shared prefixes fill the KV cache."""

Run = Callable[[], Turn]


@dataclass(frozen=True)
class Case:
    """Some rows for engines of ``max_num_seqs`` sequences and, where it is not None, so many blocks of KV cache."""

    name: str
    rows: Sequence[Row]
    max_num_seqs: int
    kv_blocks: int | None = None
    with_server: bool = False
    with_peer: bool = False
    with_patient_peer: bool = False


def main() -> None:
    asked = _arguments()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    model = Path(ensure_model(MODEL))
    texts = Texts(model)
    print(f"prompts: {texts.source}", flush=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-generate-") as work, _spark(asked.cores) as spark:
        bench = Bench(spark, model, Path(work), asked.rounds, asked.shard_rows, asked.peer)
        for case in _cases(texts, asked):
            turns, started = bench.compare(case)
            found[case.name] = _told(case, turns, started)
        if "failing" in asked.cases:
            rows = generating_rows.mixed(texts, min(asked.prompts, asked.shard_rows))
            found["failing"] = bench.failing(rows, asked.max_num_seqs)
    figures = _figures(found)
    (OUTPUT / "figures.json").write_text(json.dumps({**figures, "cases": found}, indent=1))
    print("\n" + json.dumps(figures))


def _spark(cores: int) -> Any:
    log = (OUTPUT / "spark.log").absolute()
    return spark_session(app_name="bench-generate", master=f"local[{cores}]", conf={}, log_file=log)


def _cases(texts: Texts, asked: argparse.Namespace) -> Iterator[Case]:
    seqs, blocks = asked.max_num_seqs, asked.kv_blocks
    if "mixed" in asked.cases:
        rows = generating_rows.mixed(texts, asked.prompts)
        yield Case("mixed", rows, seqs, with_server=True, with_peer=asked.peer is not None)
    if "duplicates" in asked.cases:
        yield Case("duplicates", generating_rows.duplicates(texts, asked.prompts), seqs)
    if "prefixes" in asked.cases:
        prefixes = -(-OVERFLOW * blocks * BLOCK_TOKENS // PREFIX_TOKENS)
        rows = generating_rows.with_prefixes(texts, asked.prefix_prompts, prefixes)
        yield Case("prefixes", rows, asked.prefix_seqs, blocks)


@dataclass(frozen=True)
class Bench:
    """What all cases share; ``peer`` is the interpreter of the peer's environment, where there is one."""

    spark: SparkSession
    model: Path
    work: Path
    rounds: int
    shard_rows: int
    peer: Path | None

    def compare(self, case: Case) -> tuple[dict[str, list[Turn]], dict[str, float]]:
        """All turns of each contestant, and what those that stay up took to start."""
        with self._contestants(case) as (runs, started):
            turns: dict[str, list[Turn]] = {name: [] for name in runs}
            for number in range(self.rounds):
                names = list(runs)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    turns[name].append(runs[name]())
                seconds = ", ".join(f"{name} {values[-1].seconds:.1f} s" for name, values in turns.items())
                print(f"{case.name}, round {number + 1} of {self.rounds}: {seconds}", flush=True)
        return turns, started

    @contextmanager
    def _contestants(self, case: Case) -> Iterator[tuple[dict[str, Run], dict[str, float]]]:
        """Name -> what runs one turn; each has had a first turn's work by then."""
        recipe, logs = recipe_of(self.model, case.max_num_seqs, case.kv_blocks), OUTPUT.absolute()
        folder = self.work / case.name
        folder.mkdir()
        rows = write_rows(case.rows, folder / "rows.json")
        raw = RawEngine(recipe, logs / "llm-chat.log")
        try:
            raw.run(write_rows(case.rows[:2], folder / "few.json"))
            ours = Ours(self.spark, recipe, folder, logs)
            shards = ours.routed("routed", case.rows, self.shard_rows)
            runs: dict[str, Run] = {RAW: partial(raw.run, rows), OURS: partial(ours.run, shards)}
            if case.with_server:
                runs[SERVER] = lambda: ask_all_at_once(ours.fresh(), case.rows)
            if case.with_peer and self.peer is not None:
                runs[PEER] = partial(run_peer, self.peer, recipe, rows, logs / "peer.log")
            if case.with_patient_peer and self.peer is not None:
                runs[PATIENT_PEER] = partial(run_peer, self.peer, recipe, rows, logs / "peer.log", go_on=True)
            yield runs, {RAW: raw.start_seconds, OURS: ours.start()}
        finally:
            raw.close()

    def failing(self, rows: Sequence[Row], max_num_seqs: int) -> dict[str, Any]:
        """What one row whose prompt is longer than the window does to each."""
        overlong = Row("overlong", "yes " * (2 * MAX_MODEL_LEN), rows[0].max_tokens)
        case = Case("failing", [*rows, overlong], max_num_seqs, with_peer=True, with_patient_peer=True)
        with self._contestants(case) as (runs, _):
            found = {name: failing_row(run, len(case.rows)) for name, run in runs.items()}
        for name, values in found.items():
            print(f"one overlong row among {len(case.rows)}: {name}: {json.dumps(values)}", flush=True)
        return found


def _told(case: Case, turns: Mapping[str, list[Turn]], started: Mapping[str, float]) -> dict[str, Any]:
    """The case's table, printed and as figures."""
    count = len(case.rows)
    title, heads = f"{case.name}, {count} rows", f"{'rows/s':>8}{'tokens/s':>10}{'seconds':>9}{'spread':>16}"
    print(f"\n{title:<24}{heads}{'start-up':>10}")
    figures: dict[str, Any] = {}
    for name, values in turns.items():
        seconds = [turn.seconds for turn in values]
        median = statistics.median(seconds)
        start = statistics.median(turn.start_seconds for turn in values) or started.get(name, 0.0)
        speed = f"{count / median:>8.2f}{values[-1].tokens / median:>10.0f}{median:>9.1f}"
        print(f"{name:<24}{speed}{f'{min(seconds):.1f} to {max(seconds):.1f}':>16}{start:>10.1f}")
        if any(turn.errors for turn in values):
            raise SystemExit(
                f"{case.name}: {name} left rows unanswered, so its speed is none: {dict(values[-1].errors)}"
            )
        figures[name] = {
            "seconds": seconds, "start_seconds": start, "tokens": values[-1].tokens,
            "errors": dict(values[-1].errors), "differ": _differing(values[-1], turns[RAW][-1]),
        }  # fmt: skip
    figures["rows"], figures["differ_between_rounds"] = count, _differing(turns[RAW][0], turns[RAW][-1])
    told = ", ".join(f"{name} {figures[name]['differ']}" for name in turns if name != RAW)
    print(f"answers that differ from {RAW}'s: {told}; its own, first round to last: {figures['differ_between_rounds']}")
    return figures


def _differing(one: Turn, other: Turn) -> int:
    return sum(one.answers.get(query_id) != text for query_id, text in other.answers.items())


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is promised of the ratios; those of cases that did not run are left out."""
    figures: dict[str, Any] = {}
    if mixed := found.get("mixed"):
        bare = [mixed[name]["seconds"] for name in (RAW, SERVER)]
        figures["vs_engine"] = _ratio([min(pair) for pair in zip(*bare, strict=True)], mixed[OURS]["seconds"])
        if PEER in mixed:
            figures |= _beside_peer(mixed[OURS], mixed[PEER])
    for name in ("duplicates", "prefixes"):
        if name in found:
            figures[f"{name}_vs_engine"] = _ratio(found[name][RAW]["seconds"], found[name][OURS]["seconds"])
    compared = {name: case for name, case in found.items() if name != "failing"}
    for key in ("rows_per_s", "differ"):
        figures[key] = {name: _by_contestant(case, key) for name, case in compared.items()}
    if "failing" in found:
        figures["failing_row"] = found["failing"]
    return figures


def _beside_peer(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, Any]:
    whole = [[seconds + one["start_seconds"] for seconds in one["seconds"]] for one in (peer, ours)]
    return {"vs_peer": _ratio(peer["seconds"], ours["seconds"]), "vs_peer_with_start": _ratio(*whole), "peer": PEER}


def _by_contestant(case: Mapping[str, Any], key: str) -> dict[str, float]:
    contestants = {name: values for name, values in case.items() if isinstance(values, dict)}
    if key == "differ":
        return {name: values["differ"] for name, values in contestants.items() if name != RAW}
    return {name: round(case["rows"] / statistics.median(one["seconds"]), 3) for name, one in contestants.items()}


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Of the speeds, round by round: what slows the machine down in one round slows both."""
    return round(statistics.median(their / our for their, our in zip(theirs, ours, strict=True)), 3)


def _arguments() -> argparse.Namespace:
    peer = ROOT / ".venv-ray" / "bin" / "python"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="[all]")
    parser.add_argument("--prompts", type=int, default=256, metavar="N", help="[%(default)s]")
    parser.add_argument("--prefix-prompts", type=int, default=320, metavar="N", help="with prefixes [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each [%(default)s]")
    parser.add_argument("--shard-rows", type=int, default=64, metavar="N", help="rows of a shard [%(default)s]")
    parser.add_argument("--max-num-seqs", type=int, default=32, metavar="N", help="of the engines [%(default)s]")
    parser.add_argument("--prefix-seqs", type=int, default=16, metavar="N", help="with prefixes [%(default)s]")
    parser.add_argument("--kv-blocks", type=int, default=64, metavar="N", help="with prefixes [%(default)s]")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), metavar="N", help="Spark's [%(default)s]")
    parser.add_argument("--peer", type=_python, default=peer if peer.exists() else None, help="its python, or none")
    return parser.parse_args()


def _python(text: str) -> Path | None:
    return None if text == "none" else Path(text)


if __name__ == "__main__":
    main()
