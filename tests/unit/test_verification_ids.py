"""Ids as hashes: multisets are compared, and doubles found, however little room there is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from hybrid_batch.verification.ids import Digest, Held, differences, digest_of, doubled_hashes, row_hashes

IDS = [f"q{number}" for number in range(1000)]


def high(ids: list[str]) -> np.ndarray:
    return row_hashes(pa.chunked_array([ids[:7], [], ids[7:]], pa.string()))[:, 0]


def test_a_digest_is_that_of_a_multiset():
    def digest(*ids: str) -> Digest:
        return digest_of(row_hashes(pa.chunked_array([list(ids)], pa.string())))

    assert digest("a", "b", "c") == digest("c", "a") + digest("b") != digest("a", "b", "b")
    assert digest("a", "a") != digest("a")
    assert digest() == Digest()
    assert digest("a", "a") != digest("b", "b")


@pytest.mark.parametrize("room", [5_000, 300, 40])
def test_doubles_are_found_however_little_room_there_is(room):
    ids = [*IDS, "q3", "q3", "q999"]
    held = Held(room=room)
    for start in range(0, len(ids), 100):
        held.add(high(ids[start : start + 100]))
    found = doubled_hashes(held, lambda: iter([high(ids)]))
    assert set(found.tolist()) == set(high(["q3", "q999"]).tolist())
    assert (held.modulus > 1) == (room < len(ids))


@pytest.mark.parametrize("room", [5_000, 100])
def test_differences_are_what_stands_more_often_on_one_side(room):
    one, other = [*IDS, "lost", "q5"], ["extra", *reversed(IDS), "q7", "q7"]
    lost, extra = differences(lambda: iter([high(one)]), lambda: iter([high(other)]), len(one) + len(other), room)
    assert set(lost.tolist()) == set(high(["lost", "q5"]).tolist())
    assert set(extra.tolist()) == set(high(["extra", "q7"]).tolist())
    same = differences(lambda: iter([high(IDS)]), lambda: iter([high(IDS[::-1])]), 2000, room)
    assert [len(side) for side in same] == [0, 0]
