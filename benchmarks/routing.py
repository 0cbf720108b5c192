"""``make bench-routing``: our router against simple ones on real data, and our calibration against the paper's.

Every method sees the same training rows and is judged on the same test rows.  The last line is JSON with all figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.routing_sets import VARIABLE, RoutingSet, folder, found_sets, load_set
from hybrid_batch.core.calibration import Promise, calibrate, grid_search
from hybrid_batch.core.labels import Qualities, det_labels, gain_labels
from hybrid_batch.core.metrics import Evaluation, evaluate
from hybrid_batch.core.routing import to_micros
from hybrid_batch.demo.models import ensure_model
from hybrid_batch.engines.router import load_encoder
from hybrid_batch.training.fit import Recipe, fit_members

PROMISE = Promise(max_drop_pct=1.0, confidence=0.95)
CALIBRATION_ROWS = 500
NEIGHBOURS = 100
MAX_LENGTH = 256
INTERVAL_RESAMPLES = 300
CALIBRATED = ("linear", "ours")


@dataclass(frozen=True)
class Rows:
    """Training or test rows as every method gets them."""

    prompts: list[str]
    tasks: list[str | None]
    vectors: np.ndarray
    q: Qualities


Method = Callable[[Rows, Rows], np.ndarray]
"""Training and test rows -> scores of the test rows."""


def by_random(_: Rows, test: Rows) -> np.ndarray:
    """All alike: on average what a random order gives."""
    return np.zeros(len(test.prompts))


def by_oracle(_: Rows, test: Rows) -> np.ndarray:
    """The best order there is, from the answers themselves."""
    return test.q.gap


def by_tfidf(train: Rows, test: Rows) -> np.ndarray:
    """The floor: TF-IDF and logistic regression on det labels."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    model = LogisticRegression(max_iter=1000).fit(words.fit_transform(train.prompts), det_labels(train.q))
    return model.predict_proba(words.transform(test.prompts))[:, 1]


def by_neighbours(train: Rows, test: Rows) -> np.ndarray:
    """The mean gap of the nearest training queries."""
    likeness = test.vectors @ train.vectors.T
    nearest = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return train.q.gap[nearest].mean(axis=1)


def by_line(train: Rows, test: Rows) -> np.ndarray:
    """The paper's det router on a frozen encoder: one linear head."""
    fitted = fit_members(train.vectors, det_labels(train.q), train.tasks, train.prompts, Recipe(("one",)))
    return fitted.score(test.vectors)


def by_ours(train: Rows, test: Rows) -> np.ndarray:
    """The default recipe of ``hybrid-batch train``; the tasks of the test rows are not told."""
    fitted = fit_members(train.vectors, gain_labels(train.q), train.tasks, train.prompts, Recipe())
    return fitted.score(test.vectors)


METHODS: dict[str, Method] = {
    "random": by_random,
    "oracle": by_oracle,
    "floor": by_tfidf,
    "knn": by_neighbours,
    "linear": by_line,
    "ours": by_ours,
}


def rows_of(found: RoutingSet, vectors: np.ndarray, chosen: np.ndarray) -> Rows:
    """The ``chosen`` (bool ``[n]``) rows of a set."""
    part = found.labels.take(chosen)
    return Rows(part.prompts, part.tasks, vectors[chosen], part.qualities)


def resample(scores: np.ndarray, q: Qualities, times: int) -> dict[str, float]:
    """Calibrate on random rows, look at the others: how often a promise is broken, what share goes to small."""
    random, broken, shares = np.random.default_rng(0), np.zeros((times, 2)), np.zeros((times, 2))
    for turn in range(times):
        order = random.permutation(len(scores))
        rows, rest = order[:CALIBRATION_ROWS], order[CALIBRATION_ROWS:]
        found = (
            calibrate(scores[rows], q.take(rows), PROMISE),
            grid_search(scores[rows], q.take(rows), PROMISE.max_drop_pct),
        )
        for place, calibration in enumerate(found):
            small = to_micros(scores[rest]) >= calibration.threshold_micros
            lost = -q.gap[rest][small].sum() / q.mean_large[rest].sum()
            broken[turn, place], shares[turn, place] = 100 * lost > PROMISE.max_drop_pct, small.mean()
    return {
        "calibration_violation": float(broken[:, 0].mean()),
        "calibration_violation_paper": float(broken[:, 1].mean()),
        "cost_advantage": float(shares[:, 0].mean()),
        "cost_advantage_paper": float(shares[:, 1].mean()),
    }


def set_table(name: str, rows: int, found: dict[str, Evaluation]) -> Table:
    """One line for each method."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{name}, {rows:,} test queries", title_justify="left")
    for column in ("", "drop at 10 %", "drop at 20 %", "drop at 40 %", "APGR"):
        table.add_column(column, justify="right" if column else "left")
    for method, figures in found.items():
        cells = [f"{one.value:.2f} ({one.low:.2f}, {one.high:.2f})" for one in figures.drop.values()]
        apgr = figures.apgr
        table.add_row(method, *cells, f"{apgr.value:.3f} ({apgr.low:.3f}, {apgr.high:.3f})")
    return table


@dataclass
class Report:
    """What all sets together came to."""

    figures: dict[str, dict[str, dict[str, float]]]
    promises: list[dict[str, float]]

    def add(self, name: str, judged: dict[str, Evaluation]) -> None:
        for key, share in (("apgr", None), ("drop20", 0.2), ("drop40", 0.4)):
            values = {method: (one.apgr if share is None else one.drop[share]).value for method, one in judged.items()}
            self.figures.setdefault(key, {})[name] = {method: round(value, 4) for method, value in values.items()}

    def to_json(self) -> str:
        """One line: of broken promises the worst set and router counts, of cost advantages the mean."""
        whole = {}
        for key in self.promises[0] if self.promises else ():
            values = [one[key] for one in self.promises]
            whole[key] = round(max(values) if "violation" in key else float(np.mean(values)), 4)
        return json.dumps(self.figures | whole)


def judge(found: RoutingSet, vectors: np.ndarray, resamples: int, console: Console, report: Report) -> None:
    """Every method on one set, and calibrations of two routers where there are rows enough."""
    train, test = rows_of(found, vectors, ~found.test), rows_of(found, vectors, found.test)
    scores = {method: score(train, test) for method, score in METHODS.items()}
    labels = gain_labels(test.q)
    judged = {method: evaluate(one, test.q, labels, INTERVAL_RESAMPLES) for method, one in scores.items()}
    console.print(set_table(found.name, len(test.prompts), judged))
    report.add(found.name, judged)
    for method in CALIBRATED if len(test.prompts) > 2 * CALIBRATION_ROWS else ():
        promised = resample(scores[method], test.q, resamples)
        report.promises.append(promised)
        told = ", ".join(f"{key} {value:.3f}" for key, value in promised.items())
        console.print(f"{method} on {found.name}: {told}")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description=__doc__)
    parser.add_argument("--sets", nargs="*", help="only these sets")
    parser.add_argument("--resamples", type=int, default=300, help="calibrations on random rows, a set and router each")
    options = parser.parse_args(arguments)
    root, console, began = folder(), Console(width=110, highlight=False), time.monotonic()
    names = [name for name in found_sets(root) if not options.sets or name in options.sets]
    console.print(f"sets found in {root}: {', '.join(names) or 'none; set ' + VARIABLE}")
    encoder = load_encoder(ensure_model("all-minilm-l6-v2"), MAX_LENGTH)
    vectors: dict[tuple[str, ...], np.ndarray] = {}
    report = Report({}, [])
    for name in names:
        found = load_set(name, root)
        key = tuple(found.labels.prompts)
        if key not in vectors:
            vectors[key] = encoder.embed(found.labels.prompts).astype(np.float64)
        judge(found, vectors[key], options.resamples, console, report)
    console.print(f"{time.monotonic() - began:,.0f} s")
    print(report.to_json())
    return 0 if names else 2


if __name__ == "__main__":
    sys.exit(main())
