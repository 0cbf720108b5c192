"""What one Spark task of a labelling does; as safe to repeat as the tasks of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from hybrid_batch.core.inputs import InputSpec, LabelColumns, Split
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.records import ShardId
from hybrid_batch.core.routing import LARGE, SMALL
from hybrid_batch.parquet import batches_to_parquet, from_parquet, to_parquet
from hybrid_batch.quality.base import AnswerScorer, Case, ScorerRecipe
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.readers import read_split
from hybrid_batch.spark.tasks import done
from hybrid_batch.stages import label, sample
from hybrid_batch.storage import open_store
from hybrid_batch.tables import ID_HASHES, SCORED, with_kept


@dataclass(frozen=True)
class SampleHashesTask:
    """Reads a split -> the ``count`` smallest hashes of its answerable rows: a larger one is in no sample."""

    splits: Sequence[Split]
    spec: InputSpec
    count: int
    listed: Listed

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        best = np.empty(0, dtype=np.int64)
        with self.listed.held(self.splits[unit]):
            for batch in read_split(self.splits[unit], self.spec, ()):
                found = sample.sample_hashes(sample.answerable(batch))
                best = sample.smallest(np.concatenate([best, found]), self.count)
        yield pa.RecordBatch.from_arrays([pa.array(best)], schema=ID_HASHES)


@dataclass(frozen=True)
class SampleTask:
    """Commits the sampled rows of one split, those whose hash is at most ``limit``.

    Raises ``InputError``, and commits nothing, if a file of the split is by then not the one that was ``listed``.
    """

    layout: RunLayout
    splits: Sequence[Split]
    spec: InputSpec
    kept: Sequence[pa.Field]
    limit: int
    listed: Listed

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        split = self.splits[unit]
        schema = with_kept(SCORED, self.kept)
        with self.listed.held(split):
            read = read_split(split, self.spec, self.kept)
            data, rows = batches_to_parquet((sample.sampled_rows(rows, self.limit, schema) for rows in read), schema)
        committed = open_store(self.layout.root).put_if_absent(self.layout.scored(split.number), data)
        yield done(unit, committed, rows)


@dataclass(frozen=True)
class JudgeTask:
    """Judges the answers of one shard of both tiers and commits the labels of its queries in ``folder``."""

    layout: RunLayout
    folder: str
    answers: int
    recipe: ScorerRecipe
    columns: LabelColumns

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        store = open_store(self.layout.root)
        asked = from_parquet(store.read(self.layout.routed(ShardId(SMALL, unit))))
        small, large = (from_parquet(store.read(self.layout.results(ShardId(tier, unit)))) for tier in (SMALL, LARGE))
        label.require_pair(small, large, asked)
        texts = (self._texts(small), self._texts(large))
        found = scorer(self.recipe).score(self._cases(asked), *texts)
        table = label.labels_table(asked, self.answers, texts, found, self.columns.task)
        committed = store.put_if_absent(judged_part(self.folder, unit), to_parquet(table))
        yield done(unit, committed, table.num_rows)

    def _texts(self, results: pa.Table) -> list[list[str | None]]:
        return label.grouped(results["text"].to_pylist(), self.answers)

    def _cases(self, asked: pa.Table) -> list[Case]:
        first = asked.take(pa.array(range(0, asked.num_rows, self.answers)))

        def texts(column: str | None) -> list[str | None]:
            return [None] * first.num_rows if column is None else first[column].cast(pa.string()).to_pylist()

        ids = [name.rpartition("#")[0] for name in first["query_id"].to_pylist()]
        columns = (self.columns.reference, self.columns.choices, self.columns.scorer)
        rows = zip(ids, first["prompt"].to_pylist(), *map(texts, columns), strict=True)
        return [Case(query_id, prompt, reference, choices, kind) for query_id, prompt, reference, choices, kind in rows]


def judged_part(folder: str, unit: int) -> str:
    """Where the labels of shard ``unit`` lie."""
    return f"{folder}/part-{unit:05d}.parquet"


@lru_cache(maxsize=1)
def scorer(recipe: ScorerRecipe) -> AnswerScorer:
    """The scorer of ``recipe``, built once in each Python worker."""
    from hybrid_batch.quality import build_scorer

    return build_scorer(recipe)
