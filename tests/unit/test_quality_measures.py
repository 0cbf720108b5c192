from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.quality import Case, ScorerRecipe, build_scorer
from hybrid_batch.quality.base import OptionValue
from hybrid_batch.quality.choices import chosen_letter
from hybrid_batch.quality.numbers import final_number
from tests.support.shared_data import shared_data


def quality(kind: str, answer: str, reference: str | None, **options: OptionValue) -> float | None:
    scorer = build_scorer(ScorerRecipe.of(kind, **options))
    [[small]], [[large]] = scorer.score([Case("q1", "?", reference)], [[answer]], [[answer]])
    assert small == large
    return small


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("Paris", "paris", 1),
        ("  the Paris. ", "Paris", 1),
        ("The \u201cWho\u201d", "who", 1),
        ("\uff30aris", "Paris", 1),
        ("STRASSE", "straße", 1),
        ("U.S.", "US", 1),
        ("A", "a", 1),
        ("A", "the", 0),
        ("+", "-", 0),
        ("Paris, France", "Paris", 0),
        ("", "Paris", 0),
        ("yes|no", "yes", 0),
    ],
)
def test_exact(answer, reference, same):
    assert quality("exact", answer, reference) == same


@pytest.mark.parametrize(
    ("answer", "reference", "found"),
    [
        ("The capital of France is **Paris**, of course.", "Paris", 1),
        ("I would say New  York City", "the new york", 1),
        ("Parisian", "Paris", 0),
        ("York is new", "New York", 0),
        ("", "Paris", 0),
    ],
)
def test_contains(answer, reference, found):
    assert quality("contains", answer, reference) == found


def test_several_references_are_cut_only_where_a_separator_is_given():
    for kind in ("exact", "contains", "token_f1"):
        assert quality(kind, "Ulan Bator", "Ulaanbaatar|Ulan Bator", separator="|") == 1
        assert quality(kind, "a|b", "a|b") == 1
        assert quality(kind, "a", "xyz || a", separator="||") == 1
        with pytest.raises(InputError, match=r"'q1' has the reference ' \| '.*between the separators '\|'"):
            quality(kind, "a", " | ", separator="|")
    assert quality("exact", "Ulan Bator", "Ulaanbaatar|Ulan Bator") == 0


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        ("the cat sat", "a cat", 2 / 3),
        ("cat cat", "cat", 2 / 3),
        ("dog", "cat", 0),
        ("", "cat", 0),
        ("sat cat", "cat sat", 1),
    ],
)
def test_token_f1_by_hand(answer, reference, f1):
    assert quality("token_f1", answer, reference) == pytest.approx(f1)


NUMBERS = [
    ("It is 42.", "42"),
    ("3 + 4 = 7", "7"),
    ("It costs $1,234.50.", "1234.5"),
    ("1,234,567", "1234567"),
    ("so -5 degrees", "-5"),
    ("\u22125", "-5"),
    ("he owes -$5", "-5"),
    ("$-15", "-15"),
    ("10-20", "20"),
    ("3 - 5", "5"),
    ("(7)-2", "2"),
    ("50%", "50"),
    ("0.5", "0.5"),
    (".5", "0.5"),
    ("2.", "2"),
    ("1.5e3", "1500"),
    ("1/2", "0.5"),
    ("\u00bd", "0.5"),
    ("3 1/2 cups", "3.5"),
    ("3\u00bd", "3.5"),
    (r"\frac{3}{4}", "0.75"),
    (r"-2\dfrac{1}{2}", "-2.5"),
    ("on 1/2/1999", "1999"),
    ("1/0", None),
    ("the area is 12 cm^2", "12"),
    ("the area is 12 cm\u00b2", "12"),
    ("12^{2}", "12"),
    ("so it is 5 = 2.5 * 2\n#### 18 dollars for 2 days\n\nQ: 7?", "18"),
    ("#### none, I said 3", "3"),
    ("see 12", "12"),
    (r"\boxed{18} since 2 + 16", "18"),
    (r"\boxed{1}, or rather \boxed{\text{about } 1{,}000}", "1000"),
    (r"\boxed{x", None),
    ("seven of nine", "9"),
    ("Seventeen", "17"),
    ("no idea", None),
    ("", None),
    ("\u0663", "3"),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_final_numbers(text, number):
    found = final_number(text)
    assert (None if found is None else float(found)) == (None if number is None else float(number))


def test_numbers_are_the_same_up_to_a_millionth():
    assert quality("numeric", "1000000.9", "1000000") == 1
    assert quality("numeric", "1000002", "1000000") == 0
    assert quality("numeric", "0.3333333", "1/3") == 1
    assert quality("numeric", "0.333", "1/3") == 0
    assert quality("numeric", "0", "0") == 1
    assert quality("numeric", "0.0000001", "0") == 0
    assert quality("numeric", "9" * 5000, "9" * 5000) == 1
    assert quality("numeric", "1" + "0" * 400, "2" + "0" * 400) == 0
    assert quality("numeric", "no number", "0") == 0


CHOICES = [
    ("B", "B"),
    (" b. ", "B"),
    ("(B)", "B"),
    ("B) Tokyo", "B"),
    ("**B**", "B"),
    ("B: because A is wrong", "B"),
    ("The answer is B.", "B"),
    ("ANSWER IS: **(C)**", "C"),
    ("The correct choice is (b)", "B"),
    ("the answer is A because B is small", "A"),
    ("The answer is A... no wait, the answer is D.", "D"),
    ("Option A is wrong. Answer: option C", "C"),
    (r"A) no B) no. $\boxed{\text{C}}$", "C"),
    ("I think option J", "J"),
    ("I think B", "B"),
    ("(C) is what I take", "C"),
    ("A dog is what I see", None),
    ("The answer is a dog", None),
    ("Answer: A man", None),
    ("Answer: Because", None),
    ("A or B", None),
    ("I don't know", None),
    ("K", None),
    ("none of them", None),
    ("", None),
]


@pytest.mark.parametrize(("answer", "letter"), CHOICES)
def test_chosen_letters(answer, letter):
    assert chosen_letter(answer) == letter


@pytest.mark.parametrize("reference", ["B", "b", "(B)", "B) Tokyo", " B. "])
def test_choice(reference):
    assert quality("choice", "It is B", reference) == 1
    assert quality("choice", "It is C", reference) == 0


@pytest.mark.parametrize(
    ("kind", "reference", "why"),
    [
        ("choice", "Tokyo", "does not begin with a letter from A to J"),
        ("numeric", "many", "has no number"),
        ("rouge_l", "\u6771\u4eac", "letters and digits a-z, 0-9"),
    ],
)
def test_a_reference_that_cannot_be_compared_with_is_named(kind, reference, why):
    with pytest.raises(InputError, match=f"'q1' has the reference '{reference}'.*{why}"):
        quality(kind, "x", reference)


@pytest.mark.parametrize("reference", [None, "", " \n"])
@pytest.mark.parametrize("kind", ["exact", "contains", "numeric", "choice", "token_f1", "rouge_l"])
def test_a_missing_reference_is_named_even_where_no_answer_is_judged(kind, reference):
    scorer = build_scorer(ScorerRecipe(kind))
    cases = [Case("q1", "?", "B 1"), Case("q2", "?", reference)]
    with pytest.raises(InputError, match=r"'q2' has no reference answer.*labels\.reference"):
        scorer.score(cases, [["x"], [None]], [["x"], [None]])


def test_qualities_have_the_shape_of_the_answers():
    cases = [Case("q1", "?", "yes"), Case("q2", "?", "no"), Case("q3", "?", "no")]
    small, large = [["yes", None, "no"], [], [None]], [["no"], ["no", "yes"], ["no"]]
    scorer = build_scorer(ScorerRecipe("exact"))
    assert scorer.score(cases, small, large) == ([[1.0, None, 0.0], [], [None]], [[0.0], [1.0, 0.0], [1.0]])
    with pytest.raises(ValueError, match="shorter"):
        scorer.score(cases, small[:2], large)


@pytest.mark.parametrize(
    ("answer", "reference", "f"),
    [
        ("the cat sat on the mat", "the cat lay on the mat", 10 / 12),
        ("mat the on cat", "the cat on the mat", 4 / 9),
        ("dogs", "dog", 0),
        ("", "dog", 0),
    ],
)
def test_rouge_l_by_hand(answer, reference, f):
    assert quality("rouge_l", answer, reference) == pytest.approx(f)


def test_rouge_l_cuts_endings_where_asked_and_takes_the_best_reference():
    assert quality("rouge_l", "running dogs", "run dog", stemmer=True) > quality("rouge_l", "running dogs", "run dog")
    assert quality("rouge_l", "a cat", "dog|a cat", separator="|") == 1


def test_rouge_l_without_its_package_is_refused_early():
    program = (
        "import sys; sys.modules['rouge_score'] = None\n"
        "from hybrid_batch.quality import ScorerRecipe, check_recipe; check_recipe(ScorerRecipe('rouge_l'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ConfigError: scorer rouge_l: needs the package rouge-score" in done.stderr


MODELS = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")


@pytest.mark.parametrize("model", MODELS)
def test_numeric_agrees_with_verdicts_on_real_answers(model):
    """These verdicts do not take 7.00 for 7, but 0.5 for 5 and -15 for 15: they judge the way it is written.

    Where the answer's number is a whole one without a sign, one verdict in a hundred may differ.
    """
    references = shared_data("routellm/gsm8k_references.jsonl").read_text(encoding="utf-8").splitlines()
    known = {row["question"].strip(): row["answer"] for row in map(json.loads, references)}
    csv.field_size_limit(sys.maxsize)
    with shared_data("routellm/gsm8k_responses.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cases = [Case(str(place), row["prompt"], known[row["prompt"].strip()]) for place, row in enumerate(rows)]
    answers = [[row[f"{model}_response"]] for row in rows]
    scorer = build_scorer(ScorerRecipe("numeric"))
    found, _ = scorer.score(cases, answers, answers)

    agree = [(value == 1) == (row[model] == "True") for [value], row in zip(found, rows, strict=True)]
    numbers = [final_number(answer) for [answer] in answers]
    plain = [number is None or (number >= 0 and number.as_tuple().exponent == 0) for number in numbers]
    whole = [one for one, is_plain in zip(agree, plain, strict=True) if is_plain]
    print(f"{model}: {sum(agree)} of {len(agree)} verdicts agree, {sum(whole)} of {len(whole)} of whole numbers")
    assert len(agree) == 1319
    assert sum(agree) / len(agree) > 0.96
    assert sum(whole) / len(whole) > 0.99
