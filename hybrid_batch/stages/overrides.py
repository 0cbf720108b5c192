"""What a row asks for in place of the job's sampling: checked, and written in one form."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from hybrid_batch.engines.request_body import overrides_of

_REMEMBERED_CHARACTERS: Final = 4096
"""Of longer texts, a few thousand would fill a worker."""


def request_text(value: Any) -> tuple[str | None, str | None]:
    """The overrides of a row, JSON text or an object, as canonical JSON -> ``(text, reason)``.

    Fields of the object are sorted and null ones left out; what is inside them keeps its order, which a JSON schema
    gives a meaning.  The text is None where there are none: null, blank text, an object without values.  ``reason``
    says what is wrong (then the text is what was given, as far as it is text), and is None for valid overrides.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None, None
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        return None, f"request is no JSON: {error}"
    return _remembered(text) if len(text) <= _REMEMBERED_CHARACTERS else _checked(text)


def without_nulls(value: Any) -> Any:
    """Plain values without the null fields of all objects in it: in Parquet each struct has every field."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@lru_cache(maxsize=4096)
def _remembered(text: str) -> tuple[str | None, str | None]:
    """Many rows ask for the same."""
    return _checked(text)


def _checked(text: str) -> tuple[str | None, str | None]:
    try:
        given = json.loads(text)
        if not isinstance(given, dict):
            return text, f"request must be a JSON object, got {type(given).__name__}"
        fields = {name: given[name] for name in sorted(given) if given[name] is not None}
        canonical = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        if fields:
            overrides_of(canonical)
    except RecursionError:
        return text, "request is nested too deeply"
    except json.JSONDecodeError as error:
        return text, f"request is no JSON: {error}"
    except (ValueError, TypeError) as error:
        return text, f"request: {error}"
    return canonical if fields else None, None
