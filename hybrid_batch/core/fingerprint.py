"""A fingerprint of plain values that is the same in every process, on every machine."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

Plain = Any
"""``None``, ``bool``, ``int``, finite ``float``, ``str``, and lists, tuples and string-keyed mappings of these."""


def canonical_json(value: Plain) -> str:
    """``value`` as JSON with sorted keys and no spaces.

    Raises ``TypeError`` for anything whose text could differ between two processes (sets, objects, NaN).
    """
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Plain, *, digest_bytes: int = 16) -> str:
    """Blake2b of :func:`canonical_json`, as ``2 * digest_bytes`` hexadecimal digits."""
    data = canonical_json(value).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=digest_bytes).hexdigest()


def _plain(value: Plain, where: str) -> Plain:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where}: {type(value).__name__} {value!r} has no fingerprint; allowed are plain JSON values")


def _key(key: object, where: str) -> str:
    if isinstance(key, str):
        return key
    raise TypeError(f"{where}: key {key!r} is not a string")
