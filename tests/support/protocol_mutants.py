"""The protocol with one thing wrong, to show that the checker sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import Receipt
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.parquet import from_parquet
from tests.support.protocol_night import LAYOUT, Actor, Night, Told, answered
from tests.support.protocol_steps import Stage, Steps


class _Replacing:
    """A store whose put-if-absent replaces what is there, below one place."""

    def __init__(self, steps: Steps, place: str) -> None:
        self._steps, self._place = steps, f"{LAYOUT.root}/{place}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)

    def put_if_absent(self, url: str, data: bytes) -> bool:
        if not url.startswith(self._place):
            return self._steps.put_if_absent(url, data)
        self._steps.put(url, data)
        return True


class _Tearing(_Replacing):
    """A store that shows an object before it is complete."""

    def put_if_absent(self, url: str, data: bytes) -> bool:
        if url.startswith(self._place):
            self._steps.put(url, data[: len(data) // 2])
        return super().put_if_absent(url, data)


@dataclass(frozen=True)
class _OnStore(Night):
    store: ClassVar[type[_Replacing]] = _Replacing
    place: ClassVar[str] = ""

    def program(self, actor: Actor) -> Any:
        body = super().program(actor)
        return lambda steps: body(self.store(steps, self.place))


class ScoresAreReplaced(_OnStore):
    place = "scored/"


class PlanIsReplaced(_OnStore):
    place = "plan.json"


class SplitIsReplaced(_OnStore):
    place = "routed/routing"


class ResultsAreReplaced(_OnStore):
    place = "results/"


class ManifestIsReplaced(_OnStore):
    place = "manifest.json"


class ResultsAreTorn(_OnStore):
    store, place = _Tearing, "results/"


class ReceiptsFirst(Night):
    """The receipt is written before the result that it belongs to."""

    class Books(Ledger):
        def commit_results(self, results: pa.Table, receipt: Receipt) -> bool:
            self.put_report(self.layout.receipt(receipt.shard), json.dumps(receipt.to_dict()).encode())
            return super().commit_results(results, receipt)

    def ledger(self, steps: Steps) -> Ledger:
        return self.Books(LAYOUT, steps)


class LosersBillToo(Night):
    """An attempt that lost the race writes its own receipt all the same."""

    class Books(Ledger):
        def commit_results(self, results: pa.Table, receipt: Receipt) -> bool:
            won = super().commit_results(results, receipt)
            self.put_report(self.layout.receipt(receipt.shard), json.dumps(receipt.to_dict()).encode())
            return won

    def ledger(self, steps: Steps) -> Ledger:
        return self.Books(LAYOUT, steps)


class OwnSplit(Night):
    """A driver goes on with the split that it decided, not with the one that is committed."""

    class Books(Ledger):
        def commit_routing(self, routing: Routing) -> Routing:
            super().commit_routing(routing)
            return routing

    def ledger(self, steps: Steps) -> Ledger:
        return self.Books(LAYOUT, steps)


class OwnManifest(Night):
    """A driver tells what it counted, not what is committed."""

    class Books(Ledger):
        def commit_manifest(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
            super().commit_manifest(manifest)
            return dict(manifest)

    def ledger(self, steps: Steps) -> Ledger:
        return self.Books(LAYOUT, steps)


class ManifestBeforeReports(Night):
    """The reports are written when the run is said to be finished."""

    class Books(Ledger):
        def put_report(self, url: str, data: bytes) -> None:
            self.__dict__.setdefault("later", {})[url] = data

        def commit_manifest(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
            held = super().commit_manifest(manifest)
            for url, data in self.__dict__["later"].items():
                super().put_report(url, data)
            return held

    def ledger(self, steps: Steps) -> Ledger:
        return self.Books(LAYOUT, steps)


class ManifestBeforeResults(Night):
    """The manifest is written when the night is split."""

    class Books(Ledger):
        def commit_routing(self, routing: Routing) -> Routing:
            self.commit_manifest({"rows": 4})
            return super().commit_routing(routing)

    def ledger(self, steps: Steps) -> Ledger:
        return self.Books(LAYOUT, steps)


class NobodyWaits(Night):
    """A driver hands the shards out and counts at once."""

    def answer_tier(self, tier: str, ledger: Ledger, told: Told, steps: Steps) -> Told:
        return told


class NobodyLooks(Night):
    """An attempt has its shard answered without a look whether that was done."""

    def answer(self, actor: Actor, steps: Steps) -> bool:
        rows = from_parquet(steps.read(LAYOUT.routed(actor.unit)))
        steps.pay(actor.unit)
        return self.ledger(steps).commit_results(*answered(rows, actor.unit, actor))


class ShardsBeforeTheSplit(Night):
    """A driver has the shards written and then commits what it split by."""

    def begin(self, actor: Actor, ledger: Ledger, told: None, steps: Steps) -> Any:
        if ledger.manifest() is not None:
            return super().begin(actor, ledger, told, steps)
        plan: Plan = ledger.commit_plan(self.draft(actor))
        if missing := sorted({split.number for split in plan.splits} - ledger.scored_parts()):
            steps.run(Stage("score", tuple(missing)))
        told = Told(plan, ledger.routing() or self.decided(actor, plan, steps))
        steps.run(Stage("route", (tuple(told.routing.shards),), told))
        return Told(plan, ledger.commit_routing(told.routing))


MUTANTS: dict[type[Night], tuple[Night, int]] = {
    ScoresAreReplaced: (ScoresAreReplaced(), 1),
    PlanIsReplaced: (PlanIsReplaced(), 1),
    SplitIsReplaced: (SplitIsReplaced(), 1),
    ResultsAreReplaced: (ResultsAreReplaced(), 1),
    ManifestIsReplaced: (ManifestIsReplaced(own_prices=True), 8),
    ResultsAreTorn: (ResultsAreTorn(), 9),
    ReceiptsFirst: (ReceiptsFirst(), 4),
    LosersBillToo: (LosersBillToo(), 1),
    OwnSplit: (OwnSplit(), 3),
    OwnManifest: (OwnManifest(own_prices=True), 6),
    ManifestBeforeReports: (ManifestBeforeReports(), 5),
    ManifestBeforeResults: (ManifestBeforeResults(), 5),
    NobodyWaits: (NobodyWaits(), 10),
    NobodyLooks: (NobodyLooks(), 7),
    ShardsBeforeTheSplit: (ShardsBeforeTheSplit(), 2),
}
"""Each with the number of the invariant that it violates."""
