"""Which characters are no query by themselves."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.stages.guard import EMPTY_PROMPT, guard

SCHEMA = pa.schema([(name, pa.string()) for name in ("prompt", "messages", "error_kind", "error_message")])


def guarded(prompts: pa.Array) -> pa.RecordBatch:
    nothing = pa.nulls(len(prompts), pa.string())
    return guard(pa.RecordBatch.from_arrays([prompts, nothing, nothing, nothing], schema=SCHEMA), 1000)


def test_a_query_of_space_alone_is_blank_whatever_the_space_and_no_other_is():
    every = pa.array([chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000])
    trimmed = pc.utf8_trim_whitespace(every)
    for prompts in (every, pc.binary_join_element_wise(" ", every, "\n", "")):
        blank = pc.fill_null(pc.equal(guarded(prompts)["error_kind"], EMPTY_PROMPT), False)
        assert blank.equals(pc.equal(trimmed, ""))
    assert 20 < pc.sum(pc.equal(trimmed, "")).as_py() < 40


def test_a_batch_in_order_is_left_as_it_is():
    prompts = pa.array(["a", " b ", "c" * 1000])
    assert guarded(prompts)["prompt"].equals(prompts)
    assert guarded(prompts)["error_kind"].null_count == 3
