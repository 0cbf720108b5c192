"""A user's Spark code with a router on S3: fetched once to the machine, scored as from a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_batch.core.routing import GRID, to_micros
from hybrid_batch.engines.router import load_router
from hybrid_batch.storage import open_store
from tests.support.tiny_router import make_tiny_router

TEXTS = ["What is the capital of France?", "Why is the sky blue?", "Привет, как дела?"]

PROGRAM = """
import json
import sys
from pathlib import Path

from hybrid_batch.spark import router_score, router_score_arrow
from hybrid_batch.spark.session import spark_session

url, log, texts = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
with spark_session(app_name="test", master="local[2]", conf={}, log_file=log) as spark:
    asked = spark.createDataFrame(list(enumerate(texts)), "id int, prompt string").repartition(2)
    arrow = router_score_arrow(url)
    frames = asked.withColumn("score", router_score(url)("prompt")), asked.mapInArrow(arrow, arrow.schema(asked.schema))
    print(json.dumps([[row.score for row in frame.orderBy("id").collect()] for frame in frames]))
"""


@pytest.mark.s3
@pytest.mark.spark
def test_a_router_on_s3_scores_as_its_folder_does(s3_folder: str, tmp_path: Path):
    folder, url = make_tiny_router(tmp_path / "router"), f"{s3_folder}/router"
    for path in folder.rglob("*"):
        if path.is_file():
            open_store(url).put(f"{url}/{path.relative_to(folder)}", path.read_bytes())
    # A process of its own: workers have the environment that Java was started with.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, str(tmp_path / "spark.log"), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        timeout=300,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = (to_micros(load_router(folder, threads=1).score(TEXTS)) / GRID).tolist()

    assert json.loads(done.stdout) == [expected, expected]
