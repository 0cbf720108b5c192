"""End the driver in the middle of generation, look for what it left behind, start it again, count rows.

Runs as a test and as a command (``make chaos``), which prints a table and one line of JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hybrid_batch.tables import RESULTS
from tests.support.driver import GONE_S, Driver, left_behind, wait
from tests.support.jobs import job_document, questions, results_of, save, write_jsonl
from tests.support.tiny_router import make_tiny_router

ROWS = 120
START_S, RUN_S = 180.0, 300.0

FAULTS = {
    "Ctrl-C": (signal.SIGINT, True),
    "kill -TERM driver": (signal.SIGTERM, False),
    "kill -9 driver": (signal.SIGKILL, False),
}
"""Signal, and whether it goes to the whole foreground process group as a terminal sends it."""


@dataclass(frozen=True)
class Outcome:
    """What a fault led to.  ``exit_code`` is that of the ended driver, ``left_behind`` counts its processes
    that were still there :data:`GONE_S` seconds later, ``kept`` the shards committed before the end."""

    fault: str
    exit_code: int
    shown: str
    left_behind: int
    kept: int
    touched: int
    rows_in: int
    rows_out: int
    doubled: int
    seconds: float

    @property
    def lost(self) -> int:
        return self.rows_in - (self.rows_out - self.doubled)


def prepare(folder: Path) -> Path:
    """A job whose large tier takes some ten seconds -> its configuration file."""
    router = make_tiny_router(folder / "router")
    path = write_jsonl(folder / "in" / "questions.jsonl", questions(ROWS))
    document = job_document(path, str(folder / "out"), router)
    document["tiers"]["large"]["engine_args"]["tokens_per_second"] = 60
    document["shards"]["rows"] = 8
    return save(document, folder)


def strike(fault: str, folder: Path) -> Outcome:
    """Let ``fault`` happen to a run in ``folder`` -> what came of it.  Raises ``AssertionError`` if the run never
    reaches generation, ends before the fault, or does not finish when it is started again."""
    number, group = FAULTS[fault]
    config, out = prepare(folder), folder / "out"
    driver = Driver(config, folder / "first.log")
    wait(lambda: len(_committed(out)) >= 8 or driver.process.poll() is not None, START_S)
    assert driver.process.poll() is None, f"the run ended before the fault:\n{driver.output}"
    driver.send(number, group=group)
    driver.process.wait(GONE_S)
    left = left_behind(driver)
    kept = {path: path.stat().st_mtime_ns for path in _committed(out)}
    started = time.monotonic()
    again = Driver(config, folder / "again.log")
    code = again.process.wait(RUN_S)
    assert code == 0, f"the second start ended with {code}:\n{again.output}"
    run = next((out / "runs").iterdir())
    ids = results_of(str(run))[RESULTS.names[0]].to_pylist()
    return Outcome(
        fault=fault,
        exit_code=driver.process.returncode,
        shown=driver.output.strip().splitlines()[-1][:60],
        left_behind=len(left),
        kept=len(kept),
        touched=sum(path.stat().st_mtime_ns != before for path, before in kept.items()),
        rows_in=ROWS,
        rows_out=len(ids),
        doubled=len(ids) - len(set(ids)),
        seconds=time.monotonic() - started,
    )


def _committed(out: Path) -> list[Path]:
    return sorted(out.glob("runs/*/results/tier=*/shard-*.parquet"))


def _table(outcomes: Iterable[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("fault", "exit", "processes left", "shards kept", "rewritten", "rows in", "rows out", "lost",
                  "doubled", "seconds to finish", "last line that the user saw")  # fmt: skip
    for end in outcomes:
        values = (end.fault, end.exit_code, end.left_behind, end.kept, end.touched, end.rows_in, end.rows_out)
        table.add_row(*map(str, values), str(end.lost), str(end.doubled), f"{end.seconds:.0f}", end.shown)
    Console(width=170).print(table)


def main() -> int:
    outcomes = []
    for fault in FAULTS:
        with tempfile.TemporaryDirectory(prefix="hybrid-batch-chaos-") as folder:
            outcomes.append(strike(fault, Path(folder)))
    _table(outcomes)
    figures = {
        "faults": len(outcomes),
        "lost": sum(end.lost for end in outcomes),
        "doubled": sum(end.doubled for end in outcomes),
        "left_behind": sum(end.left_behind for end in outcomes),
    }
    print(json.dumps(figures))
    return int(any(figures[name] for name in ("lost", "doubled", "left_behind")))


if __name__ == "__main__":
    sys.exit(main())
