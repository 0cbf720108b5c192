"""``python -m hybrid_batch.demo.adopt``: new labels or a new router become those that come with the demo.

::

    hybrid-batch label conf/demo-label.yaml
    python -m hybrid_batch.demo.adopt --labels out/demo-labels/runs/RUN/labels/SCORER.parquet
    make demo                                  # writes the labels of both splits beside the questions
    hybrid-batch train conf/demo-train.yaml
    python -m hybrid_batch.demo.adopt --router out/demo/router
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hybrid_batch.core.errors import HybridBatchError
from hybrid_batch.demo.artefact import COMMITTED, adopt_router
from hybrid_batch.demo.labels import TABLE, adopt_labels


def main(arguments: Sequence[str] | None = None) -> int:
    """Take over what is named; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hybrid_batch.demo.adopt", description=__doc__)
    parser.add_argument("--labels", type=Path, help="labels table of the demo's questions")
    parser.add_argument("--router", type=Path, help="folder of a router trained on the demo's encoder")
    asked = parser.parse_args(arguments)
    try:
        if asked.labels:
            adopt_labels(asked.labels)
            print(TABLE)
        if asked.router:
            adopt_router(asked.router)
            print(COMMITTED)
    except HybridBatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
