"""Who watches a run: a live display on a terminal, plain lines everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hybrid_batch.core.progress import Observer, Progress
from hybrid_batch.reports import words

PLAIN_EVERY_SECONDS = 10.0
_BAR_WIDTH = 28


@contextmanager
def watching(console: Console) -> Iterator[Observer]:
    """An observer that suits ``console``; it says how the last stage ended when the block is left."""
    observer = LiveObserver(console) if console.is_terminal else PlainObserver(console)
    try:
        yield observer
    finally:
        observer.close()


@dataclass(frozen=True)
class StageView:
    """One stage between its first and its latest look."""

    first: Progress
    latest: Progress

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens per second since the first look."""
        span = self.latest.elapsed_seconds - self.first.elapsed_seconds
        return (self.latest.completion_tokens - self.first.completion_tokens) / span if span > 0 else 0.0

    def rows(self) -> str:
        done, total = words.count(self.latest.done_rows), self.latest.total_rows
        return f"{done} rows" if total is None else f"{done} / {words.count(total)} rows"

    def facts(self) -> list[str]:
        """Rates, time left and money, as far as they are known."""
        now, facts = self.latest, []
        if now.rows_per_second > 0:
            facts.append(f"{now.rows_per_second:,.1f} rows/s")
        if self.tokens_per_second > 0:
            facts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        if now.eta_seconds is not None:
            facts.append(f"ETA {words.duration(now.eta_seconds)}")
        return facts + self.money()

    def money(self) -> list[str]:
        return [] if self.latest.usd is None else [f"{words.usd(self.latest.usd)} USD"]

    def ending(self) -> str:
        """The stage in one line once it is over."""
        took = words.duration(self.latest.elapsed_seconds)
        return ", ".join([f"{self.rows()} in {took}", *self.money()])


class PlainObserver:
    """A line when a stage starts, about every ten seconds, and when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage: StageView | None = None
        self._said_at = 0.0

    def note(self, message: str) -> None:
        self._say(message)

    def progress(self, progress: Progress) -> None:
        if self._stage is None or self._stage.latest.stage != progress.stage:
            self.close()
            self._stage, self._said_at = StageView(progress, progress), progress.elapsed_seconds
            self._say(f"{progress.stage}: {self._stage.rows()}")
            return
        self._stage = StageView(self._stage.first, progress)
        if progress.elapsed_seconds - self._said_at >= PLAIN_EVERY_SECONDS:
            self._said_at = progress.elapsed_seconds
            self._say(f"{progress.stage}: {', '.join([self._stage.rows(), *self._stage.facts()])}")

    def close(self) -> None:
        """End the current stage."""
        if self._stage is not None:
            self._say(f"{self._stage.latest.stage}: {self._stage.ending()}")
            self._stage = None

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveObserver:
    """Two lines that move at the bottom of a terminal; everything said before stays above them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage: StageView | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, transient=True, refresh_per_second=8, get_renderable=self._picture)
        self._live.start()

    def note(self, message: str) -> None:
        self._console.print(Text(message, style="dim"))

    def progress(self, progress: Progress) -> None:
        if self._stage is None or self._stage.latest.stage != progress.stage:
            self._end_stage()
            self._stage = StageView(progress, progress)
        self._stage = StageView(self._stage.first, progress)

    def close(self) -> None:
        """End the current stage and leave the terminal as it was."""
        self._end_stage()
        self._live.stop()

    def _end_stage(self) -> None:
        if self._stage is not None:
            finished = self._stage.latest.total_rows in (None, self._stage.latest.done_rows)
            mark = ("✓ ", "green") if finished else ("· ", "dim")
            line = Text.assemble(mark, f"{self._stage.latest.stage:<15}", (self._stage.ending(), "dim"))
            self._stage = None
            self._console.print(line)

    def _picture(self) -> RenderableType:
        if self._stage is None:
            return Text()
        return stage_picture(self._stage, self._spinner)


def stage_picture(stage: StageView, spinner: RenderableType) -> RenderableType:
    """The stage with a bar and the rows, and below it the facts."""
    now, line = stage.latest, Table.grid(padding=(0, 1))
    bar = ProgressBar(total=now.total_rows or None, completed=now.done_rows, width=_BAR_WIDTH, pulse=not now.total_rows)
    line.add_row(spinner, Text(f"{now.stage:<14}", style="bold"), bar, Text(stage.rows()))
    return Group(line, Text("  " + " · ".join(stage.facts()), style="dim"))
