"""Options of scorers: what is allowed, and what a recipe says of them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.quality.base import OptionValue, ScorerRecipe

_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Option:
    """One option: ``kind`` is the type of its value, ``default`` holds unless it is ``required``.

    ``allowed`` lists the only values that a text may have; ``least`` is the lowest number.
    """

    what: str
    kind: type
    default: OptionValue = None
    required: bool = False
    allowed: tuple[str, ...] = ()
    least: float | None = None


def settings(recipe: ScorerRecipe, options: Mapping[str, Option]) -> dict[str, OptionValue]:
    """The value of each of ``options`` in ``recipe``, with defaults.  Raises ``ConfigError`` for others."""
    given = dict(recipe.options)
    for name in given:
        if name not in options:
            raise ConfigError(f"scorer {recipe.kind}: the option {name!r} is unknown; {_offer(name, options)}")
    return {name: _value(recipe.kind, name, option, given) for name, option in options.items()}


def _offer(name: str, options: Mapping[str, Option]) -> str:
    if not options:
        return "it has none"
    near = difflib.get_close_matches(name, options, n=1)
    return f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(options)}"


def _value(scorer: str, name: str, option: Option, given: Mapping[str, OptionValue]) -> OptionValue:
    value = given.get(name)
    if value is None:
        if option.required:
            raise ConfigError(f"scorer {scorer}: the option {name} must be given: {option.what}")
        return option.default
    if not _fits(value, option):
        raise ConfigError(f"scorer {scorer}: {name} = {value!r}, allowed is {_allowed(option)}")
    return float(value) if option.kind is float else value


def _fits(value: OptionValue, option: Option) -> bool:
    if isinstance(value, bool) or option.kind is bool:
        return isinstance(value, bool) and option.kind is bool
    if isinstance(value, str) or option.kind is str:
        return (
            isinstance(value, str)
            and option.kind is str
            and (value in option.allowed if option.allowed else value != "")
        )
    if isinstance(value, float) and option.kind is int:
        return False
    return value is not None and math.isfinite(value) and (option.least is None or value >= option.least)


def _allowed(option: Option) -> str:
    if option.allowed:
        return " or ".join(option.allowed)
    return _NAMES[option.kind] + (f" of at least {option.least:g}" if option.least is not None else "")
