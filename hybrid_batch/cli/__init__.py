"""The command line.  Rooms are imported inside the commands, so that help comes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from hybrid_batch.cli import exporting, job, labels, looks, retries, routers, training  # noqa: F401 - importing a module registers its commands
from hybrid_batch.cli.base import INTERRUPTED, NOT_PROVED, TERMINATED, app

__all__ = ["INTERRUPTED", "NOT_PROVED", "TERMINATED", "app", "main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; also the body of the spark-submit job."""
    app(args=None if arguments is None else list(arguments), prog_name="hybrid-batch")
    raise SystemExit(0)
