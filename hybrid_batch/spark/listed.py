"""The files that a task reads are held against the listing that the run is bound to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import Split
from hybrid_batch.core.listing import Difference
from hybrid_batch.storage import ObjectInfo, open_store

_LOOKS_AT_ONCE: Final = 16


@dataclass(frozen=True)
class Listed:
    """Size in bytes and ETag of each file that splits read, by URL, as the listing has them."""

    states: Mapping[str, tuple[int, str]]

    @classmethod
    def of(cls, files: Iterable[ObjectInfo], splits: Sequence[Split]) -> Self:
        """Of those ``files`` that ``splits`` read: with a limit there may be others."""
        states = {file.url: (file.size, file.etag) for file in files}
        # The URLs of the pieces themselves: a pickled task then holds each of them once.
        return cls({piece.url: states[piece.url] for split in splits for piece in split.pieces})

    @contextmanager
    def held(self, split: Split) -> Iterator[None]:
        """The block reads ``split``, and commits nothing: after it, its files must be those that were listed.

        Raises ``InputError`` that names those that are gone or others, with sizes and ETags; also in place of an error
        that the block met, which may be but a consequence.  One small request for each file.
        """
        try:
            yield
        except Exception:
            self._require(split)
            raise
        self._require(split)

    def _require(self, split: Split) -> None:
        urls = list(dict.fromkeys(piece.url for piece in split.pieces))
        with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
            found = list(pool.map(lambda url: open_store(url).stat(url), urls))
        before = [(url, *self.states[url]) for url in urls]
        after = [(url, state.size, state.etag) for url, state in zip(urls, found, strict=True) if state is not None]
        if difference := Difference.between(before, after):
            raise InputError(
                f"input.path: the input changed while it was read; nothing is committed of what was read of it:\n"
                f"{difference.told()}\n"
                "Put the input back as it was, and the same command goes on; or answer it as it is by then in another "
                "run (hybrid-batch run --new-run)."
            )
