"""What a verification looks at: the records of a run, one listing of its folder, and how its tables are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa

from hybrid_batch.core.errors import InputError, RunConflictError
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import ShardId
from hybrid_batch.core.routing import TIERS
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.parquet import read_checked
from hybrid_batch.stages.sample import asked_rows
from hybrid_batch.storage import Store, open_store, reading
from hybrid_batch.verification.ids import Hashed, row_hashes

READERS: Final = 8
_AHEAD: Final = 2 * READERS

DAMAGE: Final = (pa.ArrowException, InputError, ValueError, KeyError, TypeError)
"""What reading the content of a damaged object raises."""

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Evidence:
    """A run as it was at one moment; ``objects`` are the URLs of all that lay in its folder then, by size.

    ``damaged`` has the URLs of a routing and a manifest that are there and cannot be read, with what is wrong.
    """

    store: Store
    layout: RunLayout
    plan: Plan
    routing: Routing | None
    manifest: Mapping[str, Any] | None
    objects: Mapping[str, int]
    damaged: Mapping[str, str]

    @classmethod
    def of(cls, ledger: Ledger, plan: Plan) -> Evidence:
        """Look at the run of ``ledger``.  Raises ``StorageError`` if the store fails."""
        layout, store = ledger.layout, open_store(ledger.layout.root)
        # The manifest is read first: all that it speaks of was there before it, and is in the listing.
        damaged: dict[str, str] = {}
        manifest = _unless_damaged(layout.manifest, ledger.manifest, damaged)
        objects = {item.url: item.size for item in store.list(layout.root)}
        routing = _unless_damaged(layout.routing, ledger.routing, damaged)
        return cls(store, layout, plan, routing, manifest, objects, damaged)

    @property
    def finished(self) -> bool:
        """Whether there is a manifest, be it damaged."""
        return self.manifest is not None or self.layout.manifest in self.damaged

    @property
    def planned(self) -> list[ShardId]:
        """All shards of the run, none before it is routed; of a finished run without its routing those it committed."""
        return self.routing.shards if self.routing else _shards_of(self.manifest or {})

    @property
    def parts(self) -> list[int]:
        """Numbers of the parts of the scored table that are there."""
        return [split.number for split in self.plan.splits if self.layout.scored(split.number) in self.objects]

    def routed(self) -> list[ShardId]:
        return [shard for shard in self.planned if self.layout.routed(shard) in self.objects]

    def committed(self) -> list[ShardId]:
        return [shard for shard in self.planned if self.layout.results(shard) in self.objects]

    def name(self, url: str) -> str:
        """``url`` as the run's folder has it."""
        return url.removeprefix(f"{self.layout.root}/")

    def ids(self, url: str) -> pa.ChunkedArray:
        """The ids of a scored part or a routed shard, in order.

        Of a labelling's sample they are the ids of the answers that are asked for.  Raises one of ``DAMAGE``.
        """
        with reading(url), self.store.open_input(url) as file:
            rows = read_checked(file, ["query_id"], whole=False)
        if self.plan.is_labelling and url.startswith(self.layout.scored_folder):
            rows = asked_rows(rows, int(self.plan.identity["answers"]))
        return rows["query_id"]

    def hashed(self, urls: Iterable[str], pool: Executor) -> Iterator[Hashed]:
        """The ids of each object with their hashes, in order."""
        return in_order(self._hashed, urls, pool)

    def _hashed(self, url: str) -> Hashed:
        try:
            ids = self.ids(url)
        except DAMAGE as error:
            return Hashed(self.name(url), pa.chunked_array([], pa.string()), np.empty((0, 2), np.uint64), told(error))
        return Hashed(self.name(url), ids, row_hashes(ids))


def _unless_damaged(url: str, read: Callable[[], Found | None], damaged: dict[str, str]) -> Found | None:
    try:
        return read()
    except RunConflictError as error:
        damaged[url] = told(error.__cause__ or error)
        return None


def _shards_of(manifest: Mapping[str, Any]) -> list[ShardId]:
    """The shards in the order of their numbers over all tiers; none where the manifest does not have them."""
    try:
        shards = [ShardId(str(tier), int(number)) for tier, number, _ in manifest["shards"]]
        return sorted(shards, key=lambda shard: (TIERS.index(shard.tier), shard.number))
    except DAMAGE:
        return []


def told(error: BaseException) -> str:
    """The first line of what is wrong with an object."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def readers() -> Iterator[Executor]:
    """Threads that read objects; what they have not begun is given up when the block fails."""
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="verify")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(function: Callable[[Item], Found], items: Iterable[Item], pool: Executor) -> Iterator[Found]:
    """``function`` of each item, in order; only a few are done before they are asked for."""
    left, waiting = iter(items), deque[Future[Found]]()
    waiting.extend(pool.submit(function, item) for item in islice(left, _AHEAD))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in islice(left, 1))
