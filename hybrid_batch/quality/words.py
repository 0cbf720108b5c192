"""Words of a text as comparisons see them.  Pure."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Sequence

NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
    "twenty",
)

_ARTICLES = frozenset({"a", "an", "the"})
_ASCII_PUNCTUATION = frozenset(string.punctuation)


def words_of(text: str) -> list[str]:
    """Words of ``text`` without case, punctuation and articles, as SQuAD's evaluation has them.

    Rajpurkar et al. 2016, ``normalize_answer`` of the official script, which knows ASCII punctuation only; here
    Unicode's counts too, after NFKC.  A text that consists of nothing else keeps its articles, else its punctuation:
    the answers ``A`` and ``+`` are not the same.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    bare = "".join(sign for sign in folded if not _is_punctuation(sign)).split()
    return [word for word in bare if word not in _ARTICLES] or bare or folded.split()


def _is_punctuation(sign: str) -> bool:
    return sign in _ASCII_PUNCTUATION or unicodedata.category(sign).startswith("P")


def find_words(words: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Where ``wanted`` first occurs in ``words`` as one piece; None where it does not, or nothing is wanted."""
    width = len(wanted)
    places = (at for at in range(len(words) - width + 1) if list(words[at : at + width]) == list(wanted))
    return next(places, None) if width else None
