"""Building blocks of the sections: a closed base class and types with a plain description of what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A closed, immutable part of the configuration.  Each field's ``description`` says what is allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), validate_default=False)


def _no_bool(value: Any) -> Any:
    """YAML's ``yes`` and ``on`` are booleans; none of them is a number."""
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


def _usd(value: Any) -> Decimal:
    if isinstance(value, float):
        raise ValueError(f'{value} is a binary fraction and not exact; put the price in quotes: "{value}"')
    try:
        amount = Decimal(value) if isinstance(value, (str, int, Decimal)) and not isinstance(value, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or amount < 0:
        raise ValueError("not a price")
    return amount


def _scalar_text(value: Any) -> Any:
    """Spark and environment settings are text: ``true`` -> "true", ``2`` -> "2"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def _texts(value: Any) -> Any:
    return {key: _scalar_text(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _expand_home(value: Any) -> Any:
    return str(Path(value).expanduser()) if isinstance(value, str) and value.startswith("~") else value


Int = Annotated[int, BeforeValidator(_no_bool)]
PositiveInt = Annotated[Int, Field(ge=1)]
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=0, le=1)]
Seconds = Annotated[Number, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
Location = Annotated[Text, BeforeValidator(_expand_home)]
Usd = Annotated[Decimal, BeforeValidator(_usd)]
Texts = Annotated[dict[str, str], BeforeValidator(_texts)]

POSITIVE_INT = "a whole number of at least 1"
SHARE = "a number from 0 to 1"
SECONDS = "a number of seconds above 0"
TEXT = "text that is not empty"
LOCATION = "a local path or an s3:// URL"
USD = 'a decimal of at least 0 in quotes ("1.20"), or a whole number'
