"""The order in which the rows of a shard are asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.stages.order import SHARED_CHARACTERS, longest_first

WINDOW = 2
TEMPLATE = "t" * (2 * SHARED_CHARACTERS)
DOCUMENTS = [letter * SHARED_CHARACTERS for letter in "abc"]


def test_longest_bounds_come_first_and_equal_ones_stay_in_the_order_of_their_texts() -> None:
    assert longest_first(["a", "b", "c", "d"], [32, 96, 32, 64], WINDOW) == [1, 3, 0, 2]


def test_no_row_and_one_row() -> None:
    assert longest_first([], [], WINDOW) == []
    assert longest_first(["a"], [7], WINDOW) == [0]


def test_rows_of_one_document_stay_together_and_in_order() -> None:
    texts = [f"{document} {place}" for document in DOCUMENTS for place in range(2)]
    assert longest_first(texts, [1, 2, 9, 1, 1, 5], WINDOW) == [2, 3, 4, 5, 0, 1]


def test_what_more_rows_share_than_are_under_way_keeps_none_of_them_together() -> None:
    texts = [f"{TEMPLATE} {place}" for place in range(3)]
    assert longest_first(texts, [1, 2, 3], WINDOW) == [2, 1, 0]
    assert longest_first(texts, [1, 2, 3], len(texts)) == [0, 1, 2]


def test_a_stray_row_beside_a_large_family_changes_nothing_in_it() -> None:
    texts = ["a stray row", *(f"{TEMPLATE} {place}" for place in range(5))]
    assert longest_first(texts, [3, 1, 2, 4, 5, 6], WINDOW) == [5, 4, 3, 0, 2, 1]


def test_equal_texts_have_an_order_too() -> None:
    assert longest_first([TEMPLATE] * 4, [1, 3, 2, 3], WINDOW) == [1, 3, 2, 0]


def test_documents_after_a_common_template_are_told_apart() -> None:
    texts = [f"{TEMPLATE} {document} {place}" for document in DOCUMENTS for place in range(2)]
    assert longest_first(texts, [1, 1, 2, 3, 4, 1], WINDOW) == [4, 5, 2, 3, 0, 1]


def test_a_text_shorter_than_what_counts_as_shared_stands_alone() -> None:
    texts = ["", DOCUMENTS[0][:-1], DOCUMENTS[0], DOCUMENTS[0] + "!"]
    assert longest_first(texts, [1, 5, 2, 9], WINDOW) == [2, 3, 1, 0]


@given(st.lists(st.tuples(st.text(alphabet="ab", max_size=5).map(lambda t: t * 300), st.integers(1, 9)), max_size=40))
def test_every_row_has_one_place(rows: list[tuple[str, int]]) -> None:
    texts, bounds = [text for text, _ in sorted(rows)], [bound for _, bound in sorted(rows)]
    assert sorted(longest_first(texts, bounds, WINDOW)) == list(range(len(rows)))
