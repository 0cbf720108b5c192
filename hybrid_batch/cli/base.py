"""What every command shares: the application, its options, its errors told in one sentence."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from hybrid_batch.core.errors import HybridBatchError

if TYPE_CHECKING:
    from rich.console import Console

    from hybrid_batch.config import JobConfig

DEBUG_VARIABLE: Final = "HYBRID_BATCH_DEBUG"
INTERRUPTED: Final = 130
TERMINATED: Final = 143
NOT_PROVED: Final = 5
"""`verify` found something wrong with a run."""

COMMANDS: Final = (
    "run", "check", "status", "verify", "retry", "clean", "label", "labels", "train", "evaluate", "calibrate",
    "transfer-check", "export", "version",
)  # fmt: skip
"""The order in which help lists them: a run's life, then a router's."""


class InOrder(TyperGroup):
    """Commands in the order of :data:`COMMANDS`, whichever module has them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: (*COMMANDS, name).index(name))


app = typer.Typer(
    cls=InOrder,
    help="Batch inference on two language models at the least cost for a promised quality.",
    epilog=f"Set {DEBUG_VARIABLE}=1 to see where an error came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration file (YAML).", show_default=False)]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Folder or s3:// URL of a run; or of an output: then its newest run that is no retry and no labelling.",
        show_default=False,
    ),
]
Newest = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Folder or s3:// URL of a run; or of an output: then its newest run, retry or labelling.",
        show_default=False,
    ),
]
Date = Annotated[
    str | None, typer.Option("--date", metavar="D", help="run.date, as in 2026-11-23.", show_default=False)
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="Only the first N queries.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value, as in sampling.max_tokens=64; repeatable."),
]


def load(config: Path, date: str | None, limit: int | None, overrides: Sequence[str] | None) -> JobConfig:
    from hybrid_batch.config import load_config

    return load_config(config, given(date, limit, overrides))


def given(date: str | None, limit: int | None, overrides: Sequence[str] | None) -> list[str]:
    """All that the command line lays over the file, as ``key=value``."""
    found = list(overrides or ())
    found += [] if date is None else [f"run.date={date}"]
    found += [] if limit is None else [f"input.limit={limit}"]
    return found


def terminal(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


@contextmanager
def errors_told() -> Iterator[None]:
    """Errors of ours become one sentence and their exit code; an interruption says how to go on."""
    interrupted_as = INTERRUPTED

    def terminate(_number: int, frame: FrameType | None) -> None:
        # What is installed for Ctrl-C also ends Spark's jobs; without that, leaving the job would wait for them.
        nonlocal interrupted_as
        interrupted_as = TERMINATED
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (HybridBatchError, KeyboardInterrupt) as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exc(file=sys.stderr)
        if isinstance(error, HybridBatchError):
            _tell(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        _tell("interrupted; run the same command to resume")
        raise typer.Exit(interrupted_as) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(message: str) -> None:
    """The first line in red where that is a terminal; the whole message as it is, never wrapped."""
    first, _, rest = message.partition("\n")
    typer.secho(first, fg=typer.colors.RED, bold=True, err=True)
    if rest:
        typer.echo(rest, err=True)
