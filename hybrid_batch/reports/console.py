"""Tables for a terminal.  Each function turns values into something rich can print; nothing is printed here."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hybrid_batch.core.cost import TierCost
from hybrid_batch.core.records import total_usage
from hybrid_batch.outcome import Pace, RunOutcome, RunStatus, StageStatus
from hybrid_batch.reports import words

_LEVEL_STYLE = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "error": ("✗", "red")}

_NUMBERS = ("Queries", "Prompt\ntokens", "Completion\ntokens", "Engine\nseconds", "USD", "USD per\n1,000\nqueries")
_GAP = 2


def outcome_view(outcome: RunOutcome, width: int = 80) -> RenderableType:
    """The end of a run: costs per tier, the saving, what went wrong, where everything lies."""
    parts: list[RenderableType] = []
    if outcome.already_finished:
        parts += [Text(f"Run {outcome.layout.run_id} was finished before; nothing was done.", style="bold"), Text()]
    if sentence := words.retried(outcome.manifest):
        parts += [Text(sentence, style="bold"), Text()]
    parts += [cost_view(outcome.costs, width), Text(), _saving(outcome), _split(outcome), *_errors(outcome), Text()]
    parts.append(places_view(words.places(outcome.layout, outcome.manifest.get("objects", ()))))
    return Group(*parts)


def cost_view(costs: Sequence[TierCost], width: int = 80) -> Table:
    """One line per tier and a total; right-aligned numbers; model names are wrapped so that ``width`` is kept."""
    rows = [(cost.tier, words.short_model(cost.model), _figures([cost])) for cost in costs]
    rows.append(("total", "", _figures(costs)))
    room = _room_for_model(rows, width)
    table = plain_table()
    table.add_column("Tier", no_wrap=True)
    table.add_column("Model", no_wrap=True)
    for head in _NUMBERS:
        table.add_column(head, justify="right", no_wrap=True)
    for tier, model, figures in rows:
        last = tier == "total"
        table.add_row(tier, "\n".join(textwrap.wrap(model, room)), *figures, style="bold" if last else "")
        if len(table.rows) == len(rows) - 1:
            table.add_section()
    return table


def _room_for_model(rows: Iterable[tuple[str, str, list[str]]], width: int) -> int:
    """Columns that the numbers leave for the model's name, at least 8."""
    lines = [[tier, *figures] for tier, _, figures in rows]
    heads = [0, *(max(map(len, head.splitlines())) for head in _NUMBERS)]
    taken = sum(max(head, *map(len, column)) for head, column in zip(heads, zip(*lines, strict=True), strict=True))
    return max(8, width - taken - _GAP * (len(_NUMBERS) + 1))


def _figures(costs: Sequence[TierCost]) -> list[str]:
    usage = total_usage(cost.usage for cost in costs)
    return [
        words.count(usage.rows),
        words.count(usage.prompt_tokens),
        words.count(usage.completion_tokens),
        words.seconds(sum(cost.time.total_us for cost in costs)),
        words.usd(words.spent(costs)),
        words.usd(words.spent_per_1000(costs)),
    ]


def _saving(outcome: RunOutcome) -> RenderableType:
    sentence = Text(words.headline_saving(outcome.costs, outcome.counterfactual), style="bold")
    further = (words.loading(outcome.costs, outcome.counterfactual), words.method(outcome.counterfactual))
    return Group(sentence, *(Text(line, style="dim") for line in further if line))


def _split(outcome: RunOutcome) -> RenderableType:
    share = words.percent(outcome.cost_advantage)
    how = words.split(outcome.threshold, outcome.by, len(outcome.groups))
    lines = (
        f"{share} of the queries went to the small model ({how})",
        words.ungrouped(outcome.by, outcome.ungrouped_rows),
    )
    spared = words.spared(total_usage(cost.usage for cost in outcome.costs))
    return Group(*(Text(f"{line}.") for line in (*lines, *spared) if line))


def _errors(outcome: RunOutcome) -> Iterable[RenderableType]:
    cut = outcome.manifest.get("finish_reasons", {}).get("length", 0)
    if cut:
        yield Text(f"{words.count(cut)} answers were cut at max_tokens.", style="yellow")
    if errors := outcome.manifest.get("errors", {}):
        yield Text(f"{words.count(sum(errors.values()))} queries have no answer:", style="red")
        yield errors_view(errors)


def errors_view(errors: Mapping[str, int]) -> RenderableType:
    """Error kinds with the number of rows of each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right")
    grid.add_column(overflow="fold")
    for kind, rows in errors.items():
        grid.add_row(words.count(rows), kind)
    return Padding(grid, (0, 0, 0, 2))


def failures_view(kinds: Mapping[str, int], refused: Mapping[str, int], passing: Container[str]) -> RenderableType:
    """The failed rows of a run before anything is done about them: which can be asked again, and how."""
    if not kinds and not refused:
        return Text("No row of the run failed.")
    table = plain_table()
    table.add_column("Rows", justify="right", no_wrap=True)
    table.add_column("Kind", no_wrap=True)
    table.add_column("Asked again by", overflow="fold")
    for kind, rows in kinds.items():
        also = ", or --errors passing" if kind in passing else ""
        table.add_row(words.count(rows), kind, f"--errors {kind}{also}")
    for kind, rows in refused.items():
        table.add_row(words.count(rows), kind, Text("refused before a model saw it: mend the input", style="dim"))
    return table


def places_view(places: Iterable[tuple[str, str]]) -> RenderableType:
    """Where things lie, a name and a place on each line; never wrapped, so that a path can be copied.

    Print it with ``crop=False``.
    """
    lines = [Text.assemble((f"{name:<10}", "dim"), _nearby(place)) for name, place in places]
    for line in lines:
        line.no_wrap, line.overflow = True, "ignore"
    return Group(*lines)


def status_view(status: RunStatus, width: int = 80) -> RenderableType:
    """A run as its objects in storage tell it."""
    kind = "Labelling" if status.labelling else "Retry" if status.retry_of else "Run"
    source = f" It asks again for rows of run {status.retry_of}." if status.retry_of else ""
    head = Text.assemble(f"{kind} ", (status.layout.run_id, "bold"), " is ", (status.state, "bold"), ".", source)
    table = plain_table()
    table.add_column("Stage", no_wrap=True)
    for name in ("Parts done", "Rows done", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in status.stages:
        table.add_row(stage.name, *_stage_figures(stage))
    parts: list[RenderableType] = [head, Text(), table]
    if status.pace is not None:
        parts += [Text(), pace_view(status.pace)]
    if status.costs:
        parts += [Text(), cost_view(status.costs, width)]
    if status.errors:
        parts += [Text(), Text("Queries without an answer:", style="red"), errors_view(status.errors)]
    places = words.label_places if status.labelling else words.places
    return Group(*parts, Text(), places_view(places(status.layout)))


def pace_view(pace: Pace) -> RenderableType:
    """How fast a run goes, and when it last came on; in yellow where its driver may be gone."""
    facts = [f"{pace.rows_per_second:,.1f} rows/s"] if pace.rows_per_second else []
    facts += [f"ETA {words.duration(pace.eta_seconds)}"] if pace.eta_seconds is not None else []
    lines = [Text(f"{pace.stage}: {', '.join(facts)}")] if facts else []
    return Group(*lines, Text(words.waited(pace).capitalize(), style="yellow" if pace.stalled else "dim"))


def status_line(status: RunStatus) -> str:
    """A run in one line, for a log."""
    pace = status.pace
    name = pace.stage if pace else status.stages[-1].name
    stage = next(stage for stage in status.stages if stage.name == name)
    usage, spent = total_usage(cost.usage for cost in status.costs), words.spent(status.costs)
    facts = [f"{stage.name}: {_of(stage.done_rows, stage.planned_rows)} rows"]
    if pace and pace.rows_per_second:
        facts.append(f"{pace.rows_per_second:,.1f} rows/s")
    if pace and pace.eta_seconds is not None:
        facts.append(f"ETA {words.duration(pace.eta_seconds)}")
    facts.append(f"{words.count(usage.prompt_tokens + usage.completion_tokens)} tokens")
    facts += [] if spent is None else [f"{words.usd(spent)} USD"]
    facts += [f"{words.count(rows)} {kind}" for kind, rows in status.errors.items()]
    return ", ".join([*facts, words.waited(pace) if pace else "finished"])


def _stage_figures(stage: StageStatus) -> list[str]:
    if stage.removed:
        return ["removed", "", ""]
    share = words.percent(stage.done_rows / stage.planned_rows) if stage.planned_rows else ""
    return [_of(stage.done_units, stage.planned_units), _of(stage.done_rows, stage.planned_rows), share]


def _of(done: int, planned: int | None) -> str:
    return words.count(done) if planned is None else f"{words.count(done)} of {words.count(planned)}"


def pairs_view(rows: Iterable[tuple[str, str]]) -> Table:
    """What is set, and what it means."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, meaning in rows:
        grid.add_row(name, Text(meaning))
    return grid


def findings_view(findings: Iterable[tuple[str, str, str]]) -> Table:
    """``(level, field, message)`` lines, marked by level."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for level, field, message in findings:
        mark, style = _LEVEL_STYLE[level]
        grid.add_row(Text(mark, style=style), field, Text(message, style="" if level == "ok" else style))
    return grid


def plain_table() -> Table:
    """The one look of tables."""
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),
        header_style="dim",
        border_style="dim",
    )


def _nearby(place: str) -> str:
    """A path below the working folder, written from there."""
    here = f"{Path.cwd()}{os.sep}"
    return place.removeprefix(here)
