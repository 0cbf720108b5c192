"""Who watches a run: a live display on a terminal, plain lines everywhere else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hybrid_batch.core.progress import Observer, Progress, Skew
from hybrid_batch.reports import words

PLAIN_EVERY_SECONDS = 10.0
_BAR_WIDTH = 28
_SHOWN_PARTS = 3


@contextmanager
def watching(console: Console) -> Iterator[Observer]:
    """An observer that suits ``console``; it says how the last stage ended when the block is left."""
    observer: _StageObserver = LiveObserver(console) if console.is_terminal else PlainObserver(console)
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

    @property
    def complete(self) -> bool:
        return self.latest.total_rows in (None, self.latest.done_rows)

    def rows(self) -> str:
        done, total = words.count(self.latest.done_rows), self.latest.total_rows
        return f"{done} rows" if total is None else f"{done} / {words.count(total)} rows"

    def facts(self) -> list[str]:
        """Parts, rates, time left and money, as far as they are known."""
        now, facts = self.latest, self.parts()
        if now.rows_per_second > 0:
            facts.append(f"{now.rows_per_second:,.1f} rows/s")
        if self.tokens_per_second > 0:
            facts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        if now.eta_seconds is not None:
            facts.append(f"ETA {words.duration(now.eta_seconds)}")
        return facts + self.engines() + self.money()

    def engines(self) -> list[str]:
        """What the tier's engines were busy with on average, per engine and shard, as they say themselves."""
        load, facts = self.latest.load, []
        if load.samples:
            facts.append(f"{load.running_mean:,.0f} running, {load.waiting_mean:,.0f} waiting")
            facts.append(f"KV cache {words.percent(load.kv_cache_mean)}")
        if load.prefix_hit_rate:
            facts.append(f"prefix hits {words.percent(load.prefix_hit_rate)}")
        if load.preemptions:
            facts.append(f"{words.count(load.preemptions)} preemptions")
        return facts

    def parts(self) -> list[str]:
        parts = self.latest.parts
        return [] if parts is None else [f"{words.count(parts.done)} / {words.count(parts.total)} parts"]

    def waiting(self) -> list[str]:
        """Which parts keep the stage from its end, and for how long."""
        parts = self.latest.parts
        if parts is None or not parts.awaited:
            return []
        return [f"waiting for {_listed(parts.awaited)}, {words.duration(parts.waited_seconds)} after the last commit"]

    def money(self) -> list[str]:
        return [] if self.latest.usd is None else [f"{words.usd(self.latest.usd)} USD"]

    def ending(self) -> str:
        """The stage in one line once it is over."""
        took = words.duration(self.latest.elapsed_seconds)
        return ", ".join([f"{self.rows()} in {took}", *self.money()])


class _StageObserver(ABC):
    """Follows one stage after the other; a stage ends with its last row, with the next stage or with the run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage: StageView | None = None
        self._ended: str | None = None

    def progress(self, progress: Progress) -> None:
        if progress.stage == self._ended:
            return
        if self._stage is None or self._stage.latest.stage != progress.stage:
            self._end_stage()
            self._stage = StageView(progress, progress)
            self._started(self._stage)
        else:
            self._stage = StageView(self._stage.first, progress)
            self._went_on(self._stage)
        if progress.total_rows == progress.done_rows:
            self._end_stage()

    def close(self) -> None:
        """End the current stage."""
        self._end_stage()

    def _end_stage(self) -> None:
        if (stage := self._stage) is not None:
            self._stage, self._ended = None, stage.latest.stage
            self._over(stage)

    @abstractmethod
    def note(self, message: str) -> None: ...

    @abstractmethod
    def _started(self, stage: StageView) -> None: ...

    @abstractmethod
    def _went_on(self, stage: StageView) -> None: ...

    @abstractmethod
    def _over(self, stage: StageView) -> None: ...


class PlainObserver(_StageObserver):
    """A line when a stage starts, about every ten seconds, and when it ends."""

    _said_at = 0.0
    _said_awaited: tuple[str, ...] = ()

    def note(self, message: str) -> None:
        self._say(message)

    def _started(self, stage: StageView) -> None:
        self._said_at = stage.latest.elapsed_seconds
        self._say(f"{stage.latest.stage}: {stage.rows()}")

    def _went_on(self, stage: StageView) -> None:
        now = stage.latest
        if now.parts is not None and now.parts.awaited != self._said_awaited:
            self._said_awaited = now.parts.awaited
            for line in stage.waiting():
                self._say(f"{now.stage}: {line}")
        if now.elapsed_seconds - self._said_at >= PLAIN_EVERY_SECONDS and now.done_rows != now.total_rows:
            self._said_at = now.elapsed_seconds
            self._say(f"{now.stage}: {', '.join([stage.rows(), *stage.facts()])}")

    def _over(self, stage: StageView) -> None:
        self._say(f"{stage.latest.stage}: {stage.ending()}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveObserver(_StageObserver):
    """Two lines that move at the bottom of a terminal; everything said before stays above them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, transient=True, refresh_per_second=8, get_renderable=self._picture)
        self._live.start()

    def note(self, message: str) -> None:
        self._console.print(Text(message, style="dim"))

    def close(self) -> None:
        """End the current stage and leave the terminal as it was."""
        self._end_stage()
        self._live.stop()

    def _started(self, stage: StageView) -> None:
        """The display draws the stage by itself."""

    def _went_on(self, stage: StageView) -> None:
        """The display draws the stage by itself."""

    def _over(self, stage: StageView) -> None:
        mark = ("✓ ", "green") if stage.complete else ("· ", "dim")
        self._console.print(Text.assemble(mark, f"{stage.latest.stage:<15}", (stage.ending(), "dim")))

    def _picture(self) -> RenderableType:
        stage = self._stage
        return Text() if stage is None else stage_picture(stage, self._spinner)


def stage_picture(stage: StageView, spinner: RenderableType) -> RenderableType:
    """The stage with a bar and the rows, and below it the facts."""
    now, line = stage.latest, Table.grid(padding=(0, 1))
    bar = ProgressBar(total=now.total_rows or None, completed=now.done_rows, width=_BAR_WIDTH, pulse=not now.total_rows)
    line.add_row(spinner, Text(f"{now.stage:<14}", style="bold"), bar, Text(stage.rows()))
    return Group(line, Text("  " + " · ".join([*stage.facts(), *stage.waiting()]), style="dim"))


def skew_told(stage: str, skew: Skew, name: str) -> str:
    """One line about a stage whose slowest part, called ``name``, took far longer than the others."""
    rows, took = words.count(skew.slowest.rows), words.duration(skew.slowest.seconds)
    usual = words.duration(skew.median_seconds)
    return f"{stage}: {name} was the slowest, {rows} rows in {took}; half of the parts took no more than {usual}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_PARTS])
    return shown + (f" and {len(names) - _SHOWN_PARTS:,} more" if len(names) > _SHOWN_PARTS else "")
