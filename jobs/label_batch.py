"""Entry point for spark-submit: labels of a sample of queries.

``spark-submit [options] jobs/label_batch.py CONFIG [--date D] [--limit N] [--set key=value ...] [--dry-run]``
"""

import sys

from hybrid_batch.cli import main

if __name__ == "__main__":
    main(["label", *sys.argv[1:]])
