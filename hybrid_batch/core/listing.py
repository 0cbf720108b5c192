"""How two listings of the same input differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

SHOWN: Final = 5
"""Files of a kind that a message names."""


@dataclass(frozen=True)
class Change:
    """A file that is in both listings and not the same; sizes in bytes."""

    url: str
    before: int
    after: int
    etags: tuple[str, str]

    def told(self) -> str:
        if self.before == self.after:
            return (
                f"{self.url}: size {self.before:,} bytes as before, but written again (ETag {' -> '.join(self.etags)})"
            )
        return f"{self.url}: size {self.before:,} -> {self.after:,} bytes"


@dataclass(frozen=True)
class Difference:
    """What makes a listing another one than it was: URLs in the order of the listings."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[Change, ...]

    @classmethod
    def between(cls, before: Iterable[Sequence[Any]], after: Iterable[Sequence[Any]]) -> Self:
        """From listings of ``(url, size, etag)``, as an identity holds them."""
        old = {url: (size, etag) for url, size, etag in before}
        new = {url: (size, etag) for url, size, etag in after}
        return cls(
            added=tuple(url for url in new if url not in old),
            removed=tuple(url for url in old if url not in new),
            changed=tuple(
                Change(url, old[url][0], size, (old[url][1], etag))
                for url, (size, etag) in new.items()
                if url in old and old[url] != (size, etag)
            ),
        )

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def told(self) -> str:
        """Lines for a person: each kind with its count and its first files."""
        kinds = (
            ("added", self.added),
            ("removed", self.removed),
            ("changed", tuple(change.told() for change in self.changed)),
        )
        return "\n".join(line for kind, files in kinds if files for line in _lines(kind, files))


def _lines(kind: str, files: Sequence[str]) -> list[str]:
    left = len(files) - SHOWN
    count = f"{len(files):,} file{'s' if len(files) > 1 else ''}"
    more = [f"    and {left:,} more"] if left > 0 else []
    return [f"  {kind}: {count}", *(f"    {name}" for name in files[:SHOWN]), *more]
