"""The letter that an answer to a multiple choice question chooses.  Pure."""

from __future__ import annotations

import re

LETTERS = "ABCDEFGHIJ"

# "A man" and "I think" are no choices, "A because" and "A or B" are.
_NO_WORD = r"(?!(?<=[AI])\s+(?!(?:because|since|as|and|or|but|for|is|was)\b)[A-Za-z])"
_OPEN, _CLOSE = r"[\s*_\"'`(\[{$]*", r"(?![A-Za-z0-9_'\u2019])"
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\[a-z]+\s*\{)?\s*\(?([A-J])\b", re.IGNORECASE)
_STATED = re.compile(
    rf"\b(?:answer|choice|option){_OPEN}(?:is|are|would be|:|=)[:\s]*(?:option|choice)?{_OPEN}"
    rf"([A-J]|(?<=\()[a-j](?=\))){_CLOSE}{_NO_WORD}"
)
_FIRST = re.compile(rf"^{_OPEN}([A-J])(?=\s*$|[*_)\].:,]|\s*\n)")
_OPTION = re.compile(rf"\b(?:option|choice){_OPEN}([A-J]){_CLOSE}", re.IGNORECASE)
_MARKED = re.compile(r"(?:(?<=\()|(?<![\w(]))([A-J])(?=\)|\*\*)")
_LOOSE = re.compile(rf"(?<![\w'\u2019])([A-J])(?![\w'\u2019]){_NO_WORD}")
_LEAD = re.compile(r"\b(?:answer|choice|option)\b(?:\s+is\b)?", re.IGNORECASE)
_REFERENCE = re.compile(r"^\W*([A-J])(?:\W|$)", re.IGNORECASE)


def chosen_letter(answer: str) -> str | None:
    r"""The letter from A to J that ``answer`` settles on; None where there is none, or several and none stated.

    The strongest form that occurs decides: the last ``\boxed{B}``; the last "the answer is B"; a letter that the answer
    begins with ("B) Tokyo"); then "option B", "(B)" or a letter alone, if all of them name the same one.  A single
    small letter counts where it is the whole answer.
    """
    for pattern in (_BOXED, _STATED):
        if found := pattern.findall(_titled(answer)):
            return str(found[-1]).upper()
    if first := _FIRST.search(answer) or re.fullmatch(rf"{_OPEN}([A-Ja-j])[\W_]*", answer):
        return first[1].upper()
    for pattern in (_OPTION, _MARKED, _LOOSE):
        letters = {str(letter).upper() for letter in pattern.findall(answer)}
        if letters:
            return letters.pop() if len(letters) == 1 else None
    return None


def _titled(answer: str) -> str:
    """ "Answer" and "ANSWER" as "answer": case counts in the letter, not in the word before it."""
    return _LEAD.sub(lambda match: match[0].lower(), answer)


def reference_letter(reference: str) -> str | None:
    """The letter of a reference such as ``B``, ``(b)`` or ``B) Tokyo``; None where it does not begin with one."""
    found = _REFERENCE.search(reference)
    return found[1].upper() if found else None
