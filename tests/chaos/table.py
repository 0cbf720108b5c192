"""The table of all faults, and the figures in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.fault import Fault
from tests.chaos.outcome import Outcome

WIDTH = 200
_HEADS = ("fault", "what happens", "rows in", "rows out", "lost", "doubled", "tokens / clean", "at most",
          "recovered in", "exit codes", "what the user saw last")  # fmt: skip


def table_of(faults: Sequence[Fault], outcomes: Sequence[Outcome], clean: int, missing: dict[str, str]) -> Table:
    """One row for each fault; those that could not be made say what is ``missing``."""
    table = Table(*_HEADS)
    by_name = {outcome.fault: outcome for outcome in outcomes}
    for fault in faults:
        if (outcome := by_name.get(fault.name)) is not None:
            table.add_row(*row_of(fault, outcome, clean))
        elif fault.name in missing:
            table.add_row(fault.name, fault.what, *[""] * (len(_HEADS) - 3), missing[fault.name])
    return table


def row_of(fault: Fault, outcome: Outcome, clean: int) -> list[str]:
    base = base_of(fault, outcome, clean)
    most = fault.may_cost(base)
    return [
        fault.name,
        fault.what,
        str(outcome.rows_in),
        str(outcome.rows_out),
        str(outcome.lost),
        str(outcome.doubled),
        f"{outcome.tokens} / {base} = {outcome.tokens / base:.3f}",
        "" if most is None else f"{most / base:.2f}",
        "" if outcome.seconds is None else f"{outcome.seconds:.0f} s",
        " ".join(map(str, outcome.exit_codes)),
        outcome.shown[:120],
    ]


def base_of(fault: Fault, outcome: Outcome, clean: int) -> int:
    """Tokens of a clean run of this job: the measured one's, or for a job of another kind those of its results."""
    return outcome.kept_tokens if fault.tokens else clean


def figures(faults: dict[str, Fault], outcomes: Sequence[Outcome], clean: int) -> dict[str, Any]:
    """What is said of all faults together.

    ``max_token_overhead`` is that of the runs in which nothing under way was lost, ``max_token_overhead_in_flight``
    that of those which lost some; ``above_bound`` are the faults that cost more than what was under way.
    """
    rows = [(faults[outcome.fault], outcome) for outcome in outcomes]
    overheads = [(fault, outcome.tokens / base_of(fault, outcome, clean)) for fault, outcome in rows]
    return {
        "faults": len(outcomes),
        "lost": sum(outcome.lost for outcome in outcomes),
        "doubled": sum(outcome.doubled for outcome in outcomes),
        "max_token_overhead": _most(value for fault, value in overheads if fault.shards_lost == 0),
        "max_token_overhead_in_flight": _most(value for fault, value in overheads if fault.shards_lost),
        "above_bound": [fault.name for fault, outcome in rows if above_bound(fault, outcome, clean)],
        "left_behind": sum(outcome.left_behind for outcome in outcomes),
        "rewritten": sum(outcome.rewritten for outcome in outcomes),
        "wrong": {outcome.fault: outcome.wrong for outcome in outcomes if outcome.wrong},
    }


def above_bound(fault: Fault, outcome: Outcome, clean: int) -> bool:
    most = fault.may_cost(base_of(fault, outcome, clean))
    return most is not None and outcome.tokens > most


def _most(values: Any) -> float:
    return round(max(values, default=1.0), 4)


def show(table: Table) -> None:
    Console(width=WIDTH).print(table)
