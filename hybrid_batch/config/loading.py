"""From a file, overrides and environment variables to one checked value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hybrid_batch.config.job import AnswerConfig, JobConfig
from hybrid_batch.config.messages import config_error, joined
from hybrid_batch.config.sources import Origins, expand, merge, parse_override, read_file
from hybrid_batch.config.tiers import ServerTier
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.server_command import check_engine_args

Root = TypeVar("Root", bound=BaseModel)
"""What a file describes: a run, a labelling, a training."""


def load_config(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> JobConfig:
    """The configuration of a run in ``path``.  Raises ConfigError as :func:`load_as`."""
    return load_as(JobConfig, path, overrides, environ)


def load_as(
    root: type[Root], path: str | os.PathLike[str], overrides: Sequence[str], environ: Mapping[str, str]
) -> Root:
    """What ``path`` describes, a ``root``, with ``overrides`` (``key.sub=value``) laid over it.

    Raises ConfigError; its message has one line per problem: file or override, field, value, what is allowed.
    """
    origins = Origins(str(path))
    data = read_file(Path(path), origins)
    for text in overrides:
        data = merge(data, parse_override(text), f"--set {text.partition('=')[0]}", origins)
    return _checked(root, data, origins, environ)


def parse_config(data: Mapping[str, Any], environ: Mapping[str, str] = os.environ, source: str = "") -> JobConfig:
    """The configuration in plain values, as from YAML.  Raises ConfigError that names ``source``."""
    origins = Origins(source)
    return _checked(JobConfig, merge({}, data, source, origins), origins, environ)


def _checked(root: type[Root], data: dict[str, Any], origins: Origins, environ: Mapping[str, str]) -> Root:
    unset: list[tuple[tuple[str, ...], str]] = []
    data = expand(data, environ, unset)
    if unset:
        raise unset_variables(unset, origins)
    return validated(root, data, origins)


def unset_variables(unset: Sequence[tuple[tuple[str, ...], str]], origins: Origins) -> ConfigError:
    """The error that names each place with the variable that it needs."""
    return joined(
        [
            f"{origins.of(path)}: {'.'.join(path)}: the environment variable {name} is not set; "
            f"set it, or write ${{{name}:-default}}"
            for path, name in unset
        ]
    )


def validated(root: type[Root], data: dict[str, Any], origins: Origins) -> Root:
    """``data``, in which no variable is left, as a ``root``.  Raises ConfigError as :func:`load_as`."""
    try:
        config = root.model_validate(data)
    except ValidationError as error:
        raise config_error(error, data, origins, root) from None
    if isinstance(config, AnswerConfig) and (refused := _refused_flags(config, origins)):
        raise joined(refused)
    return config


def _refused_flags(config: AnswerConfig, origins: Origins) -> list[str]:
    """What the engine room says against flags of its servers, so that no night starts with one."""
    lines = []
    for name, tier in config.tiers.by_name().items():
        for flag, value in tier.engine_args.items() if isinstance(tier, ServerTier) else ():
            try:
                check_engine_args(name, {flag: value})
            except ConfigError as error:
                source = origins.of(("tiers", name, "engine_args", flag))
                lines.append(f"{source}: {error}" if source else str(error))
    return lines
