"""How two listings of one input differ, and how that is told."""

from __future__ import annotations

import random

from hybrid_batch.core.listing import SHOWN, Difference

BEFORE = [["in/a", 10, "e1"], ["in/b", 1234, "e2"], ["in/c", 5, "e3"]]


def test_equal_listings_do_not_differ() -> None:
    found = Difference.between(BEFORE, [tuple(file) for file in BEFORE])
    assert not found
    assert found.told() == ""


def test_each_sort_of_difference_is_told_with_sizes() -> None:
    after = [("in/a", 10, "other"), ("in/b", 1300, "e4"), ("in/d", 7, "e5")]
    found = Difference.between(BEFORE, after)
    assert found.told().splitlines() == [
        "  added: 1 file",
        "    in/d",
        "  removed: 1 file",
        "    in/c",
        "  changed: 2 files",
        "    in/a: size 10 bytes as before, but written again (ETag e1 -> other)",
        "    in/b: size 1,234 -> 1,300 bytes",
    ]


def test_files_beyond_the_first_are_counted() -> None:
    after = [*BEFORE, *([f"in/z{number:04d}", 1, "e"] for number in range(2000))]
    lines = Difference.between(BEFORE, after).told().splitlines()
    assert lines[0] == "  added: 2,000 files"
    assert lines[1:-1] == [f"    in/z{number:04d}" for number in range(SHOWN)]
    assert lines[-1] == f"    and {2000 - SHOWN:,} more"


def test_what_was_done_to_a_listing_is_what_is_found() -> None:
    draw = random.Random(7)
    for _ in range(200):
        before = {f"f{number}": (draw.randint(1, 9), "a") for number in range(draw.randint(0, 12))}
        removed = set(draw.sample(sorted(before), draw.randint(0, len(before))))
        changed = {url for url in before.keys() - removed if draw.random() < 0.4}
        added = {f"g{number}" for number in range(draw.randint(0, 3))}
        after = {url: state for url, state in before.items() if url not in removed}
        after |= {url: (draw.randint(1, 9), "b") for url in changed | added}
        found = Difference.between(
            [[url, *state] for url, state in before.items()], [[url, *state] for url, state in after.items()]
        )
        assert (set(found.added), set(found.removed)) == (added, removed)
        assert {change.url for change in found.changed} == changed
        assert bool(found) == bool(added or removed or changed)
