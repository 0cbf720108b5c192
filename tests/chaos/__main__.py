"""Let every fault happen to a real run, and print what came of it: one table, and one line of JSON at the end."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence

from tests.chaos.fault import Fault
from tests.chaos.faults import CLEAN, FAULTS
from tests.chaos.outcome import Outcome
from tests.chaos.stage import Missing, Stage
from tests.chaos.table import figures, show, table_of

BAD = ("lost", "doubled", "above_bound", "left_behind", "rewritten", "wrong", "failed")


def main() -> int:
    chosen = _chosen()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what a scene started is taken away then as well
    missing: dict[str, str] = {}
    failed: dict[str, str] = {}
    began = time.monotonic()
    with Stage() as stage:
        first = CLEAN.happen(stage)
        _say(first)
        outcomes = [done for fault in chosen if (done := _happened(fault, stage, missing, failed)) is not None]
    show(table_of([CLEAN, *chosen], [first, *outcomes], first.tokens, missing | failed))
    told = figures(FAULTS, outcomes, first.tokens)
    told |= {"missing": missing, "failed": sorted(failed), "seconds": round(time.monotonic() - began)}
    print(json.dumps(told))
    return int(any(told[name] for name in BAD))


def _chosen() -> Sequence[Fault]:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"one of {', '.join(FAULTS)}; without: all")
    names = parser.parse_args().faults
    if unknown := [name for name in names if name not in FAULTS]:
        parser.error(f"there is no fault {unknown[0]!r}; there are {', '.join(FAULTS)}")
    return [FAULTS[name] for name in names or FAULTS]


def _happened(fault: Fault, stage: Stage, missing: dict[str, str], failed: dict[str, str]) -> Outcome | None:
    """What came of it; None where this machine lacks something, or where the run came to no end."""
    try:
        outcome = fault.happen(stage)
    except Missing as lack:
        missing[fault.name] = f"not done: this machine has not {lack}"
        return None
    except Exception as error:  # noqa: BLE001 -- the other faults are still to be shown
        failed[fault.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        print(f"{fault.name}: {error}", file=sys.stderr, flush=True)
        return None
    _say(outcome)
    return outcome


def _say(outcome: Outcome) -> None:
    told = f"lost {outcome.lost}, doubled {outcome.doubled}, {outcome.tokens} tokens, exit {outcome.exit_codes}"
    print(f"{outcome.fault}: {told}, {outcome.total_seconds:.0f} s {outcome.wrong or ''}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
