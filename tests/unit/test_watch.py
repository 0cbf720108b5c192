"""What is known of a stage while it runs: parts, the ones that hold it up, and the slowest at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_batch.core.inputs import Piece, Split
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.progress import PartTime, Skew, is_long_awaited, skew_of
from hybrid_batch.ledger import Ledger
from hybrid_batch.storage import open_store
from hybrid_batch.watch import score_look, tell_scorers, tell_skew
from tests.support.jobs import Recorder

SPLITS = [Split(number, (Piece(f"/in/{'abcd'[number]}.parquet", 0, 10, (0, 1)),)) for number in range(4)]


def commit(ledger: Ledger, part: int) -> None:
    open_store(ledger.layout.root).put_if_absent(ledger.layout.scored(part), b"a part")


def test_the_parts_that_hold_a_stage_up_are_named_with_their_files_and_the_wait(tmp_path: Path):
    ledger = Ledger(RunLayout.of(str(tmp_path), "night"))
    commit(ledger, 0)
    look = score_look(ledger, SPLITS)

    seen = []
    for elapsed, part in ((0, None), (10, 1), (20, 2), (45, None), (50, None), (90, None), (100, 3)):
        if part is not None:
            commit(ledger, part)
        seen.append(look(elapsed))
    assert [(look.parts.done, look.parts.total) for look in seen] == [(1, 4), (2, 4), (3, 4), *[(3, 4)] * 3, (4, 4)]
    assert [look.done_rows for look in seen] == [10, 20, 30, 30, 30, 30, 40]
    assert [look.rows_before for look in seen] == [10] * 7
    awaited = [(look.parts.awaited, look.parts.waited_seconds) for look in seen]
    assert awaited == [*[((), 0.0)] * 4, (("part 3 (d.parquet)",), 30), (("part 3 (d.parquet)",), 70), ((), 0.0)]


def test_a_part_of_several_files_names_the_first(tmp_path: Path):
    packed = Split(1, (Piece("/in/a.jsonl"), Piece("/in/b.jsonl"), Piece("/in/b.jsonl"), Piece("/in/c.jsonl")))
    ledger = Ledger(RunLayout.of(str(tmp_path), "night"))
    look = score_look(ledger, [SPLITS[0], packed])
    commit(ledger, 0)
    look(1.0)
    assert look(60.0).parts.awaited == ("part 1 (a.jsonl and 2 more)",)


@pytest.mark.parametrize(
    ("left", "total", "waited", "longest", "expected"),
    [
        (1, 100, 30.0, 10.0, True),
        (1, 100, 29.9, 1.0, False),  # not worth a word yet
        (1, 100, 100.0, 50.0, False),  # parts take so long here
        (10, 100, 300.0, 10.0, True),
        (11, 100, 300.0, 10.0, False),  # many are left: others are at work
        (2, 4, 300.0, 10.0, True),
        (3, 4, 300.0, 10.0, False),
        (0, 4, 300.0, 10.0, False),
        (1, 1, 300.0, 0.0, False),  # nothing to compare with
    ],
)
def test_a_wait_is_long_beside_the_ones_before(left: int, total: int, waited: float, longest: float, expected: bool):
    assert is_long_awaited(left, total, waited, longest) == expected


def times(*seconds: float) -> list[PartTime]:
    return [PartTime(number, 1000, took) for number, took in enumerate(seconds)]


def test_a_stage_is_skewed_when_its_slowest_part_took_far_longer():
    assert skew_of(times(10.0, 12.0, 90.0, 11.0)) == Skew(PartTime(2, 1000, 90.0), 11.5)
    assert skew_of(times(10.0, 12.0, 31.0, 11.0)) is None
    assert skew_of(times(100.0, 120.0, 290.0)) is None
    assert skew_of(times(100.0)) is None
    assert skew_of([]) is None


def test_the_slowest_part_is_told_once_with_its_file():
    recorder = Recorder()
    tell_skew(recorder, SPLITS, times(10.0, 12.0, 11.0))
    assert recorder.notes == []
    tell_skew(recorder, SPLITS, times(10.0, 12.0, 90.0, 11.0))
    assert recorder.notes == [
        "score: part 2 (c.parquet) was the slowest, 1,000 rows in 1:30; half of the parts took no more than 0:12"
    ]


@pytest.mark.parametrize(
    ("scorers", "said"),
    [
        ({}, []),
        ({"torch fp32 on cpu": 3}, ["scored by torch fp32 on cpu"]),
        ({"a": 2, "b": 1}, ["note: the parts were not all scored alike: 2 by a, 1 by b"]),
    ],
)
def test_what_computed_the_scores_is_said_once(scorers: dict[str, int], said: list[str]) -> None:
    recorder = Recorder()
    tell_scorers(recorder, scorers)
    assert recorder.notes == said
