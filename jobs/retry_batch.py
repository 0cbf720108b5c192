"""Entry point for spark-submit: failed rows of a finished run, asked again.

``spark-submit [options] jobs/retry_batch.py RUN --errors KIND [--set key=value ...] [--config FILE] [--dry-run]``
"""

import sys

from hybrid_batch.cli import main

if __name__ == "__main__":
    main(["retry", *sys.argv[1:]])
