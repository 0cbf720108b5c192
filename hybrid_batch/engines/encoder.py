"""A text encoder: tokens, batches and a network, put together.  The network's library is the network's own affair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from hybrid_batch.engines.batches import Batch, BatchShape, batches_of
from hybrid_batch.engines.tokens import Tokens

_PROBED_ROWS: Final = 3
_PROBED_IDS: Final = 11
"""Every vocabulary has as many."""
_PROBED_WIDTHS: Final = (64, 256)


class Network(Protocol):
    """Token ids -> unit vectors: mean over the tokens of the last layer, at length 1."""

    dim: int
    device: str
    """``cpu``, or as torch names it: ``cuda:0``."""
    told: str
    """What computes, on what, in which numbers: ``torch fp32 on cpu``."""
    shape: BatchShape
    """The batches that suit it."""
    pad: int
    """The id that fills rows up."""

    def pooled(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        """For each batch, ids and mask int64 ``[rows, width]`` -> float32 ``[rows, dim]``."""
        ...


@dataclass(frozen=True)
class Prepared:
    """``count`` texts as batches."""

    count: int
    batches: Sequence[Batch]


class Encoder:
    """Texts -> unit vectors.  A text has the same vector, to the last bit, whatever texts are beside it."""

    def __init__(self, network: Network, tokens: Tokens) -> None:
        self._network = network
        self._tokens = tokens
        agrees = network.shape.alone or rows_agree(network, tokens.max_length)
        self._shape = network.shape if agrees else replace(network.shape, full=True)

    @property
    def dim(self) -> int:
        return self._network.dim

    @property
    def device(self) -> str:
        return self._network.device

    @property
    def told(self) -> str:
        return self._network.told

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """``texts`` as batches."""
        ids = self._tokens.ids(texts)
        return Prepared(len(texts), list(batches_of(ids, self._shape, self._tokens.max_length, self._network.pad)))

    def vectors(self, prepared: Prepared) -> np.ndarray:
        """Float32 ``[count, dim]``, rows of length 1."""
        vectors = np.zeros((prepared.count, self.dim), dtype=np.float32)
        pooled = self._network.pooled((batch.ids, batch.mask) for batch in prepared.batches)
        for batch, rows in zip(prepared.batches, pooled, strict=True):
            vectors[batch.places] = rows[: len(batch.places)]
        return vectors

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """``texts`` -> float32 ``[len(texts), dim]``, rows of length 1."""
        return self.vectors(self.prepare(texts))


def rows_agree(network: Network, longest: int) -> bool:
    """Whether a row comes out the same, to the last bit, in a full batch, in a smaller one and alone.

    Libraries choose their kernels by the shape of a batch, so this is tried out on the machine at hand.
    """
    for width in sorted({min(width, longest) for width in (network.shape.step, *_PROBED_WIDTHS)}):
        rows = max(_PROBED_ROWS, network.shape.rows(width))
        ids = np.arange(rows * width, dtype=np.int64).reshape(rows, width) % _PROBED_IDS
        mask = np.ones_like(ids)
        mask[0, width // 2 + 1 :] = 0
        (whole,) = network.pooled([(ids, mask)])
        cuts = (slice(0, 1), slice(1, 2), slice(2, None))
        parts = list(network.pooled((ids[cut], mask[cut]) for cut in cuts))
        if not np.array_equal(np.concatenate(parts), whole):
            return False
    return True
