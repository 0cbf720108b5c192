"""What one row may ask of a chat completion, checked, and laid over the job's own.  Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hybrid_batch.engines.base import ChatRequest, Sampling
from hybrid_batch.engines.request_fields import Forms, Overrides

_LONGEST_VALUE: Final = 80

_FORMS: Final = frozenset(Forms.model_fields)
_PLAIN: Final = ({field.name for field in fields(Sampling)} & Overrides.model_fields.keys()) - _FORMS | {"adapter"}
_RENAMED: Final = frozenset({"max_completion_tokens", "logprobs", "top_logprobs", "stop"})

Kind = TypeVar("Kind", bound=Forms)


def overrides_of(text: str) -> Mapping[str, Any]:
    """The fields of a row's request, by the names of ``Sampling``'s fields, and ``adapter``.

    Raises ``ValueError`` whose message names the field, its value and what is allowed.
    """
    given = {name: value for name, value in _parsed(text).items() if value is not None}
    checked = _validated(Overrides, given)
    found = {name: getattr(checked, name) for name in given.keys() & (_PLAIN - _RENAMED)} | forms_of(given)
    if checked.stop is not None:
        found["stop"] = (checked.stop,) if isinstance(checked.stop, str) else tuple(checked.stop)
    if checked.max_completion_tokens is not None:
        found["max_tokens"] = checked.max_completion_tokens
    if checked.logprobs is not None:
        found["logprobs"] = (checked.top_logprobs or 0) if checked.logprobs else None
    if passed := passed_of({name: given[name] for name in given.keys() - _PLAIN - _RENAMED - _FORMS}):
        found["passed"] = passed
    return found


def with_overrides(request: ChatRequest, overrides: Mapping[str, Any]) -> ChatRequest:
    """``request`` with what :func:`overrides_of` found in its row.

    A row's constraint takes the place of the job's, whichever of the two ways either is written in, and a row's
    tools come with the row's own choice among them.  Of what is passed on, each field takes the place of the job's own.
    """
    if not overrides:
        return request
    changed = {name: value for name, value in overrides.items() if name != "adapter"}
    for first, second in (("response_format", "structured_outputs"), ("structured_outputs", "response_format")):
        if first in overrides:
            changed.setdefault(second, None)
    if "tools" in changed:
        changed.setdefault("tool_choice", None)
    if "passed" in changed and request.sampling.passed is not None:
        changed["passed"] = _laid_over(request.sampling.passed, changed["passed"])
    sampling = replace(request.sampling, **changed)
    return replace(request, sampling=sampling, adapter=overrides.get("adapter", request.adapter))


def forms_of(given: Mapping[str, Any]) -> dict[str, str]:
    """Those fields of ``given`` that say what form an answer has, as JSON texts.

    Keys keep their order: an engine writes the members of an object in the order of its schema.
    """
    return {name: _as_json(given[name]) for name in Forms.model_fields if given.get(name) is not None}


def passed_of(given: Mapping[str, Any]) -> str | None:
    """The fields ``given``, which are sent as they are, as one JSON text; None without any."""
    return _as_json({name: given[name] for name in sorted(given)}) if given else None


@lru_cache(maxsize=64)
def _laid_over(below: str, above: str) -> str | None:
    return passed_of(json.loads(below) | json.loads(above))


def without_fields(passed: str, names: Collection[str]) -> str | None:
    """``Sampling.passed`` without the fields ``names``, None where nothing is left."""
    left = {name: value for name, value in json.loads(passed).items() if name not in names}
    return _as_json(left) if left else None


def check_forms(given: Mapping[str, Any]) -> None:
    """Raises ``ValueError``, as :func:`overrides_of`, for what a job asks of all rows."""
    _validated(Forms, {name: value for name, value in given.items() if value is not None})
    forms_of(given)


def _parsed(text: str) -> dict[str, Any]:
    try:
        whole = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"request: {_shown(text)} is no JSON ({error}); allowed is a JSON object") from None
    if not isinstance(whole, dict):
        raise ValueError(f"request: {_shown(whole)} is not allowed; allowed is a JSON object")
    return whole


def _validated(kind: type[Kind], given: dict[str, Any]) -> Kind:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise ValueError(_sentence(kind, given, error.errors()[0])) from None


def _sentence(kind: type[Forms], given: dict[str, Any], detail: ErrorDetails) -> str:
    if not detail["loc"]:
        return str(detail["ctx"]["error"])
    name = str(detail["loc"][0])
    field = kind.model_fields.get(name)
    if field is None:
        return f"{name}: there is no such field; allowed are {', '.join(kind.model_fields)}"
    return f"{name}: {_shown(given[name])} is not allowed{_inner(detail)}; allowed is {field.description}"


def _inner(detail: ErrorDetails) -> str:
    """What is wrong inside a field; nothing for a field of several kinds, where pydantic speaks of each."""
    path = detail["loc"][1:]
    if path and not (isinstance(path[0], int) or path[0].isidentifier()):
        return ""
    said = str(detail["ctx"]["error"]) if "error" in detail.get("ctx", {}) else ""
    if not path:
        return f" ({said})" if said else ""
    return f" ({'.'.join(map(str, path))}: {said or detail['msg']})"


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except TypeError as error:  # a date out of YAML
        raise ValueError(f"{_shown(value)} is not allowed ({error}); allowed are values of JSON") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")
