"""Errors of ours inside what Spark says, and interruptions behind what it raises."""

from __future__ import annotations

import pytest

from hybrid_batch.core.errors import EngineStartError, InputError, StorageError
from hybrid_batch.spark.failures import cause_of, interruption_behind

STAGE_FAILURE = """\
Job aborted due to stage failure: Task 3 in stage 1.0 failed 4 times, most recent failure: Lost task 3.3 in stage 1.0 \
(TID 9) (10.0.0.7 executor 2): org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/opt/spark/python/lib/pyspark.zip/pyspark/worker.py", line 1, in main
    process()
  File "/app/hybrid_batch/spark/text_files.py", line 9, in _jsonl_object
    raise InputError(message)
{raised}

\tat org.apache.spark.api.python.BasePythonRunner.handlePythonException(PythonRunner.scala:581)
\tat java.base/java.lang.Thread.run(Thread.java:840)

Driver stacktrace:"""


def spark_says(raised: str) -> str:
    return STAGE_FAILURE.format(raised=raised)


def test_the_task_s_own_error_comes_back_with_type_and_message():
    cause = cause_of(spark_says("hybrid_batch.core.errors.InputError: s3://b/q.jsonl, line 3: not JSON: Extra data"))
    assert type(cause) is InputError
    assert str(cause) == "s3://b/q.jsonl, line 3: not JSON: Extra data"


def test_a_message_of_several_lines_is_kept_whole():
    cause = cause_of(spark_says("hybrid_batch.core.errors.EngineStartError: no GPU\n  last lines of the log:\n  boom"))
    assert type(cause) is EngineStartError
    assert str(cause) == "no GPU\n  last lines of the log:\n  boom"


def test_the_outermost_of_chained_errors_counts():
    chained = """\
hybrid_batch.core.errors.InputError: the inner one

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/x.py", line 1, in y
hybrid_batch.core.errors.StorageError: cannot read s3://b/q"""
    cause = cause_of(spark_says(chained))
    assert type(cause) is StorageError
    assert str(cause) == "cannot read s3://b/q"


@pytest.mark.parametrize(
    "raised",
    [
        "ValueError: 3 answers for 4 rows",
        "other.core.errors.InputError: not ours",
        "hybrid_batch.core.errors.NoSuchError: from another version",
        "hybrid_batch.core.errors.annotations: no error at all",
        "the words hybrid_batch.core.errors.InputError: in the middle of a line",
        "",
    ],
)
def test_what_is_not_ours_stays_sparks(raised):
    assert cause_of(spark_says(raised)) is None


def cancelled() -> None:
    """Raise as pyspark does: the cancelled job's error takes the place of the interruption."""
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("job cancelled")  # noqa: B904
    except RuntimeError:
        raise ValueError("and once more")  # noqa: B904


def test_an_interruption_is_found_behind_the_error_that_took_its_place():
    with pytest.raises(ValueError, match="and once more") as raised:
        cancelled()
    assert isinstance(interruption_behind(raised.value), KeyboardInterrupt)
    assert interruption_behind(ValueError("alone")) is None
