"""Which texts are read together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.engines.batches import BatchShape, batches_of
from hybrid_batch.engines.memory import ScoreMemory

lengths = st.lists(st.integers(0, 700), max_size=80)
shapes = st.builds(
    BatchShape,
    tokens=st.sampled_from([1, 64, 512, 16_384]),
    step=st.sampled_from([1, 4, 16]),
    full=st.booleans(),
    alone=st.booleans(),
)


@given(lengths, shapes)
def test_every_text_is_in_one_batch_that_fits_it(lengths: list[int], shape: BatchShape) -> None:
    tokens = [[place + 1] * length for place, length in enumerate(lengths)]
    batches = list(batches_of(tokens, shape, longest=700, pad=0))
    assert sorted(place for batch in batches for place in batch.places) == list(range(len(tokens)))
    for batch in batches:
        rows, width = batch.ids.shape
        assert width <= 700
        assert len(batch.places) <= rows <= max(1, shape.tokens // width)
        if shape.alone:
            assert (rows, width) == (1, max(1, lengths[batch.places[0]]))
        for row, place in enumerate(batch.places):
            assert batch.ids[row].tolist() == tokens[place] + [0] * (width - lengths[place])
            assert batch.mask[row].sum() == max(1, lengths[place])
        assert batch.mask[:, 0].all()


@given(lengths, shapes)
def test_the_width_of_a_text_hangs_on_its_length_alone(lengths: list[int], shape: BatchShape) -> None:
    together = shape.widths(np.array(lengths, dtype=np.int64), 700)
    assert together.tolist() == [int(shape.widths(np.array([length]), 700)[0]) for length in lengths]


@given(lengths)
def test_full_batches_of_a_width_have_one_shape(lengths: list[int]) -> None:
    tokens = [[1] * length for length in lengths]
    batches = batches_of(tokens, BatchShape(tokens=512, full=True), longest=700, pad=0)
    assert all(batch.ids.shape[0] == max(1, 512 // batch.ids.shape[1]) for batch in batches)


@pytest.mark.parametrize(("length", "width"), [(1, 4), (4, 4), (5, 8), (128, 128), (129, 136), (257, 272), (690, 700)])
def test_padding_stays_small(length: int, width: int) -> None:
    assert BatchShape(tokens=512, step=4).widths(np.array([length]), 700).tolist() == [width]


def test_a_memory_forgets_the_oldest_and_keeps_what_is_asked_for() -> None:
    memory = ScoreMemory(4)
    a, b, c, d = keys = memory.keys(["a", "b", "c", "d"], None)
    memory.put([a, b], [0.1, 0.2])
    assert memory.get(a) == 0.1
    memory.put([c], [0.3])
    memory.put([d], [0.4])
    assert [memory.get(key) for key in keys] == [0.1, None, 0.3, 0.4]


def test_a_memory_tells_texts_and_tasks_apart() -> None:
    memory = ScoreMemory()
    keys = [*memory.keys(["a", "b"], None), *memory.keys(["a", "a", "a"], [0, 1, None])]
    assert len(set(keys)) == 5
    assert memory.keys(["a", "a"], [1, 1]) == [keys[3], keys[3]]
    assert memory.keys(["\ud800"], None) != memory.keys(["\udfff"], None)


def test_a_memory_of_nothing_remembers_nothing() -> None:
    memory = ScoreMemory(0)
    keys = memory.keys(["a"], None)
    memory.put(keys, [0.5])
    assert memory.get(keys[0]) is None
