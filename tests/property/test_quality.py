"""Scorers on any text: in their range, sure of equal texts, symmetric, and never at a loss."""

from __future__ import annotations

import json
import statistics

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybrid_batch.quality import SCORERS, Case, ScorerRecipe, build_scorer
from hybrid_batch.quality.choices import LETTERS, chosen_letter
from hybrid_batch.quality.numbers import final_number, same_number
from hybrid_batch.quality.verdicts import comparisons, conversation, quality_of, read_verdict
from hybrid_batch.quality.words import find_words, words_of
from tests.support.judge_server import quoted

TEXTUAL = ["exact", "contains", "token_f1"]
PIECES = [
    "1",
    "1,000",
    "-",
    ".5",
    "1/",
    "####",
    "\\boxed{",
    "}",
    "\\frac{1}{2}",
    "$",
    "A",
    "(B)",
    "answer is",
    "I",
    "e9",
    "^",
]
TEXT = st.text(max_size=40) | st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map(" ".join)
ANY_ROW = TEXT | st.text(alphabet="0123456789,.-/ $%", max_size=30)
FILLED = TEXT.filter(lambda text: text.strip() != "")
NUMERIC = ANY_ROW.filter(lambda text: final_number(text) is not None)
CHOSEN = st.tuples(st.sampled_from(LETTERS), st.sampled_from(["", ")", ". x", " "])).map("".join)
ASCII_WORDS = st.text(alphabet="abc xyz019,.", max_size=30).filter(lambda text: any(sign.isalnum() for sign in text))
REFERENCES = {
    "exact": FILLED,
    "contains": FILLED,
    "token_f1": FILLED,
    "numeric": NUMERIC,
    "choice": CHOSEN,
    "rouge_l": ASCII_WORDS,
}


def quality(kind: str, answer: str, reference: str) -> float:
    case = Case("q", "?", reference)
    [[found]], _ = build_scorer(ScorerRecipe(kind)).score([case], [[answer]], [[None]])
    assert found is not None
    return found


@pytest.mark.parametrize("kind", [*TEXTUAL, "numeric", "choice", "rouge_l"])
@given(data=st.data())
def test_a_quality_stays_in_its_range_whatever_the_answer(kind, data):
    reference = data.draw(REFERENCES[kind])
    found = quality(kind, data.draw(ANY_ROW), reference)
    bounds = SCORERS[kind].bounds
    assert bounds is not None
    assert bounds[0] <= found <= bounds[1]


@pytest.mark.parametrize("kind", [*TEXTUAL, "numeric", "rouge_l"])
@given(data=st.data())
def test_the_reference_itself_is_right(kind, data):
    reference = data.draw(REFERENCES[kind])
    assert quality(kind, reference, reference) == 1


@given(st.sampled_from(LETTERS), st.sampled_from(["{}", "{})", "({})", "**{}**", "The answer is {}.", "{}. Because"]))
def test_the_letter_itself_is_right_in_all_forms(letter, form):
    for other in LETTERS:
        assert quality("choice", form.format(letter), other) == (letter == other)


@pytest.mark.parametrize("kind", ["exact", "token_f1", "numeric", "rouge_l"])
@given(data=st.data())
def test_answer_and_reference_may_change_places(kind, data):
    one, other = data.draw(REFERENCES[kind]), data.draw(REFERENCES[kind])
    assert quality(kind, one, other) == quality(kind, other, one)


@given(FILLED, FILLED, FILLED)
def test_what_is_right_alone_is_right_among_other_words(before, reference, after):
    if words_of(f"{before} {reference} {after}") == [*words_of(before), *words_of(reference), *words_of(after)]:
        assert quality("contains", f"{before} {reference} {after}", reference) == 1
    if quality("exact", before, reference) == 1:
        assert quality("contains", before, reference) == quality("token_f1", before, reference) == 1


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=4))
def test_words_are_found_where_they_first_stand(words, wanted):
    text, sought = [str(word) for word in words], [str(word) for word in wanted]
    places = [at for at in range(len(text)) if sought and text[at : at + len(sought)] == sought]
    assert find_words(text, sought) == (places[0] if places else None)


@given(st.integers(-(10**30), 10**30))
def test_whole_numbers_are_read_with_and_without_commas(number):
    for text in (
        f"so {number}",
        f"it is {number:,}.",
        f"$ {number:,} dollars",
        f"\\boxed{{{number}}}",
        f"#### {number:,}",
    ):
        assert final_number(text) == number


@given(NUMERIC, NUMERIC)
def test_numbers_are_finite_and_the_same_both_ways(one, other):
    first, second = final_number(one), final_number(other)
    assert first is not None
    assert second is not None
    assert first.is_finite()
    assert same_number(first, first)
    assert same_number(first, second) == same_number(second, first)


@given(ANY_ROW)
@example("\\boxed{" * 50)
@example("9" * 10_000)
def test_no_text_is_too_strange(text):
    final_number(text)
    words_of(text)
    letter = chosen_letter(text)
    assert letter is None or letter in LETTERS
    verdict = read_verdict(text)
    assert verdict is None or all(1 <= grade <= 10 for grade in verdict)


GRADE = st.integers(1, 10) | st.floats(1, 10)


@given(GRADE, GRADE, TEXT, TEXT, st.booleans())
def test_a_verdict_is_read_whatever_stands_around_it(first, second, before, after, fenced):
    text = json.dumps({"first": first, "second": second, "why": "x"})
    text = f"```json\n{text}\n```" if fenced else text
    around = f"{before.replace('{', '')} {text} {after.replace('}', '')}"
    assert read_verdict(around) == (first, second)


@given(st.lists(GRADE, min_size=1, max_size=9))
def test_a_quality_is_the_median_between_the_extremes(grades):
    found = quality_of(grades)
    assert found == pytest.approx((statistics.median(grades) - 1) / 9)
    assert 0 <= (found or 0) <= 1
    assert quality_of([]) is None


ANSWERS = st.lists(st.lists(st.none() | st.sampled_from(["a", "b"]), max_size=4), min_size=2, max_size=2)


@given(st.lists(ANSWERS, max_size=4))
def test_every_answer_is_compared_where_there_is_one_of_the_other_model(rows):
    small, large = [row[0] for row in rows], [row[1] for row in rows]
    found = comparisons(small, large)
    assert len(found) == len(set(found))
    for row, (ours, theirs) in enumerate(rows):
        first = {place for place, text in enumerate(ours) if text is not None}
        second = {place for place, text in enumerate(theirs) if text is not None}
        pairs = {(pair.small, pair.large) for pair in found if pair.row == row}
        assert {one for one, _ in pairs} == (first if second else set())
        assert {other for _, other in pairs} == (second if first else set())
        if first == second:
            assert pairs == {(place, place) for place in first}
        assert len(pairs) <= len(first) + len(second)


@given(FILLED, ANY_ROW, ANY_ROW, st.none() | FILLED)
def test_what_is_quoted_comes_out_as_it_went_in(prompt, first, second, reference):
    turns = conversation(Case("q", prompt, reference), first, second, "f00dcafe", None)
    parts = quoted(turns[1]["content"])
    assert (parts["query"], parts["first answer"], parts["second answer"]) == (prompt, first, second)
    assert parts.get("reference") == reference
