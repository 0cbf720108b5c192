"""What the job reads: a description of the query files, the splits they are read in, the columns of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

OPENAI_BATCH: Final = "openai-batch"
"""The format of files for OpenAI's batch API: JSON lines of a ``custom_id`` and the ``body`` of a request."""


@dataclass(frozen=True)
class InputSpec:
    """Query files and the columns that matter.

    ``format`` is ``parquet``, ``jsonl``, ``csv`` or :data:`OPENAI_BATCH`.  Without an ``id_column`` a query's id is
    made from its place: the file's name below ``path``, a colon, the row's number.  Exactly one of ``prompt_column``
    and ``messages_column`` is set.  ``request_column`` holds what a row asks for in place of the job's sampling,
    ``image_column`` an image that belongs to the query.  ``keep`` are columns carried through to the results;
    ``task_column``, if there is one, is one of them.  ``limit`` takes the first rows in the order of the file names.
    A split is full with ``rows_per_split`` rows, ``bytes_per_split`` bytes (uncompressed, of the columns that are read)
    or ``files_per_split`` pieces of files.
    ``max_prompt_bytes`` is the longest query, in UTF-8 bytes, that is scored at all.
    """

    path: str
    format: str
    id_column: str | None = None
    prompt_column: str | None = None
    messages_column: str | None = None
    keep: tuple[str, ...] = ()
    limit: int | None = None
    rows_per_split: int = 50_000
    bytes_per_split: int = 128 << 20
    files_per_split: int = 1_000
    max_prompt_bytes: int = 1_048_576
    task_column: str | None = None
    request_column: str | None = None
    image_column: str | None = None

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The id column, if there is one."""
        return () if self.id_column is None else (self.id_column,)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        return tuple(dict.fromkeys([*self.id_columns, self.text_column, *self.further_columns, *self.keep]))

    @property
    def further_columns(self) -> tuple[str, ...]:
        """The columns of overrides and images, if there are any."""
        return tuple(name for name in (self.request_column, self.image_column) if name is not None)

    @property
    def text_column(self) -> str:
        """The column that holds the query, in either form."""
        column = self.prompt_column or self.messages_column
        assert column is not None
        return column


@dataclass(frozen=True)
class Piece:
    """Rows of one file that are read one after the other.

    ``first_row`` is the number, within the file, of the first row read, None until the rows before it were counted;
    ``rows`` is how many are read, None where only reading tells.  ``row_groups`` is the half-open range of Parquet row
    groups in which the rows stand, ``skip`` rows after its begin.  ``byte_range`` is half-open and takes the lines that
    begin in it.  A text file read whole has neither.
    """

    url: str
    first_row: int | None = 0
    rows: int | None = None
    row_groups: tuple[int, int] | None = None
    skip: int = 0
    byte_range: tuple[int, int] | None = None


_WHOLE: Final[tuple[Any, ...]] = (0, None, None, 0, None)
"""The fields of a :class:`Piece` behind its URL, for a file read whole."""


@dataclass(frozen=True)
class Split:
    """What one scoring task reads and commits as one part: pieces, in the order of the listing."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int | None:
        """How many rows are read, None where only reading tells."""
        known = [piece.rows for piece in self.pieces if piece.rows is not None]
        return sum(known) if len(known) == len(self.pieces) else None

    def to_list(self) -> list[object]:
        """Plain JSON values, without what a piece leaves at its default; :meth:`from_list` is the inverse.

        The folder that the files share is written once.
        """
        folder = _folder([piece.url for piece in self.pieces])
        return [self.number, folder, [_short(piece, len(folder)) for piece in self.pieces]]

    @classmethod
    def from_list(cls, values: list) -> Split:
        """Raises ``ValueError`` for a list of another form."""
        number, folder, pieces = values
        return cls(number, tuple(_piece(folder, piece) for piece in pieces))


def _folder(urls: Sequence[str]) -> str:
    """The longest beginning of all ``urls`` that ends with a slash."""
    first, last = min(urls, default=""), max(urls, default="")
    same = next(
        (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first)
    )
    return first[: first.rfind("/", 0, same) + 1]


def _short(piece: Piece, folder: int) -> object:
    fields: list[object] = [piece.first_row, piece.rows, piece.row_groups, piece.skip, piece.byte_range]
    while fields and fields[-1] == _WHOLE[len(fields) - 1]:
        fields.pop()
    return [piece.url[folder:], *fields] if fields else piece.url[folder:]


def _piece(folder: str, values: Any) -> Piece:
    name, *fields = (values,) if isinstance(values, str) else tuple(values)
    first_row, rows, groups, skip, byte_range = (*fields, *_WHOLE[len(fields) :])
    return Piece(folder + name, first_row, rows, _pair(groups), skip, _pair(byte_range))


def _pair(values: list | None) -> tuple[int, int] | None:
    return None if values is None else (values[0], values[1])


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
