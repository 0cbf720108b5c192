"""What all scenes share: one router, one S3 server, which start when somebody needs them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import uuid
from functools import cached_property
from pathlib import Path
from typing import Self

from hybrid_batch.study.export import export
from tests.s3.ceph_gateway import CephGateway, missing_programs
from tests.support.jobs import Recorder
from tests.support.tiny_router import make_tiny_router

WARM_UP_S = 300.0
ROOT = Path(__file__).parents[2]
OWN = ("AWS_", "HYBRID_BATCH_")
"""Beginnings of the variables that a scene sets by itself, and inherits from nobody."""

SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xlog:disable"
"""Java that lives for half a minute spends much of it on making itself fast."""

_WARM_UP = """
import sys
from pathlib import Path
from hybrid_batch.spark.session import spark_session

with spark_session(app_name="warm-up", master="local[2]", conf={}, log_file=Path(sys.argv[1])) as spark:
    numbers = spark.range(0, 8, 1, 2).mapInArrow(lambda batches: batches, "id long")
    numbers.groupBy("id").count().toArrow()
    gateway = spark.sparkContext._gateway
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()
"""


class Missing(Exception):
    """Something that a fault needs is not on this machine."""


class Stage:
    """The folder of a series of scenes, and what they share."""

    def __init__(self, folder: Path | None = None, gateway: CephGateway | None = None) -> None:
        self._ends = contextlib.ExitStack()
        self.folder = folder or Path(self._ends.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        self._given = gateway

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @cached_property
    def router(self) -> Path:
        """A router of random weights, exported so that it loads in an instant."""
        folder = make_tiny_router(self.folder / "router")
        export(str(folder), "fp32", Recorder())
        return folder

    @cached_property
    def gateway(self) -> CephGateway:
        """A real S3 server.  Raises ``Missing`` where Ceph is not installed."""
        if self._given is not None:
            return self._given
        if missing := missing_programs():
            raise Missing(f"Ceph: {', '.join(missing)}")
        return self._ends.enter_context(CephGateway())

    def new_folder(self, name: str) -> Path:
        """An empty folder for one scene."""
        folder = self.folder / f"{name}-{uuid.uuid4().hex[:6]}"
        folder.mkdir()
        return folder

    @cached_property
    def _java_options(self) -> str:
        """Spark's classes as one Java left them: the others need not read and check them again."""
        archive = self.folder / "classes.jsa"
        environment = _own() | {"JAVA_TOOL_OPTIONS": f"{SHORT_LIVED} -XX:ArchiveClassesAtExit={archive}"}
        command = [sys.executable, "-c", _WARM_UP, str(self.folder / "warm-up.log")]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=WARM_UP_S)
        return f"{SHORT_LIVED} -XX:SharedArchiveFile={archive} -Xshare:auto"

    def environment(self) -> dict[str, str]:
        """That of a driver: our own without what would lead it to another store, and the code of this tree."""
        return _own() | {"JAVA_TOOL_OPTIONS": self._java_options}


def _own() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return kept
