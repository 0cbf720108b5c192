"""``python -m hybrid_batch.demo.prepare --out DIR``: everything the demo's job needs, made where it is missing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hybrid_batch.core.errors import HybridBatchError
from hybrid_batch.demo.artefact import assemble_router
from hybrid_batch.demo.labels import write_labels_of
from hybrid_batch.demo.models import ensure_all
from hybrid_batch.demo.questions import HELDOUT, TRAIN, write_answers, write_questions


def prepare(out: Path, cache: Path | None = None) -> None:
    """Models and router into the cache, held-out questions, their answers and labels of all into ``out``."""
    for name, folder in ensure_all(cache).items():
        print(f"{name}: {folder}")
    print(f"router: {assemble_router(cache)}")
    rows = write_questions(out / "questions.jsonl", HELDOUT)
    write_questions(out / "all-questions.jsonl", None)
    write_answers(out / "answers.jsonl", HELDOUT)
    print(f"questions: {out / 'questions.jsonl'} ({rows} rows)")
    for split in (TRAIN, HELDOUT):
        write_labels_of(out / f"labels-{split}.parquet", split)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run :func:`prepare` from the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hybrid_batch.demo.prepare", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for questions.jsonl and answers.jsonl")
    try:
        prepare(parser.parse_args(arguments).out)
    except HybridBatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
