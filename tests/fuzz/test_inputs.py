"""However a query file is damaged, it gives rows or one error that names it.  ``make fuzz`` asks it of many more."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.cases import Case, cases
from tests.fuzz.reading import FAILED
from tests.fuzz.worker import Reader


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases)
def test_a_damaged_file_gives_rows_or_an_error_that_names_it(reader: Reader, case: Case):
    verdict = reader.judge(case)
    assert verdict.verdict != FAILED, f"{verdict.when}: {verdict.what}\n{json.dumps(case)}"


def test_a_process_that_dies_is_a_failure_of_its_case(reader: Reader):
    """No case that is one: the process ends with a traceback, and the next case finds a new one."""
    verdict = reader.judge({})
    assert (verdict.verdict, verdict.what) == (FAILED, "the process died of exit code 1")
