"""What a text looks like, as numbers: length, digits, lines, option letters, code, how it begins.  Needs numpy only.

A sentence vector says what a text is about and is nearly blind to its form, yet form tells tasks apart, and long
questions from short ones.  The numbers are counts and flags over UTF-8 bytes: no dictionary is learnt, no text is kept,
and the same text gives the same numbers in every process, in every batch and under every version of Unicode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

VERSION: Final = "surface/1"
"""Name of the numbers as they are made here.  Whoever changes what one of them means changes the name."""

LIMIT: Final = 16_384
"""Bytes of a text that are looked at; its length counts whole."""

_CLIP, _WEIGHT = 4.0, 3.0
_ROWS_AT_ONCE: Final = 256

_CLASSES: Final[dict[str, bytes]] = {
    "digit": b"0123456789",
    "upper": bytes(range(65, 91)),
    "lower": bytes(range(97, 123)),
    "space": b" \t",
    "newline": b"\n",
    "comma": b",",
    "stop": b".",
    "question mark": b"?",
    "exclamation mark": b"!",
    "colon": b":;",
    "quote": b"\"'`",
    "bracket": b"()[]",
    "brace": b"{}",
    "operator": b"+-*/=<>^",
    "backslash": b"\\",
    "dollar": b"$",
    "underscore": b"_",
    "percent": b"%",
    "bar": b"|#",
    "beyond ASCII": bytes(range(128, 256)),
}
_RUNS: Final = ("words", "numbers", "names", "sentences", "blank lines", "indented lines", "options", "calls")
_FIRST: Final = tuple(
    b"what who when where which why how is are do does can if in on the a an write find give list explain describe "
    b"summarize translate create complete given let calculate consider from".split()
)
_PHRASES: Final = (
    b"how many", b"how much", b"def ", b"return", b"import ", b"function", b"```", b">>>", b"answer", b"following",
    b"write", b"explain", b"please", b"http", b" not ", b" or ", b" if ", b" you ", b" i ",
)  # fmt: skip
_ENDS: Final = (b"?", b".", b":", b"!", b")")

NAMES: Final = (
    "log bytes", "log words per line", "bytes per word", "first byte is upper case",
    *(f"log {name}" for name in (*_CLASSES, *_RUNS)),
    *(f"share of {name}" for name in _CLASSES),
    *(f"begins with {word.decode()}" for word in _FIRST),
    *(f"has {phrase.decode()!r}" for phrase in _PHRASES),
    *(f"ends with {end.decode()}" for end in _ENDS),
)  # fmt: skip
WIDTH: Final = len(NAMES)


def _table(members: bytes) -> np.ndarray:
    table = np.zeros(256, dtype=bool)
    table[list(members)] = True
    return table


_BY_CLASS: Final = np.stack([_table(members) for members in _CLASSES.values()], axis=1).astype(np.float64)
_DIGIT, _UPPER, _SPACE = (_table(_CLASSES[name]) for name in ("digit", "upper", "space"))
_LETTER = _table(_CLASSES["upper"] + _CLASSES["lower"] + _CLASSES["beyond ASCII"])
_WORD = _LETTER | _DIGIT | _table(b"_")
_END, _BLANK = _table(b".!?"), _table(b" \t\n")
_OPTION, _AFTER_OPTION = _table(b"ABCDEFGHIJ123456789"), _table(b".):")


def surface_features(texts: Sequence[str]) -> np.ndarray:
    """``texts`` -> float64 ``[len(texts), WIDTH]``, in the order of :data:`NAMES`."""
    found = np.zeros((len(texts), WIDTH))
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        chosen = [text.encode("utf-8", "surrogatepass") for text in texts[start : start + _ROWS_AT_ONCE]]
        found[start : start + len(chosen)] = _numbers(chosen)
    return found


@dataclass(frozen=True)
class SurfaceScale:
    """Brings each number to mean 0 and a like spread: ``mean`` and ``scale``, float64 ``[WIDTH]``.

    ``scale`` is 0 for a number that did not vary, so that it says nothing.
    """

    mean: np.ndarray
    scale: np.ndarray

    def apply(self, features: np.ndarray) -> np.ndarray:
        """``features`` ``[n, WIDTH]`` scaled; what lies far out is cut, so that no odd text outweighs its meaning."""
        spread = np.clip((features - self.mean) * self.scale, -_CLIP, _CLIP)
        result: np.ndarray = spread * (_WEIGHT / np.sqrt(WIDTH))
        return result


def fit_scale(features: np.ndarray) -> SurfaceScale:
    """The scale for the training rows' ``features`` ``[n, WIDTH]``; float32 values, as they are saved."""
    spread = features.std(axis=0)
    scale = np.where(spread > 1e-6, 1.0 / np.maximum(spread, 1e-6), 0.0)
    mean, scale = (value.astype(np.float32).astype(np.float64) for value in (features.mean(axis=0), scale))
    return SurfaceScale(mean, scale)


def _numbers(texts: list[bytes]) -> np.ndarray:
    heads = [text[:LIMIT] for text in texts]
    # A newline before each text: every row has a byte, and what begins a text begins a line.
    data = np.frombuffer(b"".join(b"\n" + head for head in heads) + b"\n\n", dtype=np.uint8)
    lengths = np.array([len(head) + 1 for head in heads])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    rows = np.repeat(np.arange(len(texts)), lengths)
    counts = np.bincount(rows * 256 + data[:-2], minlength=len(texts) * 256).reshape(-1, 256)
    counts[:, 10] -= 1
    classes = counts @ _BY_CLASS
    runs = np.stack([np.add.reduceat(mask, starts, dtype=np.int64) for mask in _run_starts(data)], axis=1)
    size = np.maximum(lengths - 1, 1)[:, None]
    letters = (counts @ _WORD)[:, None]
    general = np.concatenate(
        [
            np.log1p([[len(text)] for text in texts]),
            np.log1p(runs[:, :1] / (classes[:, 4:5] + 1)),
            np.log1p(letters / np.maximum(runs[:, :1], 1)),
            [[float(_UPPER[head[0]])] if head else [0.0] for head in heads],
        ],
        axis=1,
    )
    flags = np.array([_flags(head.lower()) for head in heads], dtype=np.float64)
    return np.concatenate([general, np.log1p(classes), np.log1p(runs), classes / size, flags], axis=1)


def _run_starts(data: np.ndarray) -> list[np.ndarray]:
    """For each of :data:`_RUNS`, which bytes begin one, bool ``[len(data) - 2]``."""
    here, after, later = data[:-2], data[1:-1], data[2:]
    word, digit, line = _WORD[data], _DIGIT[data], here == 10
    before_word, before_digit = np.r_[False, word[:-3]], np.r_[False, digit[:-3]]
    before_letter = np.r_[False, _LETTER[data[:-3]]]
    return [
        word[:-2] & ~before_word,
        digit[:-2] & ~before_digit,
        _UPPER[here] & ~before_letter,
        _END[here] & _BLANK[after],
        line & (after == 10),
        line & _SPACE[after],
        line & _OPTION[after] & _AFTER_OPTION[later],
        word[:-2] & (after == 40),
    ]


def _flags(text: bytes) -> list[bool]:
    first = text.split(None, 1)
    word = first[0] if first else b""
    tail = text.rstrip()
    return [
        *(word == begin for begin in _FIRST),
        *(phrase in text for phrase in _PHRASES),
        *(tail.endswith(end) for end in _ENDS),
    ]
