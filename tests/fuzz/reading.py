"""Read the files of one case as the job does, from the listing to scored parts -> what came of it."""

from __future__ import annotations

import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import OPENAI_BATCH, InputSpec, Split
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.packing import located
from hybrid_batch.core.routing import Thresholds
from hybrid_batch.parquet import from_parquet
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.source import plan_input
from hybrid_batch.spark.tasks import CountScoresTask, IdsTask, SampleKeysTask, ScoreTask
from tests.fuzz.cases import Case
from tests.fuzz.damage import damaged
from tests.fuzz.parquet_files import parquet_content
from tests.fuzz.text_files import text_content

ROWS, REFUSED, FAILED = "rows", "refused", "failed"


@dataclass
class Verdict:
    """``rows`` or ``refused`` are allowed, ``failed`` is not; ``when`` is how far reading came."""

    verdict: str
    what: str
    when: str = ""

    def to_dict(self) -> dict[str, str]:
        return {"verdict": self.verdict, "what": self.what, "when": self.when}


@dataclass
class _Progress:
    when: str = "listing"
    rows: int = 0
    parts: list[int] = field(default_factory=list)


class _Constant:
    """A router that costs nothing."""

    told = "a constant"

    def prepare(self, texts: Any, tasks: Any = None) -> int:
        return len(texts)

    def scores(self, prepared: int) -> np.ndarray:
        return np.full(prepared, 0.5, np.float32)


def judge(case: Case) -> Verdict:
    """Make the files of ``case``, read them, and look at what came of it."""
    with tempfile.TemporaryDirectory(prefix="hybrid-batch-fuzz-") as name:
        folder = Path(name)
        _write(case, folder / "in")
        layout, progress = RunLayout(str(folder / "run")), _Progress()
        try:
            _read(_spec(case, folder / "in"), layout, progress)
        except InputError as error:
            return _refused(error, folder, layout, progress)
        except Exception:  # noqa: BLE001
            return Verdict(FAILED, traceback.format_exc(), progress.when)
        return Verdict(ROWS, f"{progress.rows} rows", progress.when)


def content_of(case: Case) -> bytes:
    """The bytes of the damaged file."""
    made, damages = case["file"], [tuple(one) for one in case["damages"]]
    if made["format"] == "parquet":
        return damaged(parquet_content(made), damages)
    content, pack = text_content(made)
    return pack(damaged(content, damages)) if made["damaged inside"] else damaged(pack(content), damages)


def _write(case: Case, folder: Path) -> None:
    folder.mkdir()
    (folder / "queries").write_bytes(content_of(case))
    if case["beside"]:
        (folder / "whole").write_bytes(content_of({**case, "damages": []}))


def _spec(case: Case, folder: Path) -> InputSpec:
    read_as = case["read as"] or case["file"]["format"]
    sizes = {name: case[name] for name in ("limit", "rows_per_split", "bytes_per_split")}
    keep = ("tenant",) if case["keep"] else ()
    if read_as == OPENAI_BATCH:
        return InputSpec(str(folder), read_as, "custom_id", None, "body", keep, **sizes)
    query = {"prompt_column": None, "messages_column": "messages"} if case["chat"] else {"prompt_column": "prompt"}
    further = {f"{name}_column": name for name in ("request", "image") if case[name]}
    return InputSpec(str(folder), read_as, "id" if case["id"] else None, keep=keep, **query, **further, **sizes)


def _read(spec: InputSpec, layout: RunLayout, progress: _Progress) -> None:
    plan = plan_input(spec)
    progress.when = "ids"
    listed = Listed.of(plan.files, plan.splits)
    splits = _checked(plan.splits, spec, listed)
    progress.when = "score"
    task = ScoreTask(layout, splits, spec, plan.kept, _Constant, listed)
    for number in range(len(splits)):
        (told,) = task(number)
        progress.rows += told["rows"][0].as_py()
        progress.parts.append(number)
    progress.when = "route"
    _require_whole(layout, progress.parts)
    for number in progress.parts:
        list(CountScoresTask(layout, progress.parts, None)(number))
        list(SampleKeysTask(layout, progress.parts, Thresholds(500_000), 1.0)(number))
    known = [split.rows for split in splits]
    if None not in known and sum(known) != progress.rows:
        raise AssertionError(f"{progress.rows} rows were read, {sum(known)} were planned")
    if plan.rows is not None and plan.rows != progress.rows:
        raise AssertionError(f"{progress.rows} rows were read, {plan.rows} were listed")


def _checked(splits: tuple[Split, ...], spec: InputSpec, listed: Listed) -> tuple[Split, ...]:
    """What ``jobs.check_ids`` does, but for the search for doubles."""
    if spec.id_column is None and spec.format == "parquet":
        return splits
    counts: dict[int, int] = {}
    for number in range(len(splits)):
        for batch in IdsTask(splits, spec, listed)(number):
            counts |= {row["piece"]: row["row"] for row in batch.to_pylist() if row["id_hash"] is None}
    return located(splits, [counts[number] for number in range(sum(len(split.pieces) for split in splits))])


def _require_whole(layout: RunLayout, parts: list[int]) -> None:
    for part in parts:
        table = from_parquet(Path(layout.scored(part)).read_bytes())
        table.validate(full=True)
        if table["query_id"].null_count:
            raise AssertionError(f"part {part} has rows without an id")


def _refused(error: InputError, folder: Path, layout: RunLayout, progress: _Progress) -> Verdict:
    first = str(error).partition("\n")[0]
    if not any(f"{folder}/in{name}" in first for name in ("/queries", "/whole")):
        return Verdict(FAILED, f"the first line names no file: {first}", progress.when)
    written = {path.name for path in Path(layout.root).rglob("*") if path.is_file()}
    try:
        _require_whole(layout, progress.parts)
    except (pa.ArrowException, OSError, AssertionError) as broken:
        return Verdict(FAILED, f"a half-written part: {broken}", progress.when)
    if len(written) != len(progress.parts):
        return Verdict(FAILED, f"unknown objects: {sorted(written)}", progress.when)
    return Verdict(REFUSED, first.replace(str(folder), ""), progress.when)
