import pytest

from hybrid_batch.demo.checks import last_number, score

RIGHT = [
    ("42", "42", "number"),
    ("6 * 7 = 42.", "42", "number"),
    ("The answer is 1,234.", "1234", "number"),
    ("It is \u22125 degrees", "-5", "number"),
    ("86.0", "86", "number"),
    ("seven", "7", "number"),
    ("**Paris**.", "Paris", "contains"),
    ("The capital is Reykjavík.", "Reykjavik", "contains"),
    ("złoty", "zloty", "contains"),
    ("It is called Ulan Bator", "Ulaanbaatar|Ulan Bator", "contains"),
    ("bottle, dragon, and hammer", "bottle dragon hammer", "contains"),
    ("bottle\ndragon", "bottle dragon", "exact"),
    ("H₂O", "H2O", "contains"),
    ("grun", "grün", "contains"),
    ("Thursday.", "thursday", "exact"),
    ('"FOREST SILVER"', "FOREST SILVER", "case"),
    ("`True`", "True", "case"),
    ("B", "B", "choice"),
    ("B) Tokyo", "B", "choice"),
    ("(B)", "B", "choice"),
    ("A good one; the answer is B.", "B", "choice"),
    ("Positive", "positive", "label:positive|negative"),
    ("positive, not negative", "positive", "label:positive|negative"),
    ("389 minutes is longer than 3 hours", "389 minutes", "label:3 hours|389 minutes"),
    ("0.7", "0.7", "label:0.7|0.27"),
    ("If today is Monday, it is Friday.", "Friday", "final:Monday|Friday"),
]

WRONG = [
    ("42 of 43", "42", "number"),
    ("no idea", "42", "number"),
    ("142", "42", "number"),
    ("Parisian", "Paris", "contains"),
    ("dragon, bottle", "bottle dragon", "contains"),
    ("on Thursday", "thursday", "exact"),
    ("Forest Silver", "FOREST SILVER", "case"),
    ("au", "Au", "case"),
    ("A) Tokyo", "B", "choice"),
    ("none of them", "B", "choice"),
    ("negative, not positive", "positive", "label:positive|negative"),
    ("neutral", "positive", "label:positive|negative"),
    ("0.27", "0.7", "label:0.7|0.27"),
    ("Friday comes before Monday", "Friday", "final:Monday|Friday"),
    ("", "42", "number"),
    (" \n", "Paris", "contains"),
    (None, "Paris", "contains"),
]


@pytest.mark.parametrize(("answer", "reference", "kind"), RIGHT)
def test_right_answers_score_one(answer, reference, kind):
    assert score(answer, reference, kind) == 1.0


@pytest.mark.parametrize(("answer", "reference", "kind"), WRONG)
def test_wrong_answers_score_zero(answer, reference, kind):
    assert score(answer, reference, kind) == 0.0


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="'regex' is unknown; allowed: case, choice"):
        score("x", "x", "regex")


@pytest.mark.parametrize(
    ("text", "number"),
    [("10-20", 20.0), ("-3", -3.0), ("3 - 5", 5.0), ("x = -2.5!", -2.5), ("", None), ("12,000,000", 12e6)],
)
def test_last_number(text, number):
    assert last_number(text) == number
