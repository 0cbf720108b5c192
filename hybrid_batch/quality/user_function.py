"""A user's function as a scorer: ``module:function``, called as ``function(answer, case) -> float``."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

from hybrid_batch.core.errors import ConfigError, HybridBatchError
from hybrid_batch.quality.base import Case
from hybrid_batch.quality.per_answer import Judge, Measure

KIND = "module:function"


def user_measure(name: str) -> Measure:
    """The function ``name`` as a measure.

    Raises ``ConfigError`` if it cannot be imported, and, when it judges, if it raises or returns anything but a finite
    number: the message names function, query and what was returned.
    """
    function = import_function(name)

    def measure(case: Case) -> Judge:
        return lambda answer: _call(function, name, answer, case)

    return measure


def import_function(name: str) -> Callable[..., Any]:
    """The function that ``module:function`` names.  Raises ``ConfigError`` if there is none."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"scorer {name!r}: a function is named as module:function, such as my_scorers:score")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"scorer {name!r}: the module {module_name!r} cannot be imported ({type(error).__name__}: {error}); it "
            "must be on the Python path of the driver and of every executor"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        found = "has no" if function is None else "has no function of the name"
        raise ConfigError(f"scorer {name!r}: {module.__file__ or module_name} {found} {function_name!r}")
    found_function: Callable[..., Any] = function
    return found_function


def source_hash(name: str) -> str | None:
    """A hash of the file that holds the function ``name``; None where it has no file.  Raises ``ConfigError``."""
    path = inspect.getsourcefile(inspect.unwrap(import_function(name)))
    return None if path is None else hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()


def _call(function: Callable[..., Any], name: str, answer: str, case: Case) -> float:
    try:
        value = function(answer, case)
    except HybridBatchError:
        raise
    except Exception as error:
        raise ConfigError(
            f"scorer {name!r}: raised {type(error).__name__} for query {case.query_id!r}: {error}"
        ) from error
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigError(
            f"scorer {name!r}: returned {value!r} for query {case.query_id!r}; allowed is a finite number, the higher "
            "the better"
        )
    return float(value)
