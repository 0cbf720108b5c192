"""What the job reads: a description of the query files, the splits they are read in, the columns of labels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputSpec:
    """Query files and the columns that matter.

    ``format`` is ``parquet``, ``jsonl`` or ``csv``.  Without an ``id_column`` a query's id is made from its place: the
    file's name below ``path``, a colon, the row's number.  Exactly one of ``prompt_column`` and ``messages_column`` is
    set.  ``keep`` are columns carried through to the results; ``task_column``, if there is one, is one of them.
    ``limit`` takes the first rows in the order of the file names.  ``max_prompt_bytes`` is the longest query, in UTF-8
    bytes, that is scored at all.
    """

    path: str
    format: str
    id_column: str | None = None
    prompt_column: str | None = None
    messages_column: str | None = None
    keep: tuple[str, ...] = ()
    limit: int | None = None
    rows_per_split: int = 50_000
    max_prompt_bytes: int = 1_048_576
    task_column: str | None = None

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The id column, if there is one."""
        return () if self.id_column is None else (self.id_column,)

    @property
    def text_column(self) -> str:
        """The column that holds the query, in either form."""
        column = self.prompt_column or self.messages_column
        assert column is not None
        return column


@dataclass(frozen=True)
class Split:
    """Rows that one scoring task reads.

    ``row_groups`` is the half-open range of Parquet row groups, None for a text file read whole; ``first_row`` is
    the number, within the file, of the first row read; ``rows`` is None where only reading tells.
    """

    number: int
    url: str
    first_row: int = 0
    rows: int | None = None
    row_groups: tuple[int, int] | None = None
    max_rows: int | None = None

    def to_list(self) -> list[object]:
        """Plain JSON values; :meth:`from_list` is the inverse."""
        return [self.number, self.url, self.first_row, self.rows, self.row_groups, self.max_rows]

    @classmethod
    def from_list(cls, values: list) -> Split:
        number, url, first_row, rows, groups, max_rows = values
        return cls(number, url, first_row, rows, tuple(groups) if groups is not None else None, max_rows)


@dataclass(frozen=True)
class LabelColumns:
    """Kept columns that a labelling reads, None where it has none.

    ``scorer`` names, for each row, how its answers are judged.
    """

    task: str | None = None
    reference: str | None = None
    choices: str | None = None
    scorer: str | None = None

    def names(self) -> tuple[str, ...]:
        """Those that are there, each once."""
        given = (self.task, self.reference, self.choices, self.scorer)
        return tuple(dict.fromkeys(name for name in given if name is not None))
