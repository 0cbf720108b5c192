"""``make bench-shards``: what planning and resuming a run of many shards costs a store, and how it grows.

Made-up shards are planned, and their objects put into a Ceph S3 gateway on loopback, or wherever ``--output`` and the
AWS settings point.  Then the questions are asked that a start, a resume, a look and an end ask: seconds and requests of
each.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.records import Receipt, ShardId, Usage
from hybrid_batch.core.routing import LARGE, SMALL, RoutingDecision, ScoreHistogram
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.stages.route import ShardRanges
from hybrid_batch.storage import open_store

SIZES: Final = (1_000, 10_000, 100_000)
ROWS: Final = 1_000
WRITERS: Final = 32
GATEWAY: Final = Path(__file__).resolve().parents[1] / "tests" / "s3"


@dataclass
class Counted:
    """Requests that botocore sends from this process."""

    requests: int = 0

    def watch(self) -> None:
        from hybrid_batch.storage.s3_connection import connect

        connect().client.meta.events.register("before-send.s3", self._seen)

    def _seen(self, **_: Any) -> None:
        self.requests += 1


@dataclass
class Night:
    """A run of so many shards: what each question took."""

    shards: int
    asked: dict[str, tuple[float, int]] = field(default_factory=dict)

    def ask(self, name: str, counted: Counted, question: Callable[[], Any]) -> Any:
        before, began = counted.requests, time.perf_counter()
        answer = question()
        self.asked[name] = (time.perf_counter() - began, counted.requests - before)
        return answer


def main() -> None:
    asked = _arguments()
    with _somewhere(asked.output) as output:
        counted = Counted()
        counted.watch()
        nights = [measure(f"{output}/{uuid.uuid4().hex[:8]}", size, counted) for size in asked.sizes]
    _tell(nights)


def measure(output: str, shards: int, counted: Counted) -> Night:
    """Plan ``shards`` shards below ``output``, put their objects there, and ask about them."""
    layout, night = RunLayout.of(output, "many"), Night(shards)
    ledger, routing = Ledger(layout), planned(shards)
    night.ask("commit the borders", counted, lambda: ledger.commit_routing(routing))
    _fill(layout, routing.shards)
    print(f"{shards:,} shards are there", file=sys.stderr, flush=True)

    again = Ledger(layout)
    night.ask("read the borders", counted, again.routing)
    night.ask("list routed shards", counted, again.routed)
    done = night.ask("list committed shards", counted, again.committed)
    receipts = night.ask("read all receipts", counted, lambda: again.receipts(done))
    night.ask("one more look", counted, lambda: again.receipts(again.committed()))
    assert len(receipts) == len(done) == shards
    return night


def planned(shards: int) -> Routing:
    """Borders of ``shards`` shards of two tiers, as long as a night's are."""
    halves = {SMALL: shards // 2, LARGE: shards - shards // 2}
    keys = {tier: [f"{number:08d} " + "word " * 49 for number in range(count)] for tier, count in halves.items()}
    decision = RoutingDecision(500_000, small=halves[SMALL] * ROWS, large=halves[LARGE] * ROWS, rejected=0)
    return Routing(decision, ShardRanges(keys), ScoreHistogram(np.array([0, 999_999]), np.array([1, 1])))


def _fill(layout: RunLayout, shards: Sequence[ShardId]) -> None:
    """The objects of all shards; those that are only listed are empty."""
    put = open_store(layout.root).put

    def fill(shard: ShardId) -> None:
        receipt = Receipt(shard.tier, shard.number, Usage(ROWS, 0, 50_000, 100_000), uuid.uuid4().hex, 0, 1)
        put(layout.routed(shard), b"")
        put(layout.results(shard), b"")
        put(layout.receipt(shard), json.dumps(receipt.to_dict(), indent=1).encode())

    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(fill, shards):
            pass


@contextmanager
def _somewhere(output: str | None) -> Iterator[str]:
    if output is not None:
        yield output.rstrip("/")
        return
    sys.path.insert(0, str(GATEWAY))
    from ceph_gateway import HOW_TO_INSTALL, CephGateway, missing_programs

    if missing := missing_programs():
        raise SystemExit(
            f"Ceph is not here ({', '.join(missing)}): {HOW_TO_INSTALL}, or give --output s3://BUCKET/FOLDER"
        )
    with CephGateway() as gateway:
        os.environ.update(gateway.environment())
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
        yield gateway.create_bucket(f"many-{uuid.uuid4().hex[:8]}")


def _tell(nights: Sequence[Night]) -> None:
    print(f"{'seconds (requests)':<24}" + "".join(f"{night.shards:>20,}" for night in nights))
    for name in nights[0].asked:
        cells = (f"{seconds:,.2f} ({requests:,})" for seconds, requests in (night.asked[name] for night in nights))
        print(f"{name:<24}" + "".join(f"{cell:>20}" for cell in cells))
    figures = {
        str(night.shards): {
            name: {"seconds": round(seconds, 3), "requests": requests}
            for name, (seconds, requests) in night.asked.items()
        }
        for night in nights
    }
    print("\n" + json.dumps(figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N", help="shards [%(default)s]")
    parser.add_argument("--output", metavar="URL", help="a folder of a bucket [a Ceph gateway of its own]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
