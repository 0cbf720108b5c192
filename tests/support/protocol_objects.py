"""The objects of a night, and what must hold of them at every moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa

from hybrid_batch.core.layout import parse_shard
from hybrid_batch.core.manifest import tally
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import Receipt, total_usage
from hybrid_batch.ledger import RECEIPT_KEY, Routing
from hybrid_batch.parquet import from_parquet
from tests.support.protocol_night import LAYOUT, Night, routing_in, scored_rows, shard_of
from tests.support.protocol_steps import Step

REPORTS = (LAYOUT.cost_report, LAYOUT.html_report)
Held = Mapping[str, int]


class Violation(AssertionError):
    """An invariant that does not hold; ``number`` is that in ``docs/architecture.md``."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"invariant {number}: {what}")
        self.number = number


class Objects:
    """Contents by number, each once, and what was found out about them."""

    def __init__(self, night: Night) -> None:
        self.night = night
        self.contents: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self._read: dict[tuple[str, int], Any] = {}
        self._checked: set[frozenset[tuple[str, int]]] = set()

    def number(self, content: bytes) -> int:
        """The number of ``content``."""
        if content not in self._numbers:
            self._numbers[content] = len(self.contents)
            self.contents.append(content)
        return self._numbers[content]

    def after(self, held: Held, step: Step) -> frozenset[tuple[str, int]] | None:
        """The objects after ``step`` was done, None if it changes none.  Raises ``Violation``."""
        if step.kind == "put_if_absent" and step.url in held:
            return None
        if step.kind == "delete":
            return self._without(held, step.url)
        if step.kind not in ("put", "put_if_absent"):
            return None
        number = self.number(step.data)
        if (before := held.get(step.url)) == number:
            return None
        name = step.url.removeprefix(LAYOUT.root)
        derived = step.url == LAYOUT.success or (self.night.own_prices and step.url in REPORTS)
        if LAYOUT.manifest in held and not derived:
            raise Violation(8, f"{name} is written when the run is finished")
        if before is not None and step.url not in REPORTS:
            raise Violation(1, f"{name} is replaced by another content")
        return frozenset({**held, step.url: number}.items())

    def _without(self, held: Held, url: str) -> frozenset[tuple[str, int]] | None:
        """Only what says that a run is finished, and dead letters of answers that were replaced, may go."""
        if url not in held:
            return None
        if url != LAYOUT.success and not url.startswith(f"{LAYOUT.dead_letters_folder}/"):
            raise Violation(1, f"{url} is removed")
        return frozenset((place, number) for place, number in held.items() if place != url)

    def is_full(self, held: Held, folder: str) -> bool:
        """True if no further object can come into ``folder``."""
        if folder == LAYOUT.dead_letters_folder or (folder == LAYOUT.results_folder and LAYOUT.success not in held):
            return False
        if folder == LAYOUT.scored_folder:
            return all(LAYOUT.scored(part) in held for part in range(self.night.parts))
        routing = self._routing(held)
        if routing is None:
            return False
        place = {LAYOUT.routed_folder: LAYOUT.routed, LAYOUT.results_folder: LAYOUT.results}[folder]
        return all(place(shard) in held for shard in routing.shards)

    def check(self, held: Held) -> None:
        """Raises ``Violation`` if something about the objects is wrong.  Each set of them is looked at once."""
        objects = frozenset(held.items())
        if objects in self._checked:
            return
        for url, number in objects:
            self._known(url, number)
        self._check_shards(held)
        self._check_receipts(held)
        if LAYOUT.manifest in held:
            self._check_manifest(held)
        self._checked.add(objects)

    def check_told(self, held: Held, told: Any) -> None:
        """What a driver tells its user is what is committed."""
        if LAYOUT.manifest not in held or dict(told) != self._known(LAYOUT.manifest, held[LAYOUT.manifest]):
            raise Violation(6, "a driver ended well and tells of another manifest than the one that is there")

    def _routing(self, held: Held) -> Routing | None:
        return self._known(LAYOUT.routing, held[LAYOUT.routing]) if LAYOUT.routing in held else None

    def _check_shards(self, held: Held) -> None:
        """Invariants 2 and 3: each object of a shard holds the rows that the committed split gives it."""
        shards = {url: shard for url in held if (shard := parse_shard(url)) is not None}
        if not shards:
            return
        routing = self._routing(held)
        if routing is None or any(LAYOUT.scored(part) not in held for part in range(self.night.parts)):
            raise Violation(2, "a shard was written before the split that it follows")
        rows = scored_rows(tuple(self.contents[held[LAYOUT.scored(part)]] for part in range(self.night.parts)))
        for url, shard in shards.items():
            if shard not in routing.shards:
                raise Violation(3, f"{url} was never planned")
            if url.endswith(".parquet"):
                ids = self._known(url, held[url])["query_id"].to_pylist()
                if ids != shard_of(rows, routing, shard)["query_id"].to_pylist():
                    raise Violation(3, f"{url} does not hold the rows of its shard")

    def _check_receipts(self, held: Held) -> None:
        """Invariant 4: what a receipt's copy says stands in its result."""
        for url in held:
            if url.startswith(LAYOUT.receipts_folder):
                shard = parse_shard(url)
                results = LAYOUT.results(shard)
                if results not in held:
                    raise Violation(4, f"there is a receipt of {shard}, and no result")
                if self._known(url, held[url]) != self._receipt(results, held[results]):
                    raise Violation(4, f"the receipt of {shard} is not that of its result")

    def _check_manifest(self, held: Held) -> None:
        """Invariant 5: a finished run is whole, and its totals are those of its results."""
        routing, manifest = self._routing(held), self._known(LAYOUT.manifest, held[LAYOUT.manifest])
        absent = [shard for shard in routing.shards if LAYOUT.results(shard) not in held] if routing else ["the split"]
        absent += [url for url in REPORTS if url not in held]
        absent += [shard for shard in routing.shards if LAYOUT.receipt(shard) not in held] if routing else []
        if absent:
            raise Violation(5, f"the run is finished without {absent[0]}")
        results = [LAYOUT.results(shard) for shard in routing.shards]
        receipts = [self._receipt(url, held[url]) for url in results]
        usage = total_usage(receipt.usage for receipt in receipts)
        said = (manifest["rows"], manifest["prompt_tokens"], manifest["completion_tokens"])
        if said != (usage.rows, usage.prompt_tokens, usage.completion_tokens):
            raise Violation(5, "the totals of the manifest are not those of the receipts")
        if not tally(len(self.night.ids()), routing.shards, receipts).complete:
            raise Violation(5, "rows in and rows out differ")
        ids = sorted(name for url in results for name in self._known(url, held[url])["query_id"].to_pylist())
        if ids != self.night.ids():
            raise Violation(3, f"the results hold {ids}, the input {self.night.ids()}")
        if not self.night.own_prices:
            self.check_bill(held)

    def check_bill(self, held: Held) -> None:
        """Invariant 5, the money: the cost report is that of the manifest."""
        manifest = self._known(LAYOUT.manifest, held[LAYOUT.manifest])
        usd = self._known(LAYOUT.cost_report, held[LAYOUT.cost_report])["run_usd"][0].as_py()
        if usd != Decimal(manifest["usd"]):
            raise Violation(5, f"the cost report says {usd} USD, the manifest {manifest['usd']}")

    def _receipt(self, url: str, number: int) -> Receipt:
        return Receipt.from_dict(json.loads(self._known(url, number).schema.metadata[RECEIPT_KEY.encode()]))

    def _known(self, url: str, number: int) -> Any:
        """What the content is, read as what its place promises.  Raises ``Violation`` if it is not whole."""
        if (url, number) not in self._read:
            try:
                self._read[url, number] = self._parsed(url, self.contents[number])
            except (ValueError, KeyError, TypeError, pa.ArrowException, OSError) as error:
                raise Violation(9, f"{url} is not whole: {error}") from error
        return self._read[url, number]

    def _parsed(self, url: str, content: bytes) -> Any:
        if url == LAYOUT.routing:
            return routing_in(content)
        if url == LAYOUT.plan:
            return Plan.from_dict(json.loads(content))
        if url.startswith(LAYOUT.receipts_folder):
            return Receipt.from_dict(json.loads(content))
        if url.endswith(".json"):
            return json.loads(content)
        if url == LAYOUT.success:
            return content
        if url.endswith(".html"):
            text = content.decode()
            if not text.rstrip().endswith("</html>"):
                raise ValueError("the page has no end")
            return text
        return from_parquet(content)
