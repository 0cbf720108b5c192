"""The order in which the rows of a shard are asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.stages.order import SHARED_CHARACTERS, longest_first

TEMPLATE = "t" * (2 * SHARED_CHARACTERS)
DOCUMENTS = [letter * SHARED_CHARACTERS for letter in "abc"]


def test_longest_bounds_come_first_and_equal_ones_stay_in_the_order_of_their_texts() -> None:
    assert longest_first(["a", "b", "c", "d"], [32, 96, 32, 64]) == [1, 3, 0, 2]


def test_no_row_and_one_row() -> None:
    assert longest_first([], []) == []
    assert longest_first(["a"], [7]) == [0]


def test_rows_of_one_document_stay_together_and_in_order() -> None:
    texts = [f"{document} {place}" for document in DOCUMENTS for place in range(2)]
    assert longest_first(texts, [1, 2, 9, 1, 1, 5]) == [2, 3, 4, 5, 0, 1]


def test_what_all_rows_share_keeps_none_of_them_together() -> None:
    texts = [f"{TEMPLATE} {place}" for place in range(3)]
    assert longest_first(texts, [1, 2, 3]) == [2, 1, 0]


def test_documents_after_a_common_template_are_told_apart() -> None:
    texts = [f"{TEMPLATE} {document} {place}" for document in DOCUMENTS for place in range(2)]
    assert longest_first(texts, [1, 1, 2, 3, 4, 1]) == [4, 5, 2, 3, 0, 1]


def test_a_text_shorter_than_what_counts_as_shared_stands_alone() -> None:
    texts = ["", DOCUMENTS[0][:-1], DOCUMENTS[0], DOCUMENTS[0] + "!"]
    assert longest_first(texts, [1, 5, 2, 9]) == [2, 3, 1, 0]


@given(st.lists(st.tuples(st.text(alphabet="ab", max_size=5).map(lambda t: t * 300), st.integers(1, 9)), max_size=40))
def test_every_row_has_one_place(rows: list[tuple[str, int]]) -> None:
    texts, bounds = [text for text, _ in sorted(rows)], [bound for _, bound in sorted(rows)]
    assert sorted(longest_first(texts, bounds)) == list(range(len(rows)))
