"""What a finished run, or a look at a running one, comes back with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hybrid_batch.core.cost import Counterfactual, TierCost
from hybrid_batch.core.layout import RunLayout


@dataclass(frozen=True)
class RunOutcome:
    """A finished run.  ``manifest`` is what :func:`hybrid_batch.core.manifest.build_manifest` wrote.

    With thresholds by group ``by`` names their column, ``groups`` has the threshold of each, ``threshold`` is that of
    all other queries, and ``ungrouped_rows`` are the answerable ones of these.
    ``already_finished`` tells that this call found the run done and did nothing.
    """

    layout: RunLayout
    costs: tuple[TierCost, ...]
    counterfactual: Counterfactual
    threshold: float
    cost_advantage: float
    rejected_rows: int
    manifest: Mapping[str, Any]
    already_finished: bool = False
    by: str | None = None
    groups: Mapping[str, float] = field(default_factory=dict)
    ungrouped_rows: int = 0


@dataclass(frozen=True)
class StageStatus:
    """One stage as its objects in storage tell it: units are parts or shards; None while not yet planned.

    ``removed`` tells that objects of a finished run are gone, which had all been there.
    """

    name: str
    done_units: int
    planned_units: int | None
    done_rows: int
    planned_rows: int | None
    removed: bool = False

    @property
    def complete(self) -> bool:
        return self.done_units == self.planned_units


@dataclass(frozen=True)
class Pace:
    """How fast an unfinished run goes, as far as storage tells.

    ``stage`` is the one under way, ``rows_per_second`` its rate towards the last commit and ``eta_seconds`` the time to
    its end at that rate, each None where it is not known.  ``waited_seconds`` is how long ago the last object was
    committed, by the clocks of the store and of this machine; ``stalled`` says that this is unusually long.
    """

    stage: str
    rows_per_second: float | None
    eta_seconds: float | None
    waited_seconds: float
    stalled: bool


@dataclass(frozen=True)
class RunStatus:
    """A run or a labelling as storage tells it; ``state`` is ``finished`` or ``unfinished``: running or interrupted.

    ``pace`` is None for a finished run.  ``retry_of`` is the id of the run whose rows a retry asks again.
    """

    layout: RunLayout
    state: str
    stages: tuple[StageStatus, ...]
    costs: tuple[TierCost, ...]
    errors: Mapping[str, int]
    labelling: bool = False
    pace: Pace | None = None
    retry_of: str | None = None

    @property
    def finished(self) -> bool:
        return self.state == "finished"
