"""``make fuzz``: many cases, all their failures, and one line of JSON.

``python -m tests.fuzz.run --cases 10000 --seed 0``; ``--case FILE`` runs one that was printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.cases import Case, cases
from tests.fuzz.reading import FAILED, Verdict
from tests.fuzz.worker import Reader

SHOWN_FAILURES = 20
EVERY = 1_000


def fuzz(count: int, number: int) -> dict[str, object]:
    """Judge ``count`` cases that the seed ``number`` leads to; failures are printed as they are met."""
    reader, seen, started = Reader(), Counter[str](), time.monotonic()
    formats: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def one(case: Case) -> None:
        verdict = reader.judge(case)
        seen[verdict.verdict] += 1
        formats[case["file"]["format"]] += 1
        if verdict.verdict == FAILED and seen[FAILED] <= SHOWN_FAILURES:
            _show(case, verdict)
        if (done := seen.total()) % EVERY == 0:
            print(f"{done:,} cases, {dict(seen)}, {time.monotonic() - started:.0f} s", flush=True)

    try:
        one()
    finally:
        reader.close()
    return {
        "cases": seen.total(),
        "rows": seen["rows"],
        "refused": seen["refused"],
        "failed": seen[FAILED],
        "crashes_or_hangs": reader.deaths,
        "formats": dict(sorted(formats.items())),
        "seed": number,
        "seconds": round(time.monotonic() - started, 1),
    }


def _show(case: Case, verdict: Verdict) -> None:
    print(f"failed while {verdict.when or 'reading'}:\n{verdict.what}\ncase: {json.dumps(case)}\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=Path, help="a file with one case as JSON")
    arguments = parser.parse_args()
    if arguments.case:
        verdict = Reader().judge(json.loads(arguments.case.read_text()))
        print(json.dumps(verdict.to_dict(), indent=1))
        return int(verdict.verdict == FAILED)
    print(f"seed {arguments.seed}", flush=True)
    figures = fuzz(arguments.cases, arguments.seed)
    print(json.dumps(figures))
    return int(figures["failed"] != 0 or figures["cases"] < arguments.cases)


if __name__ == "__main__":
    sys.exit(main())
