"""A session whose Java ends: the one that the other tests share must not, so this one has a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, signal, sys
from pathlib import Path

from hybrid_batch.core.errors import SparkError
from hybrid_batch.spark.session import spark_session

try:
    with spark_session(app_name="t", master="local[1]", conf={}, log_file=Path(sys.argv[1])) as spark:
        os.kill(spark.sparkContext._gateway.proc.pid, signal.SIGKILL)
        spark.range(3).count()
except SparkError as error:
    print(error)
"""


def test_the_end_of_sparks_java_is_told_in_one_sentence(tmp_path: Path):
    log = tmp_path / "spark.log"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(log)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Spark's Java process ended: it was killed, or had no memory left (log: {log})\n"
