"""Measures that compare an answer's text with a reference, each in [0, 1].  Sources stand at each of them."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.quality.base import Case
from hybrid_batch.quality.choices import LETTERS, chosen_letter, reference_letter
from hybrid_batch.quality.numbers import final_number, same_number
from hybrid_batch.quality.per_answer import Judge, Measure, reference_of, references_of
from hybrid_batch.quality.words import find_words, words_of


def exact(separator: str | None = None) -> Measure:
    """1 if the words of the answer are those of a reference, else 0 (SQuAD's exact match)."""
    return _on_words("exact", separator, lambda words, wanted: float(words == wanted))


def contains(separator: str | None = None) -> Measure:
    """1 if the words of a reference occur in the answer, whole and in one piece, else 0."""
    return _on_words("contains", separator, lambda words, wanted: float(find_words(words, wanted) is not None))


def token_f1(separator: str | None = None) -> Measure:
    """SQuAD's F1 of the words of answer and reference, that of the best reference (Rajpurkar et al. 2016)."""
    return _on_words("token_f1", separator, f1)


def f1(words: Sequence[str], wanted: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of two bags of words, in [0, 1]."""
    shared = (Counter(words) & Counter(wanted)).total()
    return 2 * shared / (len(words) + len(wanted)) if shared else 0.0


def _on_words(scorer: str, separator: str | None, compare: Callable[[Sequence[str], Sequence[str]], float]) -> Measure:
    def measure(case: Case) -> Judge:
        wanted = [words_of(one) for one in references_of(case, scorer, separator)]

        def judge(answer: str) -> float:
            words = words_of(answer)
            return max(compare(words, one) for one in wanted)

        return judge

    return measure


def numeric() -> Measure:
    """1 if the answer's final number is the reference's, else 0."""

    def measure(case: Case) -> Judge:
        reference = reference_of(case, "numeric")
        wanted = final_number(reference)
        if wanted is None:
            raise InputError(_unusable(case, "numeric", "has no number"))

        def judge(answer: str) -> float:
            found = final_number(answer)
            return float(found is not None and same_number(found, wanted))

        return judge

    return measure


def choice() -> Measure:
    """1 if the answer chooses the reference's letter, else 0."""

    def measure(case: Case) -> Judge:
        wanted = reference_letter(reference_of(case, "choice"))
        if wanted is None:
            allowed = f"{LETTERS[0]} to {LETTERS[-1]}"
            raise InputError(_unusable(case, "choice", f"does not begin with a letter from {allowed}"))
        return lambda answer: float(chosen_letter(answer) == wanted)

    return measure


def rouge_l(separator: str | None = None, stemmer: bool = False) -> Measure:
    """ROUGE-L's F-measure, that of the best reference (Lin 2004), as the library ``rouge-score`` counts it.

    Its words are runs of a-z and 0-9; ``stemmer`` cuts their endings (Porter).  Raises ``ConfigError`` if the
    library is missing.
    """
    rouge = _rouge(stemmer)

    def measure(case: Case) -> Judge:
        wanted = references_of(case, "rouge_l", separator)
        for one in wanted:
            if not any(sign.isascii() and sign.isalnum() for sign in one.lower()):
                raise InputError(
                    _unusable(case, "rouge_l", "has none of the letters and digits a-z, 0-9 that it reads")
                )
        return lambda answer: max(float(rouge.score(one, answer)["rougeL"].fmeasure) for one in wanted)

    return measure


def require_rouge() -> None:
    """Raises ``ConfigError`` if the library ``rouge-score`` cannot be imported here."""
    _rouge(stemmer=False)


def _rouge(stemmer: bool) -> Any:
    try:
        library = importlib.import_module("rouge_score.rouge_scorer")
    except ImportError as error:
        raise ConfigError(f"scorer rouge_l: needs the package rouge-score where it runs ({error})") from None
    return library.RougeScorer(["rougeL"], use_stemmer=stemmer)


def _unusable(case: Case, scorer: str, why: str) -> str:
    text = (case.reference or "")[-80:]
    return f"query {case.query_id!r} has the reference {text!r}, which {why}: {scorer} cannot compare with it"
