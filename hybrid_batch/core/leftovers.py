"""What may be removed from storage, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Leftover:
    """Objects of one kind and of one run (None: of no run)."""

    kind: str
    run_id: str | None
    urls: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Leftovers:
    """What may go, and in ``kept`` a sentence for each thing that was looked at and stays."""

    place: str
    groups: tuple[Leftover, ...]
    kept: tuple[str, ...] = ()
