"""The failed rows of a finished run: how many of which kind, in which shards, and which of them can be asked again."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hybrid_batch.core.errors import ConfigError, RunConflictError
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import ShardId, merge_counts
from hybrid_batch.core.routing import REJECTED
from hybrid_batch.engines.base import INVALID_JSON, INVALID_REQUEST
from hybrid_batch.ledger import Ledger
from hybrid_batch.stages import guard
from hybrid_batch.stages.ask import ENGINE_KILLED, PASSING
from hybrid_batch.status import find_run

ANSWERING: Final = PASSING | {INVALID_REQUEST, INVALID_JSON, ENGINE_KILLED, "context_overflow"}
"""Kinds of errors that rows meet while they are answered: these rows can be asked again."""

REFUSED: Final = frozenset(
    {
        guard.NULL_PROMPT,
        guard.EMPTY_PROMPT,
        guard.PROMPT_TOO_LARGE,
        guard.INVALID_MESSAGES,
        guard.INVALID_IMAGE,
        guard.INVALID_TEXT,
    }
)
"""Kinds of rows that were refused before any model saw them.  They have no score, and no tier to be asked in."""

ALL_PASSING: Final = "passing"
"""Stands for all kinds of errors that another try may not meet."""


@dataclass(frozen=True)
class Failures:
    """What failed in the finished run of ``ledger``.

    ``shards`` has the failed rows by kind of each shard that a model answered, where there are any; ``refused`` counts
    rows that no model saw.
    """

    ledger: Ledger
    plan: Plan
    shards: tuple[tuple[ShardId, Mapping[str, int]], ...]
    refused: Mapping[str, int]

    @property
    def kinds(self) -> dict[str, int]:
        """Rows that can be asked again, by kind; the most frequent first."""
        return merge_counts(errors for _, errors in self.shards)

    def of(self, kinds: Iterable[str]) -> list[tuple[ShardId, int]]:
        """The shards that have rows of ``kinds``, with how many."""
        wanted = frozenset(kinds)
        found = [(shard, sum(errors.get(kind, 0) for kind in wanted)) for shard, errors in self.shards]
        return [(shard, rows) for shard, rows in found if rows]


def finished_run(url: str) -> tuple[Ledger, Plan]:
    """The run at ``url``, or the newest run of the output ``url`` that is no retry.

    Raises ``InputError`` if there is no run, ``ConfigError`` for a labelling, ``RunConflictError`` for a run that is
    not finished.
    """
    ledger, plan = find_run(url, lambda plan: plan.is_of_a_job)
    if plan.is_labelling:
        raise ConfigError(f"{ledger.layout.root}: is a labelling; failed rows of runs alone are asked again")
    if not ledger.is_finished():
        raise RunConflictError(
            f"{ledger.layout.root}: this run is not finished; finish it by the command that started it, then retry"
        )
    return ledger, plan


def failures_of(url: str) -> Failures:
    """The failed rows of :func:`finished_run`; raises the same."""
    ledger, plan = finished_run(url)
    receipts = [receipt for receipt in ledger.receipts(ledger.committed()) if receipt.errors]
    return Failures(
        ledger=ledger,
        plan=plan,
        shards=tuple((receipt.shard, receipt.errors) for receipt in receipts if receipt.tier != REJECTED),
        refused=merge_counts(receipt.errors for receipt in receipts if receipt.tier == REJECTED),
    )


def chosen(found: Failures, errors: Sequence[str]) -> frozenset[str]:
    """The kinds that ``errors`` name; some of them may have no rows in the run.

    Raises ``ConfigError`` for a name that is no kind, and for a kind of rows that would be refused again.
    """
    kinds: set[str] = set()
    for name in errors:
        if name == ALL_PASSING:
            kinds |= PASSING
        elif name in ANSWERING:
            kinds.add(name)
        elif name in REFUSED:
            raise ConfigError(
                f"--errors {name}: these rows were refused before any model saw them, and would be again; mend the "
                f"input or raise its limit, and answer them in a run of their own. {told(found)}"
            )
        else:
            near = difflib.get_close_matches(name, sorted({*ANSWERING, ALL_PASSING}), n=1)
            guess = f"; did you mean {near[0]}?" if near else "."
            raise ConfigError(f"--errors {name}: is no kind of error{guess} {told(found)}")
    return frozenset(kinds)


def told(found: Failures) -> str:
    """Which kinds occur in the run, with their rows, as a sentence or two."""
    run = found.plan.run_id
    if not found.kinds:
        sentence = f"No row of run {run} can be asked again."
    else:
        sentence = f"Rows of run {run} that can be asked again: {counted(found.kinds)}."
    return sentence + (f" Refused unseen: {counted(found.refused)}." if found.refused else "")


def counted(kinds: Mapping[str, int]) -> str:
    """``12 timeout, 3 server_error``."""
    return ", ".join(f"{rows:,} {kind}" for kind, rows in kinds.items())
