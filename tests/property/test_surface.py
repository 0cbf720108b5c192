"""The numbers of a text's surface: the same everywhere, for any text."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_batch.engines.surface import LIMIT, NAMES, WIDTH, fit_scale, surface_features

ANY_TEXT = st.text(st.characters(), max_size=200)  # surrogates too
MIXED = [
    "",
    "What is 3 plus 4?",
    "def f(x):\n    return x\n",
    "Which?\nA. one\nB) two\nAnswer:",
    "ünï©ødé 🙂",
    "\ud800 alone",
    "\n\n",
    "Prices: $4, 20 %.",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(ANY_TEXT, max_size=8))
def test_a_texts_numbers_hang_on_the_text_alone(texts: list[str]) -> None:
    whole = surface_features(texts)
    assert whole.shape == (len(texts), WIDTH)
    assert np.isfinite(whole).all()
    alone = [surface_features([text])[0] for text in texts]
    assert np.array_equal(whole, np.reshape(alone, (len(texts), WIDTH)))
    assert np.array_equal(surface_features(texts[::-1]), whole[::-1])


def test_more_texts_than_are_read_at_once_make_no_difference() -> None:
    many = [MIXED[number % len(MIXED)] for number in range(1000)]
    assert np.array_equal(surface_features(many), np.tile(surface_features(MIXED), (125, 1)))


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_another_process_makes_the_same_numbers(seed: str) -> None:
    program = (
        "import sys; from hybrid_batch.engines.surface import surface_features; "
        f"sys.stdout.write(surface_features({MIXED!r}).tobytes().hex())"
    )
    there = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
    )
    assert there.stdout.decode() == surface_features(MIXED).tobytes().hex()


def test_what_is_counted_is_what_the_names_say() -> None:
    text = "Which is 12?\nA. Two cats\nB) f(x)\n\n  Yes. No"
    found = dict(zip(NAMES, surface_features([text])[0], strict=True))

    def count(name: str) -> float:
        return float(np.expm1(found[f"log {name}"]))

    assert count("bytes") == pytest.approx(len(text))
    assert count("words") == pytest.approx(11)
    assert count("numbers") == pytest.approx(1)
    assert count("options") == pytest.approx(2)
    assert count("calls") == pytest.approx(1)
    assert count("newline") == pytest.approx(4)
    assert count("blank lines") == pytest.approx(1)
    assert count("indented lines") == pytest.approx(1)
    assert count("sentences") == pytest.approx(3)
    assert count("names") == pytest.approx(6)
    assert found["share of digit"] == pytest.approx(2 / len(text))
    assert found["begins with which"] == 1
    assert found["begins with what"] == 0
    assert found["ends with ?"] == 0


def test_beyond_the_limit_only_the_length_counts() -> None:
    long = "word " * LIMIT
    one, other = (dict(zip(NAMES, surface_features([text])[0], strict=True)) for text in (long, long + "12?"))
    assert [name for name in NAMES if one[name] != other[name]] == ["log bytes"]


@settings(max_examples=50, deadline=None)
@given(st.lists(ANY_TEXT, min_size=1, max_size=8), ANY_TEXT)
def test_a_scaled_number_is_bounded_whatever_the_text(seen: list[str], strange: str) -> None:
    scale = fit_scale(surface_features(seen))
    scaled = scale.apply(surface_features([*seen, strange]))
    assert np.linalg.norm(scaled, axis=1).max() <= 12.0 + 1e-9
    assert (scale.scale[surface_features(seen).std(axis=0) == 0] == 0).all()
