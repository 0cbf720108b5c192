"""A night of refusals, or of outages, is no finished night; rows that ask for the impossible are just rows."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hybrid_batch.core.errors import EndpointError
from hybrid_batch.engines.base import (
    INVALID_REQUEST,
    ChatAnswer,
    ChatRequest,
    EndpointRecipe,
    EngineRecipe,
    ServerRecipe,
)
from hybrid_batch.stages.generate import SYSTEMATIC_ROWS, adapters_at_endpoint, require_some_answered
from hybrid_batch.tables import SCORED

REFUSED = ChatAnswer(error_kind=INVALID_REQUEST, error_message="no chat template")
GIVEN = ChatAnswer(text="")


def judge(answers: list[ChatAnswer], recipe: EngineRecipe | None = None, **columns: str) -> None:
    rows = [{"query_id": f"q{n}", "source_file": "f", "source_row": n, **columns} for n in range(len(answers))]
    require_some_answered(pa.Table.from_pylist(rows, schema=SCORED), answers, "large", recipe)


def test_a_shard_that_is_refused_whole_is_the_engines_failure():
    with pytest.raises(EndpointError, match="tier large: every request of a shard was refused: no chat template"):
        judge([REFUSED] * SYSTEMATIC_ROWS)


ENDPOINT = EndpointRecipe("large", "m", "https://host/v1")
RENAMED = EndpointRecipe(
    "large", "m", "https://host/v1", max_tokens_field="max_completion_tokens", unsent=("temperature",)
)
NO_BOUND = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


@pytest.mark.parametrize(
    ("refusal", "recipe", "hint"),
    [
        (NO_BOUND, ENDPOINT, " (try tiers.large.max_tokens_field: max_completion_tokens)"),
        ("unknown field\nmax_completion_tokens", RENAMED, " (try tiers.large.max_tokens_field: max_tokens)"),
        ("temperature does not support 0.0", ENDPOINT, " (try tiers.large.unsent: [temperature])"),
        ("unrecognized: top_p, ignore_eos", RENAMED, " (try tiers.large.unsent: [temperature, top_p, ignore_eos])"),
        ("max_tokens is too large: at most 16384 completion tokens", ENDPOINT, ""),
        ("temperature must be at most 1", ENDPOINT, ""),
        (
            "max_tokens, top_k: extra inputs are not permitted",
            ENDPOINT,
            " (try tiers.large.max_tokens_field: max_completion_tokens and tiers.large.unsent: [top_k])",
        ),
        ("no chat template", ENDPOINT, ""),
        (NO_BOUND, ServerRecipe("large", "m"), ""),
    ],
)
def test_an_endpoint_that_refuses_a_field_names_the_setting_that_spares_it(refusal, recipe, hint):
    answers = [ChatAnswer(error_kind=INVALID_REQUEST, error_message=refusal)] * SYSTEMATIC_ROWS
    with pytest.raises(EndpointError) as raised:
        judge(answers, recipe)
    assert str(raised.value) == f"tier large: every request of a shard was refused{hint}: {refusal}"


@pytest.mark.parametrize("answers", [[], [REFUSED] * (SYSTEMATIC_ROWS - 1), [*[REFUSED] * 50, GIVEN]])
def test_a_few_refused_rows_are_the_rows_own_failure(answers: list[ChatAnswer]):
    judge(answers)


@pytest.mark.parametrize(
    "columns", [{"request": '{"n":3}'}, {"messages": '[{"content":[{"type":"image_url","image_url":{}}]}]'}]
)
def test_rows_that_ask_for_something_of_their_own_may_all_be_refused(columns: dict[str, str]):
    judge([REFUSED] * 50, **columns)


def test_a_setting_that_would_mend_it_is_told_of_rows_that_ask_for_something_of_their_own_too():
    answers = [ChatAnswer(error_kind=INVALID_REQUEST, error_message=NO_BOUND)] * SYSTEMATIC_ROWS
    with pytest.raises(EndpointError, match=r"try tiers\.large\.max_tokens_field: max_completion_tokens"):
        judge(answers, ENDPOINT, request='{"max_tokens":3}')


def test_one_refusal_that_many_rows_share_is_one():
    judge([REFUSED, *[ChatAnswer(error_kind=INVALID_REQUEST, answered_by="q0")] * 50])


@pytest.mark.parametrize("kinds", [("server_error",), ("bad_response", "timeout")])
def test_a_shard_of_failures_that_pass_is_not_committed(kinds: tuple[str, ...]):
    failures = [ChatAnswer(error_kind=kind, error_message="502") for kind in kinds] * SYSTEMATIC_ROWS
    with pytest.raises(EndpointError, match="tier large: every request of a shard failed: 502"):
        judge(failures)
    judge([*failures, GIVEN])
    judge(failures[: SYSTEMATIC_ROWS - 1])


def test_a_row_cannot_choose_another_model_at_an_endpoint():
    requests = [ChatRequest([]), ChatRequest([], adapter="dearest")]
    refused = adapters_at_endpoint(requests)
    assert {row: answer.error_kind for row, answer in refused.items()} == {1: INVALID_REQUEST}
