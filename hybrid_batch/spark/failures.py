"""Find the error that a task raised in what Spark says of a failed job."""

from __future__ import annotations

import re

from hybrid_batch.core import errors
from hybrid_batch.core.errors import HybridBatchError

# A Python worker's traceback ends with `package.module.Name: message`, and the message may have more lines.
_RAISED = re.compile(
    r"^(?:[\w.]*hybrid_batch\.core\.errors\.)(?P<name>\w+): (?P<message>.*?)(?=^\s*at |^\s*$|^Driver stacktrace|\Z)",
    re.MULTILINE | re.DOTALL,
)


def cause_of(text: str) -> HybridBatchError | None:
    """The last error of ours in Spark's message, as an exception of its own type; None if there is none."""
    found = list(_RAISED.finditer(text))
    if not found:
        return None
    kind = getattr(errors, found[-1]["name"], None)
    if not (isinstance(kind, type) and issubclass(kind, HybridBatchError)):
        return None
    return kind(found[-1]["message"].strip())


def interruption_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The interruption in whose wake ``error`` came; None if nobody interrupted.

    On Ctrl-C pyspark cancels all jobs, and the error of the cancelled job then takes the interruption's place.
    """
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, KeyboardInterrupt):
        behind = behind.__context__
    return behind
