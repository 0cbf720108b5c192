"""``python -m benchmarks.label_public``: the demo's two models answer public questions, and are judged by references.

Four tasks of the nine-model set (LLMRouter, MIT), a hundred questions each, chosen by a hash: mathematics in words,
multiple choice, and two kinds of short answers.  The labels are made by ``hybrid-batch label``; nothing of the data
is kept outside ``out/``.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.routing_sets import VARIABLE, folder
from hybrid_batch.demo.models import ensure_all
from hybrid_batch.labelset import LabelSet, read_labels

OUT = Path("out/label-public")
QUESTIONS = "llmrouter/default_query_train.jsonl"
ENDINGS: Mapping[str, str] = {
    "gsm8k": "Think in short steps and end with the number.",
    "commonsense_qa": "Answer with the letter of the right choice.",
    "natural_qa": "Answer in a few words.",
    "trivia_qa": "Answer in a few words.",
}
"""What is asked of a model after the question of each task."""


def questions(root: Path, each: int) -> Iterator[dict[str, Any]]:
    """``each`` questions of every task in :data:`ENDINGS`, those whose text hashes lowest."""
    with (root / QUESTIONS).open(encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["task_name"] in ENDINGS]
    rows = list({row["query"]: row for row in rows}.values())
    rows.sort(key=lambda row: xxhash.xxh3_64_intdigest(row["query"].encode()))
    for task in ENDINGS:
        for row in [row for row in rows if row["task_name"] == task][:each]:
            yield {
                "query_id": f"{task}-{xxhash.xxh3_64_hexdigest(row['query'].encode())}",
                "prompt": f"{row['query']}\n{_choices(row['choices'])}{ENDINGS[task]}",
                "task": task,
                "reference": row["ground_truth"],
                "metric": row["metric"],
            }


def _choices(found: Any) -> str:
    """The choices as lines; the set has them as a Python literal of labels and texts."""
    if found is None:
        return ""
    listed = ast.literal_eval(found) if isinstance(found, str) else found
    return "".join(f"{label}. {text}\n" for label, text in zip(listed["label"], listed["text"], strict=True))


def configuration(answers: int) -> dict[str, Any]:
    """The demo's engines on these questions; each row names how it is judged."""
    return {
        "base": str(Path("conf/demo-label.yaml").resolve()),
        "run": {"name": "label-public", "output": str(OUT)},
        "input": {"path": str(OUT / "questions.jsonl"), "keep": []},
        "sampling": {"max_tokens": 64},
        "labels": {
            "answers": answers,
            "reference": "reference",
            "scorer": {"kind": "by_row", "column": "metric"},
        },
    }


def table(labels: LabelSet) -> Table:
    """One line for each task."""
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("Task")
    for column in ("Queries", "Quality\nsmall", "Quality\nlarge", "Small as good\nin %", "Small better\nin %"):
        shown.add_column(column, justify="right")
    for task in ENDINGS:
        part = labels.take(np.array([name == task for name in labels.tasks]))
        q = part.qualities
        shares = (100 * (q.gap >= 0).mean(), 100 * (q.gap > 0).mean())
        figures = (f"{q.mean_small.mean():.3f}", f"{q.mean_large.mean():.3f}", *(f"{share:.0f}" for share in shares))
        shown.add_row(task, f"{len(part):,}", *figures)
    return shown


def main(arguments: list[str] | None = None) -> int:
    """Make the questions, label them, print what came out; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_public", description=__doc__)
    parser.add_argument("--each", type=int, default=100, help="questions of each task")
    parser.add_argument("--answers", type=int, default=2, help="answers of each model to each question")
    options = parser.parse_args(arguments)
    root, console = folder(), Console(highlight=False)
    if not (root / QUESTIONS).exists():
        console.print(f"{root / QUESTIONS} is not there; {VARIABLE} says where the data lie")
        return 2
    ensure_all()
    OUT.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in questions(root, options.each)]
    (OUT / "questions.jsonl").write_text("".join(rows), encoding="utf-8")
    (OUT / "label.yaml").write_text(yaml.safe_dump(configuration(options.answers)), encoding="utf-8")
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "hybrid_batch", "label", str(OUT / "label.yaml")], check=False)
    if done.returncode:
        return done.returncode
    place = max((OUT / "runs").glob("label-public-*/labels/*.parquet"), key=lambda path: path.stat().st_mtime)
    console.print(table(read_labels(str(place))))
    console.print(
        f"{len(rows):,} questions, {options.answers} answers of each model, {time.monotonic() - began:,.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
