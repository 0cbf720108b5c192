"""Where configuration comes from: files that build on files, environment variables, the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

import yaml

from hybrid_batch.config.tiers import ENDPOINT_FIELDS, SERVER_FIELDS
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.inputs import OPENAI_BATCH

Path = tuple[str, ...]
"""Keys from the top of the configuration down to a value."""

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")

_REPLACES: Final[Mapping[str, frozenset[str]]] = {
    "threshold": frozenset({"small_share", "max_drop_pct", "by"}),
    "small_share": frozenset({"threshold", "max_drop_pct", "by"}),
    "max_drop_pct": frozenset({"threshold", "small_share"}),
    "prompt": frozenset({"messages"}),
    "messages": frozenset({"prompt"}),
    "usd_per_gpu_hour": frozenset({"usd_per_engine_hour"}),
    "usd_per_engine_hour": frozenset({"usd_per_gpu_hour"}),
    "endpoint": SERVER_FIELDS,
    "server": ENDPOINT_FIELDS,
}
"""A later source that chooses the key takes the other choices back, which an earlier source made."""

_QUERY_COLUMNS: Final = frozenset({"id", "prompt", "messages", "request", "image"})
"""Columns that batch files bring themselves: a later source that chooses their format takes back those of others."""


@dataclass
class Origins:
    """Which source gave which value, for messages."""

    main: str
    by_path: dict[Path, str] = field(default_factory=dict)

    def of(self, path: Path) -> str:
        """The source of the value at ``path`` or of the nearest one above; the main file where nobody gave one."""
        for length in range(len(path), 0, -1):
            if source := self.by_path.get(path[:length]):
                return source
        return self.main


def read_file(file: FilePath, origins: Origins, above: tuple[FilePath, ...] = ()) -> dict[str, Any]:
    """The mapping in ``file``, laid over the one that its ``base`` names.  Raises ConfigError."""
    if file.resolve() in above:
        raise ConfigError(f"{file}: base: the files build on each other in a circle")
    data = _parse(file)
    base = data.pop("base", None)
    if base is None:
        return merge({}, data, str(file), origins)
    if not isinstance(base, str):
        raise ConfigError(f"{file}: base: {base!r} is not allowed; allowed is the path of another YAML file")
    below = read_file(file.parent / base, origins, (*above, file.resolve()))
    return merge(below, data, str(file), origins)


def _parse(file: FilePath) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        _refuse_double_keys(yaml.compose(text, Loader=yaml.SafeLoader), file)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{file}: cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is not valid YAML: {_yaml_problem(error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: holds no mapping; allowed is a mapping with run, input, router, policy, tiers")
    return data


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def _refuse_double_keys(node: yaml.Node | None, file: FilePath) -> None:
    """YAML lets the last of two equal keys win in silence."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_double_keys(item, file)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigError(f"{file}: line {key.start_mark.line + 1}: the key {key.value!r} stands there twice")
            seen.add(key.value)
            _refuse_double_keys(value, file)


def merge(
    below: Mapping[str, Any], above: Mapping[Any, Any], source: str, origins: Origins, at: Path = ()
) -> dict[str, Any]:
    """``above`` laid over ``below``: mappings are merged, everything else is replaced."""
    merged = dict(below)
    if (
        at == ("input",)
        and above.get("format") == OPENAI_BATCH
        and isinstance(columns := below.get("columns"), Mapping)
    ):
        merged["columns"] = {name: column for name, column in columns.items() if name not in _QUERY_COLUMNS}
    for key, value in above.items():
        name = str(key)
        if value is not None:
            for rival in _REPLACES.get(name, frozenset()) - above.keys():
                merged.pop(rival, None)
        if isinstance(value, Mapping):
            lower = merged.get(name)
            if not isinstance(lower, Mapping):
                lower, origins.by_path[(*at, name)] = {}, source
            merged[name] = merge(lower, value, source, origins, (*at, name))
        else:
            merged[name] = value
            origins.by_path[(*at, name)] = source
    return merged


def parse_override(text: str, option: str = "--set") -> dict[str, Any]:
    """``a.b=value`` as ``{"a": {"b": value}}``; the value is YAML, prices stay text.  Raises ConfigError."""
    key, found, raw = text.partition("=")
    path = key.strip().split(".")
    if not found or not all(path):
        raise ConfigError(f"{option} {key}: is not allowed; allowed is key.sub=value, as in sampling.max_tokens=64")
    try:
        value = raw if path[-1].startswith("usd_") and not raw.startswith(("'", '"')) else yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ConfigError(f"{option} {key}: the value is not valid YAML: {_yaml_problem(error)}") from error
    nested: dict[str, Any] = {path[-1]: value}
    for name in reversed(path[:-1]):
        nested = {name: nested}
    return nested


def expand(value: Any, environ: Mapping[str, str], problems: list[tuple[Path, str]], at: Path = ()) -> Any:
    """``value`` with ``${NAME}`` and ``${NAME:-default}`` replaced in every text; unset names go to ``problems``."""
    if isinstance(value, Mapping):
        return {key: expand(item, environ, problems, (*at, str(key))) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [expand(item, environ, problems, at) for item in value]
    return (
        _VARIABLE.sub(lambda found: _lookup(found, environ, problems, at), value) if isinstance(value, str) else value
    )


def _lookup(found: re.Match[str], environ: Mapping[str, str], problems: list[tuple[Path, str]], at: Path) -> str:
    name, default = found["name"], found["default"]
    # As in a shell, ":-" also stands in for a variable that is set and empty.
    if default is not None:
        return environ.get(name) or default
    if name not in environ:
        problems.append((at, name))
    return environ.get(name, "")
