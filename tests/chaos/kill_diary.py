"""What happened while a driver was killed again and again: written down after each kill, summed up at the end."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PHASES = ("preflight", "ids", "score", "decide", "route", "generate", "account", "finished")


@dataclass(frozen=True)
class Kill:
    """One kill: of run ``run``, ``after_s`` seconds after its start, or after its first commit if it ``had_begun``, in
    ``phase``, with ``results`` committed.

    ``new`` objects were committed in this start, and ``tokens`` were written for it; ``touched`` results were written
    again that were there before it.
    """

    run: int
    after_s: float
    had_begun: bool
    phase: str
    results: int
    new: int
    touched: int
    tokens: int = 0


@dataclass(frozen=True)
class Finished:
    """One run that came to its end."""

    run: int
    kills: int
    rows_in: int
    rows_out: int
    doubled: int
    tokens_written: int
    tokens_in_results: int

    @property
    def lost(self) -> int:
        return self.rows_in - (self.rows_out - self.doubled)


class Diary:
    """What happened so far, in ``folder``: a line of JSON for each kill and each finished run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = folder / "diary.jsonl"
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        entries = [json.loads(line) for line in lines]
        self.kills = [Kill(**one["kill"]) for one in entries if "kill" in one]
        self.finished = [Finished(**one["finished"]) for one in entries if "finished" in one]

    def add(self, event: Kill | Finished) -> None:
        """Write ``event`` down."""
        if isinstance(event, Kill):
            self.kills.append(event)
            self._write({"kill": asdict(event)})
            return
        self.finished.append(event)
        self._write({"finished": asdict(event)})

    def _write(self, entry: dict[str, Any]) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def figures(diary: Diary) -> dict[str, Any]:
    """What all kills and runs came to."""
    ended, kills = diary.finished, diary.kills
    phases = Counter(kill.phase for kill in kills)
    written, needed = sum(run.tokens_written for run in ended), sum(run.tokens_in_results for run in ended)
    return {
        "kills": len(kills),
        "runs": len(ended),
        "rows": sum(run.rows_in for run in ended),
        "lost": sum(run.lost for run in ended),
        "doubled": sum(run.doubled for run in ended),
        "rewritten": sum(kill.touched for kill in kills),
        "token_overhead": round(written / needed, 4) if needed else None,
        "phases": {phase: phases[phase] for phase in PHASES if phases[phase]},
        "without_progress": sum(not kill.new for kill in kills),
    }


def tell(event: Kill | Finished, kills: int) -> str:
    """One line about what happened."""
    if isinstance(event, Finished):
        return (
            f"run {event.run}: finished after {event.kills} kills, {event.rows_in:,} rows in, {event.rows_out:,} out, "
            f"{event.lost} lost, {event.doubled} doubled, {event.tokens_written:,} tokens written, "
            f"{event.tokens_in_results:,} in results"
        )
    since = "first commit" if event.had_begun else "start"
    return (
        f"kill {kills}: run {event.run}, {event.after_s:.1f} s after its {since}, in {event.phase}, "
        f"{event.results:,} results, {event.new:,} new objects, {event.touched} rewritten"
    )
