"""The label stage: from the answers of both models and their qualities to rows of a labels table."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from hybrid_batch.tables import LABELS

Qualities = Sequence[Sequence[float | None]]
"""Of each query, the quality of each of its answers; None where it has none."""


def grouped(values: Sequence[str | None], answers: int) -> list[list[str | None]]:
    """The ``answers`` consecutive values of each query."""
    return [list(values[start : start + answers]) for start in range(0, len(values), answers)]


def require_pair(small: pa.Table, large: pa.Table, asked: pa.Table) -> None:
    """Raises ``ValueError`` unless both results answer the rows that were asked, in their order."""
    for tier, results in (("small", small), ("large", large)):
        if not results["query_id"].equals(asked["query_id"]):
            raise ValueError(f"the results of tier {tier} are not answers to the rows that were asked")


def labels_table(
    asked: pa.Table,
    answers: int,
    texts: tuple[list[list[str | None]], list[list[str | None]]],
    qualities: tuple[Qualities, Qualities],
    task_column: str | None,
) -> pa.Table:
    """Labels of the queries in ``asked`` (``answers`` rows for each), with schema ``tables.LABELS``.

    ``texts`` and ``qualities`` are those of the small and of the large model, a list for each query.
    """
    first = asked.take(pa.array(range(0, asked.num_rows, answers)))
    ids = [name.rpartition("#")[0] for name in first["query_id"].to_pylist()]
    tasks = first[task_column].cast(pa.string()) if task_column else pa.nulls(first.num_rows, pa.string())
    columns = {
        "query_id": pa.array(ids),
        "prompt": first["prompt"],
        "task": tasks,
        "q_small": list(qualities[0]),
        "q_large": list(qualities[1]),
        "text_small": texts[0],
        "text_large": texts[1],
    }
    return pa.table([columns[name] for name in LABELS.names], schema=LABELS)


def with_both_judged(labels: pa.Table) -> pa.Table:
    """The rows with a quality of at least one answer of each model; the others say nothing of the pair."""

    def known(name: str) -> list[bool]:
        return [any(quality is not None for quality in row) for row in labels[name].to_pylist()]

    both = [small and large for small, large in zip(known("q_small"), known("q_large"), strict=True)]
    return labels.filter(pa.array(both, pa.bool_()))
