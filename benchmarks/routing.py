"""``make bench-routing``: our router against simple ones on real data, and our calibration against the paper's.

Every method sees the same training rows and is judged on the same test rows.  Tables go to the terminal; figures with
their intervals (``figures.csv``) and pictures go to ``out/bench-routing``.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.routing_methods import FROZEN, Method, rows_of
from benchmarks.routing_pictures import curves_png, trans_png
from benchmarks.routing_promises import CALIBRATION_ROWS, resample
from benchmarks.routing_report import Report, promises_table, set_table, trans_table
from benchmarks.routing_sets import VARIABLE, RoutingSet, folder, found_sets, has_pairs, load_set
from benchmarks.routing_trans import CASES, case_labels, study
from benchmarks.routing_tuned import tuned_methods
from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.core.labels import gain_labels
from hybrid_batch.core.metrics import evaluate
from hybrid_batch.demo.models import ensure_model
from hybrid_batch.engines.router import load_encoder
from hybrid_batch.engines.router_card import file_record

MAX_LENGTH = 256
INTERVAL_RESAMPLES = 300
CALIBRATED = ("linear", "ours")
TUNED = ("mistral-7b->nemotron-51b", "llama-3.1-8b->nemotron-51b", "gsm8k")
"""Sets on which an encoder is fine-tuned unless asked otherwise: all of them would take an hour."""
LEAST_ROWS = 2 * CALIBRATION_ROWS
"""Test rows below which promises are not tried: so few rows stand for no population."""


class Bench:
    """One run: where data and results lie, and the vectors that were made so far."""

    def __init__(self, root: Path, out: Path, source: Path, console: Console) -> None:
        self.root, self.out, self.console = root, out, console
        self.encoder = load_encoder(source, MAX_LENGTH, device="cpu")
        self.name = file_record(source / "model.safetensors").sha256
        self.report = Report()
        out.mkdir(parents=True, exist_ok=True)

    def vectors(self, prompts: list[str]) -> np.ndarray:
        """Vectors float64 ``[n, dim]`` of ``prompts``; they are kept, so that another run need not make them."""
        kept = self.out / "vectors" / f"{fingerprint([prompts, MAX_LENGTH, self.name])}.npy"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            np.save(kept, self.encoder.embed(prompts))
        found: np.ndarray = np.load(kept, allow_pickle=False).astype(np.float64)
        return found

    def judge(self, found: RoutingSet, methods: dict[str, Method], resamples: int) -> None:
        """Every method on one set, and promises of two routers where there are rows enough."""
        vectors = self.vectors(found.labels.prompts)
        train, test = rows_of(found, vectors, ~found.test), rows_of(found, vectors, found.test)
        scores: dict[str, np.ndarray] = {}
        for name, method in methods.items():
            scores[name] = method(train, test, scores)
        labels = gain_labels(test.q)
        judged = {name: evaluate(one, test.q, labels, INTERVAL_RESAMPLES) for name, one in scores.items()}
        self.console.print(set_table(found.name, len(test.prompts), judged))
        self.report.add(found.name, judged)
        (self.out / f"{found.name.replace('->', '-to-')}.png").write_bytes(curves_png(found.name, test.q, scores))
        for name in CALIBRATED if len(test.prompts) >= LEAST_ROWS else ():
            self.report.promises[found.name, name] = resample(scores[name], test.q, resamples)

    def trans(self) -> None:
        """What trans labels are worth where quality is a real number."""
        for number, case in enumerate(CASES, 1):
            labels = case_labels(case, self.root)
            found = study(case, labels, self.vectors(labels.prompts))
            self.console.print(trans_table(found))
            (self.out / f"trans-{number}.png").write_bytes(trans_png(found))

    def write(self) -> None:
        """``figures.csv``: one line for each set, method and metric."""
        with (self.out / "figures.csv").open("w", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(("set", "method", "metric", "value", "low", "high"))
            writer.writerows(self.report.rows())


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit code: 2 where no set is found."""
    options = _options(arguments)
    root, console, began = folder(), Console(width=118, highlight=False), time.monotonic()
    names = [name for name in found_sets(root) if not options.sets or name in options.sets]
    if not names:
        print(f"no set found in {root}; set {VARIABLE} to the folder that holds the routing data", file=sys.stderr)
        return 2
    console.print(f"sets found in {root}: {', '.join(names)}")
    source = options.encoder or ensure_model("all-minilm-l6-v2")
    bench = Bench(root, options.out, source, console)
    for name in names:
        tuned = tuned_methods(source) if options.full or name in options.tune else {}
        bench.judge(load_set(name, root), FROZEN | tuned, options.resamples)
    if bench.report.promises:
        console.print(promises_table(bench.report.promises, options.resamples))
    if has_pairs(root):
        bench.trans()
    bench.write()
    console.print(f"{time.monotonic() - began:,.0f} s; tables and pictures: {options.out}")
    print(bench.report.to_json())
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description=__doc__)
    parser.add_argument("--sets", nargs="*", help="only these sets")
    parser.add_argument("--tune", nargs="*", default=list(TUNED), help="sets to fine-tune encoders on")
    parser.add_argument("--full", action="store_true", help="fine-tune encoders on all sets")
    parser.add_argument("--resamples", type=int, default=300, help="calibrations on random rows, a set and router each")
    parser.add_argument("--encoder", type=Path, help="folder of another text encoder")
    parser.add_argument("--out", type=Path, default=Path("out/bench-routing"), help="folder of the results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
