"""What a calibration found, as words and a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from hybrid_batch.calibrations import CONFIDENCE, MAX_DROP, Record, Threshold, told
from hybrid_batch.reports import words
from hybrid_batch.reports.evaluation import figures_table, number


def calibration_view(record: Record, paper: Mapping[str, Threshold]) -> RenderableType:
    """The thresholds of ``record``; with a promise, the paper's grid search beside each and what cannot be kept."""
    promised = MAX_DROP in record.goal
    parts: list[RenderableType] = [Text(_goal(record), style="bold"), Text(), _table(record, paper)]
    if paper:
        sentence = (
            "Grid: the paper's grid search (section 4.5) allows the drop on these very rows. It promises nothing."
        )
        parts += [Text(), Text(sentence, style="dim")]
    if promised and (failed := list(_failed(record))):
        parts += [Text(), *failed]
    return Group(*parts)


def usage(record: Record) -> str:
    """The policy of a job that uses ``record``, as YAML on one line."""
    if MAX_DROP not in record.goal:
        return f"policy: {{threshold: {record.overall.threshold:.6f}}}"
    by = f", by: {record.by}" if record.by else ""
    task = ", and input.columns.task" if record.with_tasks else ""
    return f"policy: {{max_drop_pct: {record.goal[MAX_DROP]}, confidence: {record.goal[CONFIDENCE]}{by}}}{task}"


def _goal(record: Record) -> str:
    said = told(record.goal, record.by)
    return f"{said[0].upper()}{said[1:]}; calibrated on {words.count(record.rows)} queries"


def _table(record: Record, paper: Mapping[str, Threshold]) -> RenderableType:
    bounded = MAX_DROP in record.goal
    searched = ("Grid:\nto small", "Grid:\ndrop") if paper else ()
    columns = ("Rows", "Threshold", "To small", "Drop", *(("Drop\nat most",) if bounded else ()), *searched)
    table = figures_table(record.by.capitalize() if record.by else "", *columns)
    for name, part in (record.groups if record.by else {"": record.overall}).items():
        bound = (_bound(part),) if bounded else ()
        plain = (words.percent(paper[name].share), _pct(paper[name].drop_pct)) if paper else ()
        cells = (words.count(part.rows), _threshold(part), words.percent(part.share), _pct(part.drop_pct))
        table.add_row(name or "all", *cells, *bound, *plain, style="" if part.kept else "yellow")
    return table


def _failed(record: Record) -> Iterator[Text]:
    """What cannot be promised, loudly."""
    failed = {name: part for name, part in (record.groups or {"": record.overall}).items() if not part.kept}
    if record.by is None:
        for part in failed.values():
            line = f"The promise cannot be kept with these {words.count(part.rows)} rows: every query goes to large."
            yield Text(f"{line} {_remedy(part)}", style="bold yellow")
    elif failed:
        which = f"{len(failed)} of {len(record.groups)} groups"
        yield Text(f"The promise cannot be kept for {which}: their queries all go to large.", style="bold yellow")
        for name, part in failed.items():
            yield Text(f"  {name}: {_remedy(part)}", style="yellow")


def _remedy(part: Threshold) -> str:
    if part.rows_needed is None:
        return "As far as these rows tell, more of them would not help."
    more = max(0, part.rows_needed - part.rows)
    return f"It would need about {words.count(part.rows_needed)} rows, {words.count(more)} more."


def _threshold(part: Threshold) -> str:
    return f"{part.threshold:.6f}" if part.threshold <= 1 else "none"


def _bound(part: Threshold) -> str:
    return words.UNKNOWN if part.upper_drop_pct is None else _pct(part.upper_drop_pct)


def _pct(value: float) -> str:
    return f"{number(value)} %"
