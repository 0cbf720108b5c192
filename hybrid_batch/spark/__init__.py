"""The boundary to Spark: the session, how input is split, and what one task does.

For Spark code of your own there are :func:`router_score` and :func:`router_score_arrow`, loaded when they are
asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_batch.spark.scoring import router_score, router_score_arrow

__all__ = ["router_score", "router_score_arrow"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hybrid_batch.spark import scoring

    return getattr(scoring, name)
