"""Texts -> token ids, cut to what an encoder reads.  Needs ``tokenizers`` only.

A text that is longer than an encoder reads loses its end, its beginning, or its middle; which one is part of a router's
card.  Very long texts are cut before they are split into tokens, where blanks begin and no token spans the cut: a query
of a megabyte costs what one of some kilobytes does.  Where no blanks begin for long, the cut falls where it
falls: it is still a matter of this text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, get_args

Truncation = Literal["head", "tail", "both"]
"""What is kept of a long text: its beginning, its end, or half of each."""
TRUNCATIONS: Final[tuple[Truncation, ...]] = get_args(Truncation)

_CHARACTERS_PER_TOKEN: Final = 12
"""More than almost all texts have; a piece that turns out to hold too few tokens is doubled."""

_RUN_OF_BLANKS: Final = re.compile(r"(?<=[^ \t\n\r])[ \t\n\r]")
"""Where blanks begin.  What else Unicode calls blank, some tokenizers drop, and join the words beside it."""
_SEARCHED: Final = 8
"""How many times the size of a piece is searched for blanks."""


class Tokens:
    """The tokenizer in ``folder`` (its tokenizer.json), for at most ``max_length`` ids of a text with special ones."""

    def __init__(self, folder: Path, max_length: int, truncation: Truncation = "head") -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.max_length = max_length
        self.truncation: Truncation = truncation
        self._before, self._after = self._special_ids()
        self._room = max(0, max_length - len(self._before) - len(self._after))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, from none to ``max_length``."""
        ways: dict[Truncation, Callable[[Sequence[str]], list[list[int]]]] = {
            "head": lambda given: self._ends(given, self._room, _first_piece, _first),
            "tail": lambda given: self._ends(given, self._room, _last_piece, _last),
            "both": self._both_ends,
        }
        return [[*self._before, *row, *self._after] for row in ways[self.truncation](texts)]

    def _both_ends(self, texts: Sequence[str]) -> list[list[int]]:
        first = self._ends(texts, self._room + 1, _first_piece, _first)
        long = [place for place, row in enumerate(first) if len(row) > self._room]
        ends = self._ends([texts[place] for place in long], self._room, _last_piece, _last)
        half = self._room // 2
        for place, end in zip(long, ends, strict=True):
            first[place] = _first(first[place], self._room - half) + _last(end, half)
        return first

    def _ends(
        self,
        texts: Sequence[str],
        count: int,
        piece: Callable[[str, int], str],
        cut: Callable[[list[int], int], list[int]],
    ) -> list[list[int]]:
        """Up to ``count`` ids from one end of each text, as if the whole text had been split."""
        found: list[list[int]] = [[]] * len(texts)
        left, size = list(range(len(texts))), _CHARACTERS_PER_TOKEN * max(1, count)
        while left:
            pieces = [piece(texts[place], size) for place in left]
            rows = self._split(pieces)
            for place, row in zip(left, rows, strict=True):
                found[place] = cut(row, count)
            left = [
                place
                for place, row, part in zip(left, rows, pieces, strict=True)
                if len(row) < count and len(part) < len(texts[place])
            ]
            size *= 4
        return found

    def _split(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _special_ids(self) -> tuple[list[int], list[int]]:
        """The ids that stand before and after every text."""
        bare, whole = (self._tokenizer.encode("a", add_special_tokens=added).ids for added in (False, True))
        starts = range(len(whole) - len(bare) + 1)
        start = next((start for start in starts if whole[start : start + len(bare)] == bare), 0)
        return whole[:start], whole[start + len(bare) :]


def _first(ids: list[int], count: int) -> list[int]:
    return ids[:count]


def _last(ids: list[int], count: int) -> list[int]:
    return ids[max(0, len(ids) - count) :]


def _first_piece(text: str, size: int) -> str:
    """About ``size`` characters from the beginning, up to blanks that follow a word where there are some near."""
    if len(text) <= size:
        return text
    end = size * _SEARCHED
    found = _RUN_OF_BLANKS.search(text, size, end)
    return text[: found.start() if found else end]


def _last_piece(text: str, size: int) -> str:
    """About ``size`` characters from the end, from blanks that follow a word where there are some near."""
    end = len(text) - size
    if end <= 0:
        return text
    start = max(0, len(text) - size * _SEARCHED)
    places = [found.start() for found in _RUN_OF_BLANKS.finditer(text, start, end)]
    return text[places[-1] if places else start :]
