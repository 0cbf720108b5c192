"""Labels by their definitions, counted pair by pair."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.core.labels import (
    DET,
    GAIN,
    LABEL_KINDS,
    PROB,
    TRANS,
    Qualities,
    find_t_star,
    make_labels,
    mean_difference,
    qualities,
    trans_labels,
)

QUALITY = st.floats(0, 1).map(lambda value: round(value, 2))
ANSWERS = st.lists(st.none() | QUALITY, min_size=1, max_size=4).filter(lambda row: any(v is not None for v in row))
ROWS = st.lists(st.tuples(ANSWERS, ANSWERS), min_size=1, max_size=12)
RIGHT_OR_WRONG = st.lists(
    st.tuples(*[st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=4)] * 2), min_size=1, max_size=12
)


def made(rows: list) -> Qualities:
    return qualities([small for small, _ in rows], [large for _, large in rows])


def gaps(row: tuple) -> list[float]:
    small, large = ([value for value in answers if value is not None] for answers in row)
    return [s - v for s, v in itertools.product(small, large)]


@given(ROWS)
def test_every_label_is_its_definition_over_all_pairs(rows: list) -> None:
    q = made(rows)
    by_hand = {
        PROB: [np.mean([gap >= 0 for gap in gaps(row)]) for row in rows],
        GAIN: [(1 + np.mean(gaps(row))) / 2 for row in rows],
        DET: [
            float(next(v for v in small if v is not None) >= next(v for v in large if v is not None))
            for small, large in rows
        ],
    }
    for kind, expected in by_hand.items():
        assert make_labels(kind, q)[0] == pytest.approx(expected)


@given(ROWS, st.floats(0, 1).map(lambda t: round(t, 2) + 0.005))
def test_trans_counts_the_pairs_that_lose_at_most_t(rows: list, t: float) -> None:
    expected = [np.mean([gap >= -t for gap in gaps(row)]) for row in rows]
    assert trans_labels(made(rows), t) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_mean_difference_by_sorting_is_that_of_all_pairs(values: list[float]) -> None:
    labels = np.array(values)
    assert mean_difference(labels) == pytest.approx(np.abs(labels[:, None] - labels[None, :]).mean(), abs=1e-12)


@given(ROWS)
def test_t_star_is_the_best_of_all_t(rows: list) -> None:
    q = made(rows)
    found = find_t_star(q)
    every = sorted({0.0} | {-gap for row in rows for gap in gaps(row) if gap < 0})
    spread = [np.abs(np.subtract.outer(labels, labels)).mean() for labels in (trans_labels(q, t) for t in every)]
    assert found.spread.max() == pytest.approx(max(spread), abs=1e-12)
    assert mean_difference(trans_labels(q, found.t)) == pytest.approx(max(spread), abs=1e-12)
    assert found.t >= 0


@given(RIGHT_OR_WRONG, st.floats(0, 0.99))
def test_with_right_and_wrong_answers_trans_is_prob(rows: list, t: float) -> None:
    q = made(rows)
    assert np.array_equal(trans_labels(q, t), make_labels(PROB, q)[0])


@given(ROWS, st.randoms())
def test_labels_do_not_depend_on_the_order_of_the_rows(rows: list, random: object) -> None:
    order = np.array(sorted(range(len(rows)), key=lambda _: random.random()))  # type: ignore[attr-defined]
    for kind in LABEL_KINDS:
        assert make_labels(kind, made(rows).take(order))[0] == pytest.approx(make_labels(kind, made(rows))[0][order])


def test_gains_on_any_scale_are_brought_to_between_0_and_1() -> None:
    q = qualities([[-3.0], [-1.0], [-2.0]], [[-1.0], [-2.0], [-2.0]])
    assert make_labels(GAIN, q)[0].tolist() == [0.0, 0.75, 0.5]


@pytest.mark.parametrize(
    ("small", "large", "words"),
    [
        ([[1.0], [None]], [[1.0], [0.0]], "row b: q_small has no answer"),
        ([[1.0], [0.0]], [[1.0], []], "row b: q_large has no answer"),
        ([[1.0], [math.inf]], [[1.0], [0.0]], "row b: q_small is infinite"),
        ([[1.0]], [[1.0], [0.0]], "1 rows of small, 2 rows of large"),
    ],
)
def test_a_row_without_a_quality_is_named(small: list, large: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        qualities(small, large, ["a", "b"])


def test_an_unknown_kind_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="'best', allowed are det, prob, trans, gain"):
        make_labels("best", qualities([[1.0]], [[1.0]]))


def test_t_star_leaves_zero_where_all_losses_are_alike_and_small() -> None:
    rows = [([0.5, 0.52], [0.55]), ([0.1], [0.6]), ([0.4], [0.45, 0.47]), ([0.0], [0.9])]
    found = make_labels(TRANS, made(rows))[1]
    assert found is not None
    assert 0 < found.t < 0.5
