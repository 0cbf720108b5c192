"""``make bench-plumbing``: how fast score and route are when the router costs nothing, in how much memory.

Made-up queries of 1 KiB go through the score and the route of a run on ``local[2]``, each size in processes of its own,
and through pyarrow alone for comparison.  The last line is JSON with all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import pyarrow.parquet as pq

from benchmarks.process_memory import EVERY_SECONDS, JVM, KINDS, ProcessTree

SIZES: Final = (1_000_000, 4_000_000)
CORES: Final = 2
NIGHT: Final = 100_000_000
ROUTE_STEPS: Final = ("count", "place", "write")


@dataclass(frozen=True)
class Objects:
    """What a step wrote."""

    number: int
    bytes: int


@dataclass(frozen=True)
class Measured:
    """One size: rows and seconds of its parts; seconds and processor seconds of each step; peaks in MB, by step and
    kind of process; objects, by folder."""

    rows: int
    parts: list[tuple[int, float]]
    seconds: dict[str, float]
    cpu_seconds: dict[str, Counter[str]]
    peaks: dict[str, dict[str, float]]
    objects: dict[str, Objects]
    raw_seconds: float

    @property
    def route_seconds(self) -> float:
        return sum(self.seconds[step] for step in ROUTE_STEPS)

    def core_seconds(self, *steps: str) -> float:
        """Processor time of all processes in ``steps``."""
        return sum(self.cpu_seconds[step].total() for step in steps)

    def jvm_share(self, *steps: str) -> float:
        """Share of that which Java took."""
        return sum(self.cpu_seconds[step][JVM] for step in steps) / self.core_seconds(*steps)

    def rate(self, seconds: float) -> float:
        return self.rows / seconds

    def peak(self, kind: str, *steps: str) -> float:
        """Peak of ``kind`` in ``steps``, of all where none is named."""
        return max(self.peaks[step][kind] for step in (steps or self.peaks) if step in self.peaks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plumbing", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="sizes, default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    asked = parser.parse_args(arguments)
    print(f"load before: {os.getloadavg()[0]:.2f}", flush=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        found = [_measure(Path(name) / str(rows), rows) for rows in sorted(asked.rows)]
        profiles = list(_steps("profile", Path(name) / str(min(asked.rows)) / "in", Path(name) / "profile"))
    print(_table(found))
    for told in profiles:
        print(f"\na task of {told['profile']} without Spark, {told['rows']:,} rows in {told['seconds']:.2f} s:")
        print(told["table"])
    print(_night(found[-1]))
    print(json.dumps(_figures(found)))
    return 0


def _measure(folder: Path, rows: int) -> Measured:
    list(_steps("input", folder / "in", rows))
    print(f"{rows:,} queries made", flush=True)
    seconds: dict[str, float] = {}
    cpu: dict[str, Counter[str]] = {}
    used: Counter[str] = Counter()
    parts: list[tuple[int, float]] = []
    with _started("job", folder / "in", folder / "out") as process, ProcessTree(process.pid) as tree:
        for told in _told(process):
            tree.phase = told.get("phase", tree.phase)
            parts = told.get("parts", parts)
            if "step" in told:
                seconds[told["step"]] = told["seconds"]
                used, before = tree.cpu_seconds(), used
                cpu[told["step"]] = used - before
    root = folder / "out" / "runs" / "plumbing"
    written = {name: _objects(root / name) for name in ("scored", "routed")}
    _require_every_row(root, rows, sum(count for count, _ in parts))
    return Measured(rows, parts, seconds, cpu, dict(tree.peaks), written, _raw_seconds(folder))


def _raw_seconds(folder: Path) -> float:
    files = sorted((folder / "in").iterdir())
    shares = [share for place in range(CORES) if (share := files[place::CORES])]
    running = [_started("raw", folder / "raw", *share) for share in shares]
    return max(told["seconds"] for process in running for told in _told(process))


def _require_every_row(root: Path, rows: int, told: int) -> None:
    scored, routed = (sum(_rows(path) for path in root.glob(places)) for places in ("scored/*", "routed/tier=*/*"))
    print(f"rows out: {told:,} told, {scored:,} scored, {routed:,} routed", flush=True)
    if {told, scored, routed} != {rows}:
        raise SystemExit(f"{rows:,} rows went in")


def _rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _objects(folder: Path) -> Objects:
    sizes = [path.stat().st_size for path in folder.rglob("*.parquet")]
    return Objects(len(sizes), sum(sizes))


def _steps(*arguments: object) -> Iterator[dict[str, Any]]:
    with _started(*arguments) as process:
        yield from _told(process)


def _started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.plumbing_parts", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _told(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    if process.wait():
        raise SystemExit(f"{' '.join(map(str, process.args))} ended with exit code {process.returncode}")


def _table(found: Sequence[Measured]) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("rows", [f"{one.rows:,}" for one in found]),
        ("Spark's start, s", [f"{one.seconds['start']:.1f}" for one in found]),
        ("check of ids, s", [f"{one.seconds['ids']:.1f}" for one in found]),
        ("score, s", [f"{one.seconds['score']:.1f}" for one in found]),
        ("score, rows/s", [f"{one.rate(one.seconds['score']):,.0f}" for one in found]),
        ("part: median, s", [f"{median(seconds for _, seconds in one.parts):.1f}" for one in found]),
        ("part: slowest, s", [f"{max(seconds for _, seconds in one.parts):.1f}" for one in found]),
        ("score, core-seconds", [f"{one.core_seconds('score'):.1f}" for one in found]),
        ("score, of it Java", [f"{one.jvm_share('score'):.0%}" for one in found]),
        ("pyarrow alone, rows/s", [f"{one.rate(one.raw_seconds):,.0f}" for one in found]),
        ("score / pyarrow alone", [f"{one.raw_seconds / one.seconds['score']:.2f}" for one in found]),
        *((f"route: {step}, s", [f"{one.seconds[step]:.1f}" for one in found]) for step in ROUTE_STEPS),
        ("route, core-seconds", [f"{one.core_seconds(*ROUTE_STEPS):.1f}" for one in found]),
        ("route, of it Java", [f"{one.jvm_share(*ROUTE_STEPS):.0%}" for one in found]),
        ("route, rows/s", [f"{one.rate(one.route_seconds):,.0f}" for one in found]),
        *((f"peak in score: {kind}, MB", [f"{one.peak(kind, 'score'):,.0f}" for one in found]) for kind in KINDS),
        *((f"peak in route: {kind}, MB", [f"{one.peak(kind, *ROUTE_STEPS):,.0f}" for one in found]) for kind in KINDS),
        ("peak of all, MB", [f"{one.peak('total'):,.0f}" for one in found]),
        *((f"{name}: objects", [f"{one.objects[name].number:,}" for one in found]) for name in found[0].objects),
        *((f"{name}: MB", [f"{one.objects[name].bytes / 1e6:,.0f}" for one in found]) for name in found[0].objects),
    ]
    lines = [f"{name:<28}" + "".join(f"{value:>14}" for value in values) for name, values in rows]
    return "\n".join(["", *lines, "", f"memory: PSS, summed by kind of process, looked at every {EVERY_SECONDS} s"])


def _night(one: Measured) -> str:
    """What a night of a hundred million rows would cost at the rates of ``one``."""
    scale = NIGHT / one.rows
    score, route = (seconds * scale / 3600 for seconds in (one.seconds["score"], one.route_seconds))
    core_hours = one.core_seconds("score", *ROUTE_STEPS) * scale / 3600
    size = sum(written.bytes for written in one.objects.values()) * scale
    rows = [
        ("score, hours", f"{score:.2f}"),
        ("route, hours", f"{route:.2f}"),
        ("both, core-hours", f"{core_hours:.2f}"),
        *((f"{name}: objects", f"{written.number * scale:,.0f}") for name, written in one.objects.items()),
        ("scored and routed, GB", f"{size / 1e9:,.0f}"),
    ]
    lines = [f"{name:<28}{value:>14}" for name, value in rows]
    return "\n".join([f"\n{NIGHT:,} such rows on {CORES} cores, at the rates of {one.rows:,}:", *lines])


def _figures(found: Sequence[Measured]) -> dict[str, Any]:
    figures: dict[str, Any] = {"objects": sum(written.number for written in found[-1].objects.values())}
    for one in found:
        size = _short(one.rows)
        figures |= {
            f"rows_per_s_{size}": round(one.rate(one.seconds["score"])),
            f"peak_rss_mb_{size}": round(one.peak("total")),
            f"route_rows_per_s_{size}": round(one.rate(one.route_seconds)),
            f"raw_rows_per_s_{size}": round(one.rate(one.raw_seconds)),
            f"score_core_us_per_row_{size}": round(one.core_seconds("score") / one.rows * 1e6, 2),
            f"route_core_us_per_row_{size}": round(one.core_seconds(*ROUTE_STEPS) / one.rows * 1e6, 2),
            f"bytes_{size}": sum(written.bytes for written in one.objects.values()),
            **{f"peak_{kind}_mb_{size}": round(one.peak(kind)) for kind in KINDS},
        }
    return figures


def _short(rows: int) -> str:
    """1m for a million, 20k for twenty thousand."""
    for unit, name in ((1_000_000, "m"), (1_000, "k")):
        if rows % unit == 0:
            return f"{rows // unit}{name}"
    return str(rows)


if __name__ == "__main__":
    sys.exit(main())
