"""Where everything of a run lies: each path is a pure function of what it holds, with an inverse."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hybrid_batch.core.records import ShardId

_SHARD = re.compile(r"/tier=(?P<tier>[a-z]+)/shard-(?P<number>\d{6,})\.(?:parquet|json)$")
_PART = re.compile(r"/part-(?P<number>\d{5,})\.parquet$")


@dataclass(frozen=True)
class RunLayout:
    """The folder of one run, ``{output}/runs/{run_id}``; ``root`` has no trailing slash."""

    root: str

    @classmethod
    def of(cls, output: str, run_id: str) -> RunLayout:
        return cls(f"{runs_folder(output)}/{run_id}")

    @property
    def run_id(self) -> str:
        return self.root.rsplit("/", 1)[-1]

    @property
    def plan(self) -> str:
        return f"{self.root}/plan.json"

    @property
    def scored_folder(self) -> str:
        return f"{self.root}/scored"

    def scored(self, part: int) -> str:
        return f"{self.scored_folder}/part-{part:05d}.parquet"

    @property
    def routing(self) -> str:
        """Threshold, counts and the key ranges of all shards: committed before any shard is written."""
        return f"{self.root}/routed/routing.parquet"

    @property
    def routed_folder(self) -> str:
        return f"{self.root}/routed"

    def routed(self, shard: ShardId) -> str:
        return f"{self.routed_folder}/{_shard_path(shard)}.parquet"

    @property
    def results_folder(self) -> str:
        return f"{self.root}/results"

    def results(self, shard: ShardId) -> str:
        """The commit point of a shard."""
        return f"{self.results_folder}/{_shard_path(shard)}.parquet"

    @property
    def success(self) -> str:
        """An empty object for those who look for one; no reader of Parquet takes a name with ``_`` for data."""
        return f"{self.results_folder}/_SUCCESS"

    @property
    def receipts_folder(self) -> str:
        return f"{self.root}/receipts"

    def receipt(self, shard: ShardId) -> str:
        return f"{self.receipts_folder}/{_shard_path(shard)}.json"

    @property
    def dead_letters_folder(self) -> str:
        return f"{self.root}/dead_letters"

    def dead_letters(self, shard: ShardId) -> str:
        return f"{self.dead_letters_folder}/{_shard_path(shard)}.parquet"

    @property
    def batch_folder(self) -> str:
        """Results in the form of OpenAI's batch files, where the input has that form."""
        return f"{self.root}/batch"

    def batch_output(self, number: int) -> str:
        return f"{self.batch_folder}/output-{number:05d}.jsonl"

    def batch_errors(self, number: int) -> str:
        return f"{self.batch_folder}/errors-{number:05d}.jsonl"

    @property
    def labels_folder(self) -> str:
        return f"{self.root}/labels"

    def labels(self, key: str) -> str:
        """The labels that the scorer ``key`` made of a labelling's answers."""
        return f"{self.labels_folder}/{key}.parquet"

    def judged_folder(self, key: str) -> str:
        """Labels shard by shard, as far as they are made; :meth:`labels` is the whole."""
        return f"{self.root}/judged/{key}"

    @property
    def cost_report(self) -> str:
        return f"{self.root}/reports/cost.parquet"

    @property
    def html_report(self) -> str:
        return f"{self.root}/reports/report.html"

    @property
    def manifest(self) -> str:
        return f"{self.root}/manifest.json"


def output_of(root: str) -> str | None:
    """The output that the run in the folder ``root`` belongs to; None where it does not lie in a folder of runs."""
    folder, _, name = root.rpartition("/")
    output, _, runs = folder.rpartition("/")
    return output if name and runs == "runs" else None


def runs_folder(output: str) -> str:
    """The folder that holds all runs of one output."""
    return f"{output.rstrip('/')}/runs"


def parse_shard(url: str) -> ShardId | None:
    """Inverse of the shard paths; None for any other object."""
    match = _SHARD.search(url)
    return ShardId(match["tier"], int(match["number"])) if match else None


def parse_part(url: str) -> int | None:
    """Inverse of :meth:`RunLayout.scored`; None for any other object."""
    match = _PART.search(url)
    return int(match["number"]) if match else None


def shards_in(urls: Iterable[str]) -> set[ShardId]:
    """The shards among ``urls``."""
    return {shard for url in urls if (shard := parse_shard(url)) is not None}


def _shard_path(shard: ShardId) -> str:
    return f"tier={shard.tier}/shard-{shard.number:06d}"
