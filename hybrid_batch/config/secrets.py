"""What must not be written down: values whose name says that they are secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "***"

_SECRET_WORDS: Final = frozenset(
    {"key", "keys", "apikey", "secret", "secrets", "password", "passwd", "token", "credential", "credentials"}
)
_SHOWN: Final = frozenset({"api_key_env", "stop_token_ids"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def is_secret(path: tuple[str, ...]) -> bool:
    """Whether the value at ``path`` is hidden: all environment values, and names that hold a word for a secret.

    ``api_key_env`` holds the name of a variable and ``stop_token_ids`` numbers, so they are shown.
    """
    if "env" in path[:-1]:
        return True
    name = path[-1] if path else ""
    if name in _SHOWN:
        return False
    return any(word.lower() in _SECRET_WORDS for word in _WORD.findall(name))


def redact(value: Any, path: tuple[str, ...] = ()) -> Any:
    """A copy of plain ``value`` with everything secret replaced by :data:`HIDDEN`, and no user in any URL."""
    if isinstance(value, Mapping):
        return {key: redact(item, (*path, str(key))) for key, item in value.items()}
    if value is None:
        return None
    if is_secret(path):
        return HIDDEN
    if isinstance(value, (list, tuple)):
        return [redact(item, path) for item in value]
    return _USER_IN_URL.sub(f"{HIDDEN}@", value) if isinstance(value, str) else value
