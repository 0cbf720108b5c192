"""Is an answer right?  Pure functions on text, score 1.0 or 0.0.

Kinds of check, with ``reference`` as the question set has it:

- ``number``: the last number of the answer equals the reference (digits, or words up to twenty).
- ``contains``: the reference occurs as whole words, whatever the case, accents and punctuation;
  ``|`` separates alternatives of which one is enough.
- ``exact``: nothing but one of the alternatives was answered.
- ``case``: as ``contains``, with upper and lower case as in the reference.
- ``choice``: the letter chosen, A to D.
- ``label:one|two|...``: of the labels named in the kind, the first to occur is the reference.
- ``final:one|two|...``: as ``label``, but single words, and the last counts (an answer may restate the question).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from hybrid_batch.quality.words import NUMBER_WORDS, find_words

_NUMBER = re.compile(r"-?\d+(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?")
_TOKEN = re.compile(r"-?\d+(?:[.:]\d+)*|\w+")
_STATED_CHOICE = re.compile(r"(?:answer|choice|option)\s*(?:is|:)?\s*\**\(?([A-D])\b", re.IGNORECASE)
_MARKED_CHOICE = re.compile(r"(?:^|[\s(*])([A-D])(?=[).:*]|\s*$)", re.MULTILINE)
_LOOSE_CHOICE = re.compile(r"\b([A-D])\b")
_NOT_DECOMPOSED = str.maketrans(
    {"ł": "l", "Ł": "L", "ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "œ": "oe", "\u2019": "'"}
)


def score(answer_text: str | None, reference: str, kind: str) -> float:
    """1.0 if ``answer_text`` is right by the check ``kind``, else 0.0; None and blanks are wrong.

    Raises ``ValueError`` for a kind that does not exist.
    """
    name, _, labels = kind.partition(":")
    if name not in _CHECKS:
        raise ValueError(f"check {kind!r} is unknown; allowed: {', '.join(sorted(_CHECKS))}")
    if answer_text is None or not answer_text.strip():
        return 0.0
    return float(_CHECKS[name](answer_text, reference, labels))


def last_number(text: str) -> float | None:
    """The last number of ``text``; thousands commas are read, number words count if there are no digits."""
    found = _NUMBER.findall(_plain_signs(text))
    if found:
        return float(found[-1].replace(",", ""))
    spoken = [NUMBER_WORDS.index(word) for word in tokens(text) if word in NUMBER_WORDS]
    return float(spoken[-1]) if spoken else None


def tokens(text: str, fold_case: bool = True) -> list[str]:
    """Words and numbers of ``text`` without accents, punctuation, thousands commas and list words."""
    plain = unicodedata.normalize("NFKD", _plain_signs(text).translate(_NOT_DECOMPOSED))
    plain = "".join(mark for mark in plain if not unicodedata.combining(mark))
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain.replace("'", "").replace("_", " "))
    found = _TOKEN.findall(plain.casefold() if fold_case else plain)
    return [token for token in found if token.casefold() != "and"]


def _plain_signs(text: str) -> str:
    """Minus signs as hyphens; a hyphen inside a word or range is not a minus."""
    return re.sub(r"(?<=\w)-", " ", text.replace("\u2212", "-"))


def _number(answer: str, reference: str, _: str) -> bool:
    found = last_number(answer)
    return found is not None and abs(found - float(reference)) < 1e-6


def _contains(answer: str, reference: str, _: str) -> bool:
    return _has_any(tokens(answer), reference, fold_case=True)


def _case(answer: str, reference: str, _: str) -> bool:
    return _has_any(tokens(answer, fold_case=False), reference, fold_case=False)


def _exact(answer: str, reference: str, _: str) -> bool:
    return any(tokens(answer) == tokens(one) for one in reference.split("|"))


def _choice(answer: str, reference: str, _: str) -> bool:
    for pattern in (_STATED_CHOICE, _MARKED_CHOICE, _LOOSE_CHOICE):
        found = pattern.search(answer)
        if found:
            return found.group(1).upper() == reference
    return False


def _label(answer: str, reference: str, labels: str) -> bool:
    named = _places(tokens(answer), labels)
    return bool(named) and min(named, key=lambda label: named[label]) == reference


def _final(answer: str, reference: str, labels: str) -> bool:
    words = tokens(answer)
    from_the_end = _places(words[::-1], labels)
    return bool(from_the_end) and min(from_the_end, key=lambda label: from_the_end[label]) == reference


def _places(words: list[str], labels: str) -> dict[str, int]:
    """Where each label that occurs first occurs."""
    places = {label: find_words(words, tokens(label)) for label in labels.split("|")}
    return {label: place for label, place in places.items() if place is not None}


def _has_any(words: list[str], reference: str, fold_case: bool) -> bool:
    return any(find_words(words, tokens(one, fold_case)) is not None for one in reference.split("|"))


_CHECKS: dict[str, Callable[[str, str, str], bool]] = {
    "number": _number,
    "contains": _contains,
    "exact": _exact,
    "case": _case,
    "choice": _choice,
    "label": _label,
    "final": _final,
}
