"""What is said while a run goes on."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from rich.console import Console

from hybrid_batch.core.progress import Parts, Progress
from hybrid_batch.reports.progress import LiveObserver, PlainObserver, StageView, stage_picture, watching


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=80, force_terminal=terminal, color_system=None), file


def looks(stage: str, rows: list[int], total: int | None, seconds: float) -> list[Progress]:
    return [
        Progress(stage, done, total, index * seconds, 0, done * 20, done * 10, Decimal(done) / 100)
        for index, done in enumerate(rows)
    ]


def test_plain_lines_at_the_start_every_ten_seconds_and_at_the_end() -> None:
    screen, file = console()
    with watching(screen) as observer:
        assert isinstance(observer, PlainObserver)
        observer.note("run x: 1 file [bold]")
        for look in looks("score", [0, 30, 60, 90, 120], 120, 4.0):
            observer.progress(look)
        for look in looks("generate small", [0, 10], None, 3700.0):
            observer.progress(look)
    assert file.getvalue().splitlines() == [
        "run x: 1 file [bold]",
        "score: 0 / 120 rows",
        "score: 90 / 120 rows, 7.5 rows/s, 75 tokens/s, ETA 0:04, 0.900000 USD",
        "score: 120 / 120 rows in 0:16, 1.2000 USD",
        "generate small: 0 rows",
        "generate small: 10 rows, 0.0 rows/s, 0 tokens/s, 0.100000 USD",
        "generate small: 10 rows in 1:01:40, 0.100000 USD",
    ]


def test_a_stage_that_is_over_is_not_told_twice() -> None:
    screen, file = console()
    with watching(screen) as observer:
        for look in [*looks("score", [0, 5], 5, 1.0), *looks("score", [5], 5, 1.0)]:
            observer.progress(look)
    assert file.getvalue().count("score:") == 2


def test_a_stage_that_is_left_is_told_with_what_it_reached() -> None:
    screen, file = console()
    with watching(screen) as observer:
        observer.progress(looks("score", [3], 9, 1.0)[0])
    assert file.getvalue().splitlines()[-1].startswith("score: 3 / 9 rows in 0:00")


def test_rates_count_only_what_this_process_did() -> None:
    first = Progress("generate small", 40, 100, 0.0, 40, 0, 1000)
    later = Progress("generate small", 60, 100, 10.0, 40, 0, 1500)
    assert StageView(first, later).facts() == ["2.0 rows/s", "50 tokens/s", "ETA 0:20"]
    assert StageView(first, first).facts() == []


def waiting(seconds: float, *parts: str) -> Progress:
    return Progress("score", 90, 100, seconds, parts=Parts(9, 10, parts, 40.0 if parts else 0.0))


def test_parts_are_told_and_each_wait_for_some_once() -> None:
    screen, file = console()
    names = [f"part {number} (x.parquet)" for number in range(5)]
    with watching(screen) as observer:
        for look in (waiting(0.0), waiting(1.0, *names), waiting(2.0, *names), waiting(12.0, *names), waiting(13.0)):
            observer.progress(look)
        observer.progress(waiting(14.0, names[4]))
    assert file.getvalue().splitlines() == [
        "score: 90 / 100 rows",
        "score: waiting for part 0 (x.parquet), part 1 (x.parquet), part 2 (x.parquet) and 2 more, "
        "0:40 after the last commit",
        "score: 90 / 100 rows, 9 / 10 parts, 7.5 rows/s, ETA 0:01",
        "score: waiting for part 4 (x.parquet), 0:40 after the last commit",
        "score: 90 / 100 rows in 0:14",
    ]


def test_the_picture_says_which_part_is_awaited() -> None:
    screen, file = console()
    screen.print(stage_picture(StageView(waiting(0.0), waiting(100.0, "part 4 (x.parquet)")), "x"))
    told = " ".join(file.getvalue().split())
    assert "9 / 10 parts · 0.9 rows/s · ETA 0:11 · waiting for part 4 (x.parquet), 0:40 after the last commit" in told


def test_the_live_display_leaves_a_line_per_stage() -> None:
    screen, file = console(terminal=True)
    with watching(screen) as observer:
        assert isinstance(observer, LiveObserver)
        observer.note("hello")
        for look in [*looks("score", [0, 50], 50, 1.0), *looks("generate small", [0, 10], 50, 1.0)]:
            observer.progress(look)
    told = file.getvalue()
    assert "hello" in told
    assert "✓ score          50 / 50 rows in 0:01" in told
    assert "· generate small 10 / 50 rows in 0:01" in told


@pytest.mark.parametrize("total", [None, 0, 1_000_000])
def test_the_picture_of_a_stage_fits_a_terminal(total: int | None) -> None:
    screen, file = console()
    first, last = looks("generate large", [0, 999_999], total, 3600.0)
    screen.print(stage_picture(StageView(first, last), "x"))
    assert max(map(len, file.getvalue().splitlines())) <= 80
    assert "999,999" in file.getvalue()
