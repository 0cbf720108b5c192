"""What a verification found: values for a display, made by whoever compares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hybrid_batch.core.layout import RunLayout

OK: Final = "ok"
WARN: Final = "warn"
"""Something could not be compared, or lies there that is not the run's; nothing is wrong."""
ERROR: Final = "error"

SHOWN: Final = 5
"""Problems of one check that are named; the others are counted."""


@dataclass(frozen=True)
class Check:
    """One comparison.  ``told`` says what was compared and the figures; ``problems`` are the first of ``count``."""

    name: str
    level: str
    told: str
    problems: tuple[str, ...] = ()
    count: int = 0


@dataclass(frozen=True)
class Proof:
    """All comparisons of one run."""

    layout: RunLayout
    finished: bool
    checks: tuple[Check, ...]

    @property
    def proved(self) -> bool:
        """Whether nothing is wrong with what is committed."""
        return all(check.level != ERROR for check in self.checks)

    @property
    def problems(self) -> int:
        return sum(check.count for check in self.checks)


@dataclass
class Notebook:
    """Collects problems by check; of each check only the first few are kept."""

    _first: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _count: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def write(self, check: str, problems: Iterable[str], count: int | None = None) -> None:
        """Add ``problems`` of ``check``; they stand for ``count``, which is their number where it is not given."""
        told = list(problems)
        self._first[check] += told[: SHOWN - len(self._first[check])]
        self._count[check] += len(told) if count is None else count

    def left(self, made: Iterable[Check]) -> list[Check]:
        """The checks that have problems and are not among ``made``: no problem is ever left out of a proof."""
        names = {check.name for check in made}
        return [self.check(name, "not compared") for name, count in self._count.items() if count and name not in names]

    def check(self, name: str, told: str, *, complete: bool = True) -> Check:
        """The check ``name``: wrong if there are problems, a warning if not all could be compared."""
        count = self._count[name]
        level = ERROR if count else OK if complete else WARN
        return Check(name, level, told, tuple(self._first[name]), count)
