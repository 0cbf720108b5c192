"""What a fault led to: every input row once, a manifest that agrees, and what it cost."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tests.chaos.objects import Objects, results_in, results_table
from tests.chaos.scene import Scene

_PLACE = re.compile(r"(s3:/|http:/)?(?<![\w<])/[\w.:=/-]*[\w]")
"""A URL or a path."""


@dataclass(frozen=True)
class Outcome:
    """``tokens`` were generated in all, as the engines count them; ``kept_tokens`` are those of the results.

    ``seconds`` passed from the fault to the end of the run, ``left_behind`` counts processes that outlived their
    driver, ``rewritten`` the results that were there at the fault and were written again, ``wrong`` is what does not
    agree.
    """

    fault: str
    rows_in: int
    rows_out: int
    lost: int
    doubled: int
    tokens: int
    kept_tokens: int
    seconds: float | None
    exit_codes: tuple[int, ...]
    shown: str
    kept: int
    rewritten: int
    left_behind: int
    wrong: tuple[str, ...]
    total_seconds: float


def judge(
    name: str, scene: Scene, seconds: float, left_behind: int, total_seconds: float, failed: int, tokens: int | None
) -> Outcome:
    """Read what the run of ``scene`` left.  ``failed`` rows may have an error; ``tokens`` of the engines, where they
    are known otherwise than from the scene's token log."""
    results = results_table(scene.objects)
    asked = Counter(row["query_id"] for row in scene.rows)
    answered = Counter(results["query_id"].to_pylist())
    after = scene.results()
    return Outcome(
        fault=name,
        rows_in=asked.total(),
        rows_out=answered.total(),
        lost=(asked - answered).total(),
        doubled=(answered - asked).total(),
        tokens=written_tokens(scene) if tokens is None else tokens,
        kept_tokens=_sum(results, "completion_tokens"),
        seconds=seconds if scene.struck_at is not None else None,
        exit_codes=tuple(driver.process.returncode for driver in scene.drivers),
        shown=shown(scene),
        kept=len(scene.kept),
        rewritten=sum(after.get(result) != stamp for result, stamp in scene.kept.items()),
        left_behind=left_behind,
        wrong=tuple(disagreements(scene.objects, results, failed)),
        total_seconds=total_seconds,
    )


def written_tokens(scene: Scene) -> int:
    """Tokens of all answers that the fake engines began."""
    return sum(map(int, scene.token_log.read_text().split()))


def shown(scene: Scene) -> str:
    """The last line of the first driver that did not end well, else what the driver said of a trouble."""
    for driver in scene.drivers:
        lines = driver.output.strip().splitlines()
        if driver.process.returncode != 0:
            return shortened(lines[-1].strip()) if lines else "nothing"
    told = [line for driver in scene.drivers for line in driver.output.splitlines() if _is_trouble(line)]
    return shortened(told[-1].strip()) if told else "nothing: it went on"


def shortened(line: str) -> str:
    """A line without the places of this run."""
    return _PLACE.sub("...", line)


def _is_trouble(line: str) -> bool:
    return any(word in line.lower() for word in ("error:", "warning", "traceback", "exception"))


def disagreements(objects: Objects, results: pa.Table, failed: int) -> list[str]:
    """Where manifest, receipts and ``results`` differ; ``failed`` rows have to have an error."""
    names = objects.stamps()
    manifests = [name for name in names if name.endswith("/manifest.json")]
    if len(manifests) != 1:
        return [f"{len(manifests)} manifests"]
    manifest = json.loads(objects.read(manifests[0]))
    root = manifests[0].removesuffix("/manifest.json")
    found = {
        "rows": results.num_rows,
        "failed_rows": pc.sum(pc.is_valid(results["error_kind"])).as_py(),
        "prompt_tokens": _sum(results, "prompt_tokens"),
        "completion_tokens": _sum(results, "completion_tokens"),
    }
    wrong = [f"{name}: {manifest[name]} in the manifest, {value} in the results" for name, value in found.items()
             if manifest[name] != value]  # fmt: skip
    if found["failed_rows"] != failed:
        wrong.append(f"{found['failed_rows']} rows failed, {failed} had to: {manifest['errors']}")
    receipts = [json.loads(objects.read(name)) for name in names if name.startswith(f"{root}/receipts/")]
    usages: list[dict[str, Any]] = [receipt["usage"] for receipt in receipts]
    if sum(usage["completion_tokens"] for usage in usages) != found["completion_tokens"]:
        wrong.append("the receipts hold other tokens than the results")
    if len(manifest["shards"]) != len(results_in(names)):
        wrong.append(f"{len(manifest['shards'])} shards in the manifest, {len(results_in(names))} results")
    return wrong


def _sum(table: pa.Table, column: str) -> int:
    return pc.sum(table[column]).as_py() or 0
