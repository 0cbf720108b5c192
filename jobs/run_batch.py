"""Entry point for spark-submit: configuration in, call, exit code out.

``spark-submit [options] jobs/run_batch.py CONFIG [--date D] [--limit N] [--set key=value ...] [--dry-run]``
"""

import sys

from hybrid_batch.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
