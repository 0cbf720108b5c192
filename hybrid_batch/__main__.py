"""``python -m hybrid_batch`` is the command ``hybrid-batch``."""

from hybrid_batch.cli import main

main()
