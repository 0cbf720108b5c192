"""What a task makes, and how the tables of facts are written down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One question before it has an id."""

    prompt: str
    answer: str
    check: str


def table(text: str) -> list[tuple[str, str]]:
    """Rows of a table written as lines ``left => right``."""
    rows = [line.split("=>") for line in text.strip().splitlines()]
    return [(left.strip(), right.strip()) for left, right in rows]
