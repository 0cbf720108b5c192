"""Records of a run in a folder: who wins, what is made again, what is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hybrid_batch.core.errors import RunConflictError, StorageError
from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.core.inputs import Piece, Split
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import Receipt, ShardId, Usage
from hybrid_batch.core.routing import RoutingDecision, ScoreHistogram
from hybrid_batch.engines.base import ChatAnswer
from hybrid_batch.ledger import RECEIPT_KEY, Ledger, Routing
from hybrid_batch.parquet import from_parquet, metadata_value, to_parquet
from hybrid_batch.stages.generate import results_table
from hybrid_batch.stages.route import ShardRanges
from hybrid_batch.storage import open_store
from hybrid_batch.tables import SCORED

SMALL_0 = ShardId("small", 0)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(RunLayout.of(str(tmp_path), "night-0123456789ab"))


def a_plan(answer: int = 1, **changes) -> Plan:
    identity = {"answer": answer}
    plan = Plan(
        run_id="night-0123456789ab",
        fingerprint=fingerprint(identity),
        identity=identity,
        splits=(Split(0, (Piece("/in/a.parquet", 0, 10, (0, 2)), Piece("/in/b.jsonl"))),),
        shard_rows=4,
        created_at="2026-11-23T00:00:00+00:00",
        config={"run": {"name": "night"}},
        versions={"python": "3.11"},
    )
    return replace(plan, **changes)


def a_result(shard: ShardId, text: str = "x", rows: int = 2) -> tuple[pa.Table, Receipt]:
    rows_in = pa.Table.from_pylist(
        [{"query_id": f"q{n}", "score": 0.5, "source_file": "f", "source_row": n} for n in range(rows)], schema=SCORED
    )
    answers = [ChatAnswer(text, "stop", 3, 4)] * rows
    usage = Usage(rows, 0, 3 * rows, 4 * rows)
    receipt = Receipt(shard.tier, shard.number, usage, f"engine-{text}", 5, 9, 7, finish_reasons={"stop": rows})
    return results_table(rows_in, answers, shard.tier, "m"), receipt


def a_routing(**tiers: list[str]) -> Routing:
    decision = RoutingDecision(620_000, 3, 2, 1)
    histogram = ScoreHistogram(np.array([0, 620_000]), np.array([2, 3]))
    return Routing(decision, ShardRanges({"small": [], "large": [], "rejected": []} | tiers), histogram)


def test_the_first_plan_holds_and_a_resumed_run_keeps_it(ledger):
    assert ledger.plan() is None
    first = ledger.commit_plan(a_plan())
    later = ledger.commit_plan(a_plan(created_at="later", shard_rows=99, splits=()))
    assert first == later == ledger.plan() == a_plan()


def test_a_foreign_plan_is_refused_and_left_alone(ledger):
    ledger.commit_plan(a_plan())
    with pytest.raises(
        RunConflictError, match=r"night-0123456789ab holds another run; give this one another run\.name"
    ):
        ledger.commit_plan(a_plan(answer=2))
    assert ledger.plan() == a_plan()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"{}", b'{"format": "hybrid-batch-run/1"}', b"\xff"])
def test_what_is_no_plan_is_refused_with_its_place(ledger, content):
    path = Path(ledger.layout.plan)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(RunConflictError, match=r"plan\.json is not a plan that this version can read"):
        ledger.plan()


def test_a_shard_is_committed_once_however_many_try(ledger):
    results = [a_result(SMALL_0, text=f"text {number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda pair: Ledger(ledger.layout).commit_results(*pair), results))

    assert sum(won) == 1
    winner = results[won.index(True)]
    held = from_parquet(Path(ledger.layout.results(SMALL_0)).read_bytes())
    assert held.equals(winner[0])
    assert ledger.committed() == {SMALL_0}
    assert ledger.receipts([SMALL_0]) == [winner[1]]
    assert Receipt.from_dict(json.loads(Path(ledger.layout.receipt(SMALL_0)).read_text())) == winner[1]
    assert len(list(Path(ledger.layout.results_folder).rglob("*"))) == 2


def test_the_loser_learns_that_the_winners_receipt_holds(tmp_path):
    layout = RunLayout(str(tmp_path / "run"))
    first, second = Ledger(layout), Ledger(layout)
    table, receipt = a_result(SMALL_0, "first")
    assert first.commit_results(table, receipt)
    assert not second.commit_results(*a_result(SMALL_0, "second"))
    assert second.receipts([SMALL_0]) == first.receipts([SMALL_0]) == [receipt]


def test_a_lost_receipt_is_made_again_from_its_result(ledger):
    table, receipt = a_result(SMALL_0)
    ledger.commit_results(table, receipt)
    path = Path(ledger.layout.receipt(SMALL_0))
    before = path.read_bytes()
    path.unlink()

    assert Ledger(ledger.layout).receipts([SMALL_0]) == [receipt]
    assert path.read_bytes() == before


def test_a_result_that_was_deleted_and_answered_again_brings_its_own_receipt(ledger):
    ledger.commit_results(*a_result(SMALL_0, "old"))
    Path(ledger.layout.results(SMALL_0)).unlink()
    table, receipt = a_result(SMALL_0, "new")
    assert ledger.commit_results(table, receipt)
    assert Ledger(ledger.layout).receipts([SMALL_0]) == [receipt]


def test_a_result_of_another_program_and_a_damaged_one_are_told(ledger):
    path = Path(ledger.layout.results(SMALL_0))
    path.parent.mkdir(parents=True)
    path.write_bytes(to_parquet(a_result(SMALL_0)[0]))
    with pytest.raises(StorageError, match="carries no receipt: it was not written by this program"):
        ledger.receipts([SMALL_0])
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StorageError, match=r"shard-000000\.parquet is damaged; delete it, and .*/manifest\.json if"):
        ledger.receipts([SMALL_0])
    path.unlink()
    with pytest.raises(StorageError, match="no such file"):
        ledger.receipts([SMALL_0])


def test_receipts_come_in_the_order_of_the_shards_and_are_read_once(ledger):
    shards = [ShardId("small", 2), ShardId("large", 1), ShardId("small", 0)]
    for shard in shards:
        ledger.commit_results(*a_result(shard))
    assert [receipt.shard for receipt in ledger.receipts(shards)] == sorted(shards)
    for shard in shards:
        Path(ledger.layout.receipt(shard)).unlink()
        Path(ledger.layout.results(shard)).unlink()
    assert [receipt.shard for receipt in ledger.receipts(shards)] == sorted(shards)
    assert ledger.receipts([]) == []


def test_a_routing_comes_back_as_it_was_and_the_first_one_holds(ledger):
    routing = a_routing(small=["", "b\x00é\x00"], large=["k" * 300], rejected=["z"])
    assert ledger.routing() is None
    held = ledger.commit_routing(routing)
    again = ledger.commit_routing(a_routing(small=["other"]))

    for found in (held, again, Ledger(ledger.layout).routing()):
        assert found.decision == routing.decision
        assert found.ranges == routing.ranges
        assert found.histogram.micros.tolist() == [0, 620_000]
        assert found.histogram.rows.tolist() == [2, 3]
    assert held.shards == [ShardId("small", 0), ShardId("small", 1), ShardId("large", 0), ShardId("rejected", 0)]
    assert held.rows() == {"small": 3, "large": 2, "rejected": 1}


def test_a_routing_by_group_holds_every_threshold(ledger):
    decision = RoutingDecision(1_000_001, 3, 2, 1, "tenant", {"é": 620_000, "7": 1_000_001}, 2)
    histogram = ScoreHistogram(np.array([0, 620_000]), np.array([2, 3]), np.array([0, 3]), 2)
    ledger.commit_routing(replace(a_routing(small=[""]), decision=decision, histogram=histogram))
    ledger.commit_routing(a_routing(small=["other"]))
    found = Ledger(ledger.layout).routing()
    assert found.decision == decision
    assert found.decision.thresholds.groups == {"é": 620_000, "7": 1_000_001}
    assert (found.histogram.small.tolist(), found.histogram.ungrouped) == ([0, 3], 2)
    assert ledger.routing().histogram.rows.tolist() == [2, 3]


def test_a_routing_of_an_empty_night_has_no_shards(ledger):
    empty = Routing(
        RoutingDecision(500_000, 0, 0, 0),
        ShardRanges({"small": [], "large": [], "rejected": []}),
        ScoreHistogram(np.array([], dtype=np.int64), np.array([], dtype=np.int64)),
    )
    assert ledger.commit_routing(empty).shards == []


def test_the_manifest_is_committed_once(ledger):
    assert ledger.manifest() is None
    assert ledger.commit_manifest({"rows": 1}) == {"rows": 1}
    assert ledger.commit_manifest({"rows": 2}) == {"rows": 1}
    assert Ledger(ledger.layout).manifest() == {"rows": 1}


def test_the_mark_comes_with_the_manifest_and_is_made_again(ledger):
    mark = Path(ledger.layout.success)
    ledger.commit_results(*a_result(SMALL_0))
    assert not mark.exists()
    ledger.commit_manifest({"rows": 2})
    assert mark.read_bytes() == b""
    assert ledger.committed() == {SMALL_0}
    mark.unlink()
    ledger.commit_manifest({"rows": 2})
    assert mark.exists()


def test_a_start_removes_a_mark_only_where_there_is_no_manifest(ledger):
    mark = Path(ledger.layout.success)
    ledger.commit_plan(a_plan())
    ledger.commit_manifest({"rows": 2}, marks=False)
    assert not mark.exists()
    ledger.mark_success()
    ledger.commit_plan(a_plan())
    assert mark.exists()
    Path(ledger.layout.manifest).unlink()
    ledger.commit_plan(a_plan())
    assert not mark.exists()


def test_a_look_makes_no_copy_of_a_receipt(ledger):
    table, receipt = a_result(SMALL_0)
    ledger.commit_results(table, receipt)
    Path(ledger.layout.receipt(SMALL_0)).unlink()
    assert Ledger(ledger.layout, mends=False).receipts([SMALL_0]) == [receipt]
    assert not Path(ledger.layout.receipt(SMALL_0)).exists()


def test_listings_count_only_what_is_theirs(ledger):
    layout = ledger.layout
    ledger.commit_routing(a_routing(small=[""]))
    for url in (
        layout.scored(0),
        layout.scored(3),
        f"{layout.scored_folder}/.hybrid-batch-tmp-1",
        f"{layout.scored_folder}/notes.txt",
        layout.routed(SMALL_0),
        f"{layout.results_folder}/_SUCCESS",
    ):
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        Path(url).write_text("x")
    assert ledger.scored_parts() == {0, 3}
    assert ledger.routed() == {SMALL_0}
    assert ledger.committed() == set()


def test_a_report_may_be_written_again(ledger):
    for text in (b"one", b"two"):
        ledger.put_report(ledger.layout.html_report, text)
    assert Path(ledger.layout.html_report).read_bytes() == b"two"


def test_parquet_carries_its_metadata_in_the_footer():
    table = pa.table({"a": [1]}).replace_schema_metadata({"own": "kept"})
    data = to_parquet(table, {RECEIPT_KEY: "é"})
    assert (metadata_value(data, RECEIPT_KEY), metadata_value(data, "own"), metadata_value(data, "x")) == (
        "é",
        "kept",
        None,
    )
    assert from_parquet(data).equals(table)
    with pytest.raises(pa.ArrowInvalid):
        from_parquet(b"no parquet")


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "sha', b"[]", b"null", b"PAR1"])
@pytest.mark.parametrize("kind", ["plan", "routing", "manifest"])
def test_a_damaged_record_is_a_conflict_that_names_it(ledger, kind, content):
    url = getattr(ledger.layout, kind)
    open_store(url).put(url, content)
    with pytest.raises(RunConflictError) as raised:
        getattr(ledger, kind)()
    assert str(raised.value).startswith(f"{url} is not a {kind} that this version can read: ")
