"""The tables of ``benchmarks.routing`` and its one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table

from benchmarks.routing_promises import CALIBRATION_ROWS, PROMISE, Kept
from benchmarks.routing_trans import TransStudy
from hybrid_batch.core.labels import prob_labels, trans_labels
from hybrid_batch.core.metrics import COST_ADVANTAGES, Evaluation, Interval

_DROPS = [f"drop at {share:.0%}, %" for share in COST_ADVANTAGES]


@dataclass
class Report:
    """What all sets together came to: evaluations by set and method, promises by (set, router)."""

    judged: dict[str, dict[str, Evaluation]] = field(default_factory=dict)
    promises: dict[tuple[str, str], Kept] = field(default_factory=dict)

    def add(self, name: str, judged: dict[str, Evaluation]) -> None:
        self.judged[name] = judged

    def rows(self) -> Iterator[tuple[str, str, str, float, float, float]]:
        """Set, method, metric, value, and the ends of its 95 % interval."""
        for name, methods in self.judged.items():
            for method, one in methods.items():
                for metric, found in _figures(one).items():
                    yield name, method, metric, found.value, found.low, found.high

    def to_json(self) -> str:
        """One line: of broken promises the worst set and router counts, of cost advantages the mean."""
        told: dict[str, object] = {
            metric: {
                name: {method: _rounded(_figures(one)[metric].value) for method, one in methods.items()}
                for name, methods in self.judged.items()
            }
            for metric in ("apgr", "drop20", "drop40")
        }
        found = list(self.promises.values())
        for key, values in (
            ("calibration_violation", [one.violation for one in found]),
            ("calibration_violation_paper", [one.violation_paper for one in found]),
        ):
            told[key] = _rounded(max(values)) if values else None
        for key, values in (
            ("cost_advantage", [one.share for one in found]),
            ("cost_advantage_paper", [one.share_paper for one in found]),
        ):
            told[key] = _rounded(float(np.mean(values))) if values else None
        return json.dumps(told)


def set_table(name: str, rows: int, judged: Mapping[str, Evaluation]) -> Group:
    """One line for each method, with 95 % intervals."""
    table = _table([*_DROPS, "APGR"])
    for method, one in judged.items():
        *drops, apgr = _figures(one).values()
        table.add_row(method, *(_cell(drop, 2) for drop in drops), _cell(apgr, 3))
    return Group(f"{name}, {rows:,} test queries", table)


def promises_table(promises: Mapping[tuple[str, str], Kept], times: int) -> Group:
    """One line for each set and router: how often the promise was broken, and what it cost; grid is the paper's."""
    table = _table(["broken", "to small", "grid: broken", "to small", "drawn: broken", "grid, drawn"])
    for (name, method), one in promises.items():
        ours = (one.violation, one.share, one.violation_paper, one.share_paper)
        cells = (*ours, one.violation_drawn, one.violation_drawn_paper)
        table.add_row(f"{name}, {method}", *(f"{value:.1%}" for value in cells))
    promise = f"At most {PROMISE.max_drop_pct:g} % drop with {PROMISE.confidence:.0%} confidence"
    how = f"{times} times on {CALIBRATION_ROWS} rows, judged on the rest (drawn: with replacement, on all)"
    return Group(f"{promise}: {how}", table)


def trans_table(study: TransStudy) -> Group:
    """Drops by kind of label, and how many queries have which label before and after the relaxation."""
    table = _table(_DROPS)
    for kind, values in study.drops.items():
        cells = (f"{drop:.2f} ± {error:.2f}" for drop, error in zip(values, study.error[kind], strict=True))
        table.add_row(kind, *cells)
    table.add_row("random", *(f"{drop:.2f}" for drop in study.random))
    histograms = [
        f"labels with {t}  " + "  ".join(f"{value:g}: {count:,}" for value, count in _counts(labels))
        for t, labels in (
            ("t = 0", prob_labels(study.q)),
            ("t*   ", trans_labels(study.q, study.t_star.t)),
        )
    ]
    case = study.case
    head = f"{case.name}: {len(study.q):,} queries, mean of {case.splits} splits, t* = {study.t_star.t:.3f}"
    return Group(head, table, *histograms, "")


def _counts(labels: np.ndarray) -> Iterator[tuple[float, int]]:
    """Queries by label; each case has one quality of each side, so a label is 0 or 1."""
    yield from zip(*(found.tolist() for found in np.unique(labels, return_counts=True)), strict=True)


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _figures(one: Evaluation) -> dict[str, Interval]:
    return {f"drop{round(100 * share)}": drop for share, drop in one.drop.items()} | {"apgr": one.apgr}


def _cell(found: Interval, digits: int) -> str:
    return f"{found.value:.{digits}f} ({found.low:.{digits}f}, {found.high:.{digits}f})"


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
