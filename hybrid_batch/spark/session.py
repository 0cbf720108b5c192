"""A Spark session for one job: quiet on the terminal, everything in a log file, gone when the job ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_batch.core.errors import SparkError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JAVA_HELP = "install one, for example `apt install openjdk-17-jre-headless` or `brew install openjdk@17`"

ALL_CORES = "local[*]"

_LOCAL = re.compile(r"^local(\[(?P<slots>\*|\d+)(,\s*\d+)?\])?$")
_LOG4J = Path(__file__).with_name("log4j2.properties")
_LOOPBACK = "127.0.0.1"
_TASK_FAILURES = 4
_LAST_BREATH_S = 1.0


@contextmanager
def spark_session(
    *, app_name: str, master: str | None, conf: Mapping[str, str], log_file: Path
) -> Iterator[SparkSession]:
    """Open a session and stop it at the end; a session that is active already is used as it is and left open.

    Spark's own output goes to ``log_file``.  Raises ``SparkError`` if Java is missing, if Spark does not start, or if
    its Java ends before the block does.
    """
    from pyspark.sql import SparkSession

    if (active := SparkSession.getActiveSession()) is not None:
        yield active
        return
    if not submitted():
        require_java()
    session = _start(app_name, master, conf, log_file)
    try:
        yield session
    except Exception as error:
        if not _java_ended(session):
            raise
        why = "it was killed, or had no memory left"
        raise SparkError(f"Spark's Java process ended: {why} (log: {log_file})") from error
    finally:
        _stop(session)


def _java_ended(session: SparkSession) -> bool:
    """Whether the Java that we started is gone; it may still be on its way when its connections break."""
    process = getattr(session.sparkContext._gateway, "proc", None)
    if process is None:
        return False
    with suppress(subprocess.TimeoutExpired):
        process.wait(_LAST_BREATH_S)
    return process.poll() is not None


def _stop(session: SparkSession) -> None:
    from py4j.protocol import Py4JError

    try:
        session.stop()
    except (Py4JError, OSError):
        if not _java_ended(session):
            raise


def submitted() -> bool:
    """True if spark-submit started this process: its master and settings win then."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def require_java() -> int:
    """The major version of the Java that Spark will use.  Raises ``SparkError`` if it is absent or older than 17."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if not java or not shutil.which(java):
        raise SparkError(f"Spark needs Java 17 or later and found none: {JAVA_HELP}")
    text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(\d+)', text)
    version = int(match[1]) if match else 0
    if version < 17:
        raise SparkError(f"Spark needs Java 17 or later, {java} is {version or 'of unknown version'}: {JAVA_HELP}")
    return version


def settings(master: str | None, conf: Mapping[str, str], log_file: Path) -> dict[str, str]:
    """Spark settings of a job: what it needs, what is right on one machine, and on top what the user says."""
    own = {
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.showConsoleProgress": "false",
    }
    if _LOCAL.match(master or ""):
        own |= {
            "spark.driver.bindAddress": _LOOPBACK,
            "spark.driver.host": _LOOPBACK,
            "spark.ui.enabled": "false",
            "spark.driver.extraJavaOptions": f'"-Dlog4j2.configurationFile={_LOG4J}" "-Dhybrid.batch.log={log_file}"',
        }
    return own | dict(conf)


def retrying(master: str) -> str:
    """``master``, told to try a task four times as a cluster does: a local one gives up at the first failure."""
    slots = local_slots(master)
    return f"local[{slots},{_TASK_FAILURES}]" if slots and "," not in master else master


def local_slots(master: str | None) -> int | None:
    """Tasks at once under a local master, None on a cluster.  Without a master a job runs on this machine, unless
    spark-submit started it: then the cluster's settings hold."""
    match = _LOCAL.match(master or ("" if submitted() else ALL_CORES))
    if not match:
        return None
    slots = match["slots"] or "1"
    return os.cpu_count() or 1 if slots == "*" else int(slots)


def _start(app_name: str, master: str | None, conf: Mapping[str, str], log_file: Path) -> SparkSession:
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    log_file.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    if not submitted():
        builder = builder.master(retrying(master or ALL_CORES))
        for key, value in settings(master or ALL_CORES, conf, log_file).items():
            builder = builder.config(key, value)
    try:
        with _stderr_to(log_file):
            return builder.getOrCreate()
    except (PySparkException, RuntimeError, OSError) as error:
        raise SparkError(f"Spark did not start: {str(error).splitlines()[0]} (log: {log_file})") from error


@contextmanager
def _stderr_to(log_file: Path) -> Iterator[None]:
    """Let the Java process that starts inside inherit the log file as its stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    with log_file.open("ab") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
