r"""The number that an answer ends with.  Pure.

Read are thousands commas, signs, currency and percent signs (``50%`` is 50), decimals, exponents, simple fractions
(``1/2``, ``3 1/2``, ``\frac{1}{2}``), GSM8K's final ``#### 18`` and LaTeX's ``\boxed{18}``.  Exponents of units
(``cm^2``) are no numbers.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, localcontext

from hybrid_batch.quality.words import NUMBER_WORDS

TOLERANCE = Decimal("1e-6")
"""Relative difference up to which two numbers are the same."""

_INT = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w)\]}}])[-+](?=\\?[$€£¥]?\s?[\d.\\]))?  # "10-20" and "x -" hold no sign
    (?:\\?[$€£¥]\s?(?P<inner>[-+])?)?
    (?:
        (?:(?P<whole>{_INT})\s*)?\\[dt]?frac\s*\{{\s*(?P<top>{_INT})\s*\}}\s*\{{\s*(?P<bottom>{_INT})\s*\}}
      | (?<![\d/.])(?:(?P<whole2>{_INT})\s+)?(?P<top2>{_INT})\s?/\s?(?P<bottom2>{_INT})(?![\d/.]\d|/)
      | (?<!\^)(?<!\^\{{)(?P<plain>{_INT}(?:\.\d+)?(?:[eE][-+]?\d{{1,3}}(?!\w))?|\.\d+)
    )
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)
_VULGAR = str.maketrans({"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "\u2212": "-", "\uff0d": "-"})
_CONTEXT = Context(prec=60, traps=[])
"""Nothing raises: what is too large becomes infinite, and infinite is no number."""


def final_number(text: str) -> Decimal | None:
    r"""The number that ``text`` gives as its result; None where it has none.

    That is the last one in its last ``\boxed{}``, else the first one after its first ``####``, else its last one.
    Words up to twenty count where there are no digits.
    """
    plain = text.translate(_VULGAR).replace("{,}", ",")
    boxed = _last_boxed(plain)
    if boxed is not None and (found := _numbers(boxed)):
        return found[-1]
    if "####" in plain and (found := _numbers(plain.split("####")[1])):
        return found[0]
    if found := _numbers(plain):
        return found[-1]
    spoken = [word.lower() for word in _WORD.findall(plain) if word.lower() in NUMBER_WORDS]
    return Decimal(NUMBER_WORDS.index(spoken[-1])) if spoken else None


def same_number(one: Decimal, other: Decimal) -> bool:
    """Whether two numbers differ by no more than :data:`TOLERANCE`, relative to the larger one."""
    with localcontext(_CONTEXT):
        return abs(one - other) <= TOLERANCE * max(abs(one), abs(other))


def _numbers(text: str) -> list[Decimal]:
    with localcontext(_CONTEXT):
        found = (_value(match) for match in _NUMBER.finditer(text))
        return [number for number in found if number is not None and number.is_finite()]


def _value(match: re.Match[str]) -> Decimal | None:
    sign = -1 if "-" in (match["sign"], match["inner"]) else 1
    if match["plain"] is not None:
        return sign * _decimal(match["plain"])
    whole, top, bottom = (match[name] or match[f"{name}2"] for name in ("whole", "top", "bottom"))
    return sign * (_decimal(whole or "0") + _decimal(top) / _decimal(bottom))


def _decimal(digits: str) -> Decimal:
    return Decimal(digits.replace(",", ""))


def _last_boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{...}``, whose braces may hold further ones."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    content = text[start + len("\\boxed{") :]
    depth = 1
    for place, sign in enumerate(content):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth == 0:
            return content[:place]
    return content
