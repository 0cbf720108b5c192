"""From pydantic's findings to sentences: where the value came from, field, value, what is allowed."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from hybrid_batch.config.job import JobConfig
from hybrid_batch.config.secrets import HIDDEN, is_secret, redact
from hybrid_batch.config.sources import Origins, Path
from hybrid_batch.config.tiers import (
    ENDPOINT_FIELDS,
    ENDPOINT_TAG,
    SERVER_FIELDS,
    SERVER_TAG,
    EndpointTier,
    ServerTier,
    tier_kind,
)
from hybrid_batch.core.errors import ConfigError

_FOLLOW_UP: Final = "default_factory_not_called"
"""Said of a default that depends on a field that is wrong itself."""

_OWN_WORDS: Final = frozenset({"keep"})
"""Fields whose validator says more than what is allowed in general."""

_LONGEST_VALUE: Final = 120


def config_error(
    error: ValidationError, data: Mapping[str, Any], origins: Origins, root: type[BaseModel] = JobConfig
) -> ConfigError:
    """One ConfigError for everything that ``error`` found in ``data``, which describes a ``root``."""
    return joined([_line(detail, data, origins, root) for detail in error.errors() if detail["type"] != _FOLLOW_UP])


def joined(lines: Sequence[str]) -> ConfigError:
    """One ConfigError of ``lines``, each said once."""
    once = list(dict.fromkeys(lines))
    if len(once) == 1:
        return ConfigError(once[0])
    return ConfigError("\n".join([f"{len(once)} problems in the configuration:", *(f"  {line}" for line in once)]))


def _line(detail: ErrorDetails, data: Mapping[str, Any], origins: Origins, root: type[BaseModel]) -> str:
    missing = detail["type"] == "missing"
    path = _real_path(detail["loc"], data, missing)
    where = ": ".join(part for part in (origins.of(path), ".".join(path)) if part)
    if missing:
        return f"{where}: is required; allowed is {_allowed(path, data, root)}"
    if detail["type"] == "extra_forbidden":
        return f"{where}: {_unknown(path, data, root)}"
    said = str(detail["ctx"]["error"]) if "ctx" in detail and "error" in detail["ctx"] else ""
    if said and (isinstance(detail["input"], Mapping | BaseModel) or path[-1] in _OWN_WORDS):
        return f"{where}: {said}"
    hint = f" ({said})" if "quotes" in said else ""
    return f"{where}: {_shown(path, detail['input'])} is not allowed{hint}; allowed is {_allowed(path, data, root)}"


def _real_path(loc: Sequence[str | int], data: Any, missing: bool) -> Path:
    """``loc`` without pydantic's own steps (kinds of a union); list positions belong to their field."""
    path: list[str] = []
    for step in loc[:-1] if missing else loc:
        if isinstance(data, Mapping) and step in data:
            path.append(str(step))
            data = data[step]
    return (*path, str(loc[-1])) if missing else tuple(path)


def _unknown(path: Path, data: Mapping[str, Any], root: type[BaseModel]) -> str:
    section, name = _section_at(path[:-1], data, root), path[-1]
    if section is ServerTier and name in ENDPOINT_FIELDS:
        return f"belongs to {ENDPOINT_TAG}, and no endpoint is given; {_who_has_what()}"
    if section is EndpointTier and name in SERVER_FIELDS:
        return f"belongs to {SERVER_TAG}, and this tier has an endpoint; {_who_has_what()}"
    names = sorted(section.model_fields) if section else []
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"unknown key; {guess}allowed are {', '.join(names)}"


def _who_has_what() -> str:
    engine, endpoint = ", ".join(sorted(SERVER_FIELDS)), ", ".join(sorted(ENDPOINT_FIELDS))
    return f"{SERVER_TAG} takes {engine}; {ENDPOINT_TAG} takes {endpoint}"


def _allowed(path: Path, data: Mapping[str, Any], root: type[BaseModel]) -> str:
    """The description of the nearest field at or above ``path``."""
    section: type[BaseModel] | None = root
    field: FieldInfo | None = None
    for depth, step in enumerate(path):
        if section is None or step not in section.model_fields:
            break
        field = section.model_fields[step]
        section = _section_at(path[: depth + 1], data, root)
    if field is not None and field.description:
        return field.description
    return f"a mapping with {', '.join((section or root).model_fields)}"


def _section_at(path: Path, data: Any, root: type[BaseModel]) -> type[BaseModel] | None:
    """The section class that describes the mapping at ``path``."""
    section: type[BaseModel] | None = root
    for step in path:
        data = data.get(step) if isinstance(data, Mapping) else None
        if section is None or step not in section.model_fields:
            return None
        section = _section_in(section.model_fields[step].annotation, data)
    return section


def _section_in(annotation: Any, data: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and ServerTier in _classes(annotation):
        return EndpointTier if tier_kind(data) == ENDPOINT_TAG else ServerTier
    return None


def _classes(annotation: Any) -> list[Any]:
    return [getattr(member, "__origin__", member) for member in typing.get_args(annotation)]


def _shown(path: Path, value: Any) -> str:
    # The key itself is a usual mistake here, so the value of api_key_env is never repeated.
    if path and (is_secret(path) or path[-1] == "api_key_env"):
        return HIDDEN
    text = repr(redact(value, path))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
