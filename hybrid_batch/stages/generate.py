"""The generate stage: one row in, one row out, whatever the engine does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, get_args

import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.core.errors import EndpointError
from hybrid_batch.core.records import EngineLoad, EngineSpan, Receipt, Usage, merge_counts
from hybrid_batch.engines.base import (
    INVALID_REQUEST,
    ChatAnswer,
    ChatRequest,
    EndpointRecipe,
    EngineRecipe,
    MaxTokensField,
    Message,
    Sampling,
    Spared,
)
from hybrid_batch.engines.chat_wire import failed
from hybrid_batch.engines.request_body import overrides_of, with_overrides, without_fields
from hybrid_batch.stages.ask import PASSING
from hybrid_batch.stages.chat import IMAGE_PART
from hybrid_batch.stages.guard import parse_messages
from hybrid_batch.tables import ANSWER, RESULTS, SCORED, TIER, with_kept

NO_LOAD: Final = EngineLoad()

_UNKNOWN_FIELD: Final = re.compile(
    r"unsupported|not supported|does not support|unrecognized|unknown|unexpected|not permitted|instead", re.IGNORECASE
)
"""How servers say that they do not take a field at all; a value out of its range is the user's to mend."""

SYSTEMATIC_ROWS: Final = 8
"""Fewer refused rows in a row may be chance."""


def requests_of(
    shard: pa.Table, sampling: Sampling, system_prompt: str | None, unsent: Sequence[Spared] = ()
) -> list[ChatRequest]:
    """One request for each row of a routed shard; a system prompt comes first unless the chat has its own.

    What a row asks for in its column ``request`` takes the place of the job's ``sampling``.  Where rows ask for several
    answers to one query, each has a seed of its own: the sampling's, and one more for each answer before it.  The
    ``unsent`` fields are without value, whoever asks for them: what the engine takes then is not known.
    """
    numbers = shard[ANSWER].to_pylist() if ANSWER in shard.schema.names else [0] * shard.num_rows
    rows = zip(shard["prompt"].to_pylist(), shard["messages"].to_pylist(), overrides(shard), numbers, strict=True)
    made = ((with_overrides(ChatRequest(_chat(p, m, system_prompt), sampling), own), n) for p, m, own, n in rows)
    return [replace(request, sampling=_sent(request.sampling, number, unsent)) for request, number in made]


def overrides(rows: pa.Table) -> list[Mapping[str, Any]]:
    """What each row asks for itself, as :func:`~hybrid_batch.engines.request_body.overrides_of` has it.

    A row that was refused asks for nothing.
    """
    asked = pc.if_else(pc.is_null(rows["error_kind"]), rows["request"], pa.scalar(None, pa.string()))
    return [{} if text is None else _overrides_of(text) for text in asked.to_pylist()]


_overrides_of = lru_cache(maxsize=64)(overrides_of)


def _sent(sampling: Sampling, number: int, unsent: Sequence[Spared]) -> Sampling:
    seed = sampling.seed
    changed: dict[str, Any] = {} if seed is None or not number else {"seed": seed + number}
    changed.update({name: None for name in unsent if hasattr(sampling, name)})
    if sampling.passed is not None and unsent:
        changed["passed"] = without_fields(sampling.passed, unsent)
    return replace(sampling, **changed) if changed else sampling


def _chat(prompt: str, messages: str | None, system_prompt: str | None) -> Sequence[Message]:
    turns: list[Message] = [{"role": "user", "content": prompt}] if messages is None else [*parse_messages(messages)]
    if system_prompt is None or turns[0]["role"] == "system":
        return turns
    return [{"role": "system", "content": system_prompt}, *turns]


def results_table(shard: pa.Table, answers: Sequence[ChatAnswer], tier: str, model: str | None) -> pa.Table:
    """Results of a shard: its rows with their answers, in order.  Raises ``ValueError`` if any is missing."""
    if len(answers) != shard.num_rows:
        raise ValueError(f"{len(answers)} answers for {shard.num_rows} rows")
    own = {
        "query_id": shard["query_id"],
        "score": shard["score"],
        "tier": pa.repeat(tier, shard.num_rows).cast(TIER),
        "model": pa.array([_asked_model(request, model) for request in shard["request"].to_pylist()], pa.string()),
    }
    drawn = {
        field.name: pa.array([_value(answer, field) for answer in answers], field.type)
        for field in RESULTS
        if field.name not in own
    }
    kept = [field for field in shard.schema if field.name not in SCORED.names]
    columns = own | drawn | {field.name: shard[field.name] for field in kept}
    schema = with_kept(RESULTS, kept)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _asked_model(request: str | None, model: str | None) -> str | None:
    if model is None or request is None or '"adapter"' not in request:
        return model
    name: str = _overrides_of(request).get("adapter", model)
    return name


def _value(answer: ChatAnswer, field: pa.Field) -> Any:
    value = getattr(answer, field.name)
    return None if field.nullable and value == () else value


def refused_answers(shard: pa.Table) -> list[ChatAnswer]:
    """Answers of rows that were refused before any model saw them: their error, carried through."""
    kinds, messages = shard["error_kind"].to_pylist(), shard["error_message"].to_pylist()
    return [ChatAnswer(error_kind=kind, error_message=text) for kind, text in zip(kinds, messages, strict=True)]


def adapters_at_endpoint(requests: Sequence[ChatRequest]) -> dict[int, ChatAnswer]:
    """The failures of rows that name an adapter: at an endpoint it would be another model, at another price."""
    told = "adapter: is not allowed in a tier with an endpoint, which asks its own model alone"
    return {row: failed(INVALID_REQUEST, told) for row, request in enumerate(requests) if request.adapter is not None}


def require_some_answered(
    shard: pa.Table, answers: Sequence[ChatAnswer], tier: str, recipe: EngineRecipe | None = None
) -> None:
    """Raises ``EndpointError`` if the cause of a shard's failures is not in its rows.

    That is so where every one of some plain requests was refused (no chat template, a parameter that the engine does
    not know): rows with wishes or images of their own may be at fault themselves, and often sit together.  It is so for
    all requests where a setting would mend it.  And where every one of some requests met a failure that passes: an
    outage must not be committed as a night's work.
    """
    asked = [
        (answer, plain) for answer, plain in zip(answers, _plain(shard), strict=True) if answer.answered_by is None
    ]
    every, plain = [answer for answer, _ in asked], [answer for answer, is_plain in asked if is_plain]
    refused = plain if _all_refused(plain) else every
    if _all_refused(refused):
        told = _first_error(refused)
        way_out = _way_out(told, recipe)
        if refused is plain or way_out:
            raise EndpointError(f"tier {tier}: every request of a shard was refused{way_out}: {told}")
    if len(every) >= SYSTEMATIC_ROWS and {answer.error_kind for answer in every} <= PASSING:
        raise EndpointError(f"tier {tier}: every request of a shard failed: {_first_error(answers)}")


def _all_refused(answers: Sequence[ChatAnswer]) -> bool:
    return len(answers) >= SYSTEMATIC_ROWS and {answer.error_kind for answer in answers} == {INVALID_REQUEST}


def _plain(shard: pa.Table) -> list[bool]:
    """Whether a row asks for nothing of its own and has no image."""
    rows = zip(shard["request"].to_pylist(), shard["messages"].to_pylist(), strict=True)
    return [request is None and (messages is None or IMAGE_PART not in messages) for request, messages in rows]


def _way_out(refusal: str, recipe: EngineRecipe | None) -> str:
    """The settings of an endpoint that no longer send what its ``refusal`` names; in front of it, as it may be long."""
    if not isinstance(recipe, EndpointRecipe) or not _UNKNOWN_FIELD.search(refusal):
        return ""
    settings: list[str] = []
    named = set(re.findall(r"\w+", refusal))
    if recipe.max_tokens_field in named:
        other = next(name for name in get_args(MaxTokensField) if name != recipe.max_tokens_field)
        settings.append(f"tiers.{recipe.tier}.max_tokens_field: {other}")
    if further := [name for name in get_args(Spared) if name in named and name not in recipe.unsent]:
        settings.append(f"tiers.{recipe.tier}.unsent: [{', '.join([*recipe.unsent, *further])}]")
    return f" (try {' and '.join(settings)})" if settings else ""


def _first_error(answers: Sequence[ChatAnswer]) -> str:
    return next((answer.error_message for answer in answers if answer.error_message), "no message")


def make_receipt(
    tier: str,
    number: int,
    answers: Sequence[ChatAnswer],
    *,
    spans: Sequence[EngineSpan],
    engine_deaths: int = 0,
    load: EngineLoad = NO_LOAD,
) -> Receipt:
    """What a shard cost: token sums, errors and finish reasons by kind, and the times it kept engines busy.

    ``spans`` are these times, at least one; that of a shard that no model saw names no engine.
    """
    *earlier, last = spans
    errors = merge_counts({answer.error_kind: 1} for answer in answers if answer.error_kind)
    usage = Usage(
        rows=len(answers),
        failed_rows=sum(errors.values()),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        cached_prompt_tokens=sum(answer.cached_prompt_tokens for answer in answers),
        shared_rows=sum(answer.answered_by is not None for answer in answers),
    )
    return Receipt(
        tier=tier,
        number=number,
        usage=usage,
        engine_id=last.engine_id,
        started_us=last.started_us,
        finished_us=last.finished_us,
        load_us=last.load_us,
        earlier=tuple(earlier),
        engine_deaths=engine_deaths,
        load=load,
        errors=errors,
        finish_reasons=merge_counts({answer.finish_reason: 1} for answer in answers if answer.finish_reason),
    )
