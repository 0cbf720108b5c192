"""The configuration of a run as its plan recorded it, for what is done with the run later."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hybrid_batch.config.job import AnswerConfig
from hybrid_batch.config.loading import unset_variables, validated
from hybrid_batch.config.messages import joined
from hybrid_batch.config.secrets import HIDDEN
from hybrid_batch.config.sources import Origins, Path, expand, merge, parse_override
from hybrid_batch.core.errors import ConfigError

CHANGEABLE: Final = ("tiers", "prompt", "sampling", "shards", "spark", "run.max_error_rate", "run.log_dir")
"""What may be overridden: not which rows there are, and not how they were routed."""


def recorded_config(
    record: Mapping[str, Any],
    source: str,
    overrides: Sequence[str] = (),
    *,
    output: str,
    shown: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> AnswerConfig:
    """What ``record``, the configuration in the plan at ``source``, says of having rows answered.

    ``overrides`` (``key.sub=value``) are laid over it, ``output`` takes the place of its own.  Values that a record
    hides, secrets and the environment of engines, are taken from ``shown``, the same configuration in plain values, or
    from the overrides.  Raises ConfigError for one that is in neither, and as
    :func:`hybrid_batch.config.loading.load_as`.
    """
    origins = Origins(source)
    known = {name: record[name] for name in AnswerConfig.model_fields if name in record}
    data = merge({}, _filled(known, shown or {}), source, origins)
    data["run"] = {**data["run"], "output": output}
    unset: list[tuple[Path, str]] = []
    for text in overrides:
        key = text.partition("=")[0].strip()
        _require_changeable(key)
        data = merge(data, expand(parse_override(text), environ, unset), f"--set {key}", origins)
    if unset:
        raise unset_variables(unset, origins)
    if hidden := list(_hidden(data)):
        raise joined(
            [
                f"{source}: {'.'.join(path)}: is hidden in the record of the run; name the file that started it "
                f"by --config, or a variable of the environment by --set '{'.'.join(path)}=${{VARIABLE}}'"
                for path in hidden
            ]
        )
    return validated(AnswerConfig, data, origins)


def _require_changeable(key: str) -> None:
    if not any(key == name or key.startswith(f"{name}.") for name in CHANGEABLE):
        raise ConfigError(
            f"--set {key}: cannot be changed for rows of a run that is there; allowed are {', '.join(CHANGEABLE)}"
        )


def _filled(record: Any, shown: Any) -> Any:
    """``record`` with what it hides taken from the same place in ``shown``, where that has it."""
    if isinstance(record, Mapping):
        below = shown if isinstance(shown, Mapping) else {}
        return {name: _filled(value, below.get(name)) for name, value in record.items()}
    return shown if shown is not None and _is_hidden(record) else record


def _hidden(value: Any, at: Path = ()) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _hidden(item, (*at, str(name)))
    elif _is_hidden(value):
        yield at


def _is_hidden(value: Any) -> bool:
    """A whole value that was hidden, or an address whose user was."""
    if isinstance(value, list):
        return any(_is_hidden(item) for item in value)
    return isinstance(value, str) and (value == HIDDEN or f"://{HIDDEN}@" in value)
